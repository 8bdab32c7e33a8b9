"""A run's weights for others: a model card beside them, and both on the Hub in one commit."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from simclrseg import runs
from simclrseg.config.export import ExportConfig
from simclrseg.config.finetune import FinetuneConfig
from simclrseg.config.pretrain import PretrainConfig
from simclrseg.data.datasets import DATASETS, HUB
from simclrseg.errors import UsageError
from simclrseg.hub.push import check_access, push
from simclrseg.hub.table import is_repository
from simclrseg.knobs.files import config_of_run, dump_config, parse_config, stored_values
from simclrseg.knobs.knob import knobs_of, look_up, put
from simclrseg.knobs.values import Completes
from simclrseg.metadata import BACKBONE_FILE, MODEL_FILE, ModelMetadata
from simclrseg.models.backbones import OURS, is_vit, timm_name
from simclrseg.system.files import write_text
from simclrseg.weights.companion import following
from simclrseg.weights.find import is_path

PUBLISHED = "safetensors"
"""The export format that is published."""
FOLDER = "hub"
CARD = "README.md"
_ELSEWHERE = re.compile(r"resnet\d+|resnext50_32x4d|resnext101_32x8d")  # that torchvision and timm have too


def check_push(config: ExportConfig) -> str | None:
    """The token that will upload, if anything is to be uploaded; checked before anything is written.

    Raises:
        UsageError: if ``--push`` is no repository, or goes with another format.
        HubError: if there is no token, or the Hub does not know it.
    """
    if config.hub.push is None:
        return None
    if config.model.format != PUBLISHED:
        raise UsageError(
            f"--push uploads weights, not {config.model.format}", f"pass --format {PUBLISHED}", option="push"
        )
    if not is_repository(config.hub.push):
        raise UsageError(
            f"--push {config.hub.push!r} cannot be a repository's name",
            "write owner/name",
            option="push",
            value=config.hub.push,
        )
    return check_access(config.hub.push, config.hub.token)


def file_to_publish(run: runs.Run) -> Path:
    """The file that ``export`` writes where none is named: in a folder of its own, with the card."""
    return run.folder / FOLDER / _name(run)


def for_others(run: runs.Run, metadata: ModelMetadata) -> tuple[str, ModelMetadata]:
    """A run's ``config.yaml`` and its weights' metadata, which name no path of this machine.

    Of a folder of images its name is left, with a slash, so that nobody takes it for a named set; of other folders and
    files, the name.

    Raises:
        RunError, UsageError: if the run's configuration cannot be read.
    """
    config = config_of_run(PretrainConfig if run.kind == "pretrain" else FinetuneConfig, run.folder)
    tree = stored_values(config)
    for knob in knobs_of(type(config)):
        if (completes := knob.marker(Completes)) and completes.what in _PATHS and (value := look_up(tree, knob.path)):
            name = _PATHS[completes.what]
            put(tree, knob.path, [name(one) for one in value] if isinstance(value, list) else name(value))
    text = dump_config(parse_config(type(config), tree, source=str(run.folder), of_a_run=True))
    dataset = "+".join(_dataset(name) for name in metadata.dataset.split("+"))
    data = tree["data"] if metadata.data else {}
    return text, metadata.model_copy(update={"dataset": dataset, "data": data})


def _dataset(name: str) -> str:
    return name if not name or name in DATASETS or name.startswith(HUB) else _base(name) + "/"


def _weights(name: str) -> str:
    return _base(name) if is_path(name) else name


def _file(text: str) -> str:
    return text if text.startswith("{") else _base(text)  # else it is what the file held


def _base(path: str) -> str:
    return os.path.basename(os.path.abspath(path))


_PATHS = {"datasets": _dataset, "pretrained": _weights, "files": _file, "folders": _base}
"""What is left of a value, by how it is completed."""


def publish(
    run: runs.Run, file: Path, metadata: ModelMetadata, recipe: str, config: ExportConfig, token: str | None
) -> dict[str, Any]:
    """Write the card of exported weights and upload both, if that was asked.

    Args:
        metadata, recipe: of ``for_others``.
        token: of ``check_push``.

    Returns:
        What the command prints: the card, the commit and the next command.

    Raises:
        HubError: if the upload fails; the files stay.
    """
    name = _name(run)
    card = file.with_name(CARD) if file.parent == run.folder / FOLDER else file.with_suffix(".md")
    write_text(card, card_of(run, name, metadata, recipe, licence=config.hub.licence, repo_id=config.hub.push))
    if config.hub.push is None or token is None:
        return {"card": str(card)}
    commit = push(
        {name: file, CARD: card, "config.yaml": recipe.encode()},
        config.hub.push,
        token=token,
        private=config.hub.private,
        message=f"Upload {metadata.encoder} of simclrseg {metadata.version}",
    )
    return {"card": str(card), "commit": commit, "next": f"simclrseg pull hf:{config.hub.push}"}


def _name(run: runs.Run) -> str:
    return BACKBONE_FILE if run.kind == "pretrain" else MODEL_FILE


def card_of(
    run: runs.Run,
    file: str,
    metadata: ModelMetadata,
    recipe: str,
    *,
    licence: str | None = None,
    repo_id: str | None = None,
) -> str:
    """The model card, with the header that the Hub reads.

    Args:
        metadata, recipe: of ``for_others``.
    """
    what = "encoder" if metadata.task == "backbone" else f"model for {metadata.task}"
    how = {"simclr": "SimCLR", None: "no"}.get(metadata.method, metadata.method)
    test = " Photos of a published test list are among them." if metadata.include_test else ""
    facts = {
        "encoder": metadata.encoder,
        "decoder": metadata.decoder,
        "pretraining": how,
        "started from": metadata.pretrained,
        "photos": metadata.dataset,
        "bands": metadata.in_channels,
        "image size": f"{metadata.image_size} px",
        "stem": metadata.stem,
        "mean, std": f"{_numbers(metadata.mean)}; {_numbers(metadata.std)}",
        "classes": ", ".join(metadata.classes),
        "border pixels": metadata.border,
        "epochs": metadata.epochs,
        "simclrseg": metadata.version + (f" at {metadata.commit[:10]}" if metadata.commit else ""),
    }
    lines = [
        "---",
        "library_name: simclrseg",
        f"license: {licence or 'other'}",
        *(["pipeline_tag: image-segmentation"] if metadata.task == "segmentation" else []),
        f"tags: [{', '.join(filter(None, ['simclrseg', metadata.method, metadata.encoder, metadata.task]))}]",
        "---",
        "",
        f"# {repo_id.split('/')[1] if repo_id else run.name}",
        "",
        f"A {metadata.encoder} {what}.",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in facts.items() if value not in {None, ""}),
        "",
        "## Metrics",
        "",
        *(f"- {name}: {value:.4g}" for name, value in metadata.metrics.items()),
        *([] if metadata.metrics else ["None were recorded."]),
        "",
        "## Use",
        "",
        following(f"hf:{repo_id or 'OWNER/NAME'}", metadata.dataset).markdown(),
        "",
        *usage(file, metadata),
        "## Data and licence",
        "",
        f"Trained on photos of {metadata.dataset or 'a folder'}.{test} "
        + (
            f"The weights are under {licence}. "
            if licence
            else "No licence was chosen for the weights: ask who made them. "
        )
        + "That of the photos applies to what was learned from them.",
        "",
        "## Recipe",
        "",
        "```yaml",
        recipe.strip(),
        "```",
        "",
    ]
    return "\n".join(lines)


def usage(file: str, metadata: ModelMetadata) -> list[str]:
    """Lines of Markdown that load the weights in the libraries that can take them."""
    bands = "" if metadata.in_channels == 3 else f", in_channels={metadata.in_channels}"
    chans = bands.replace("in_channels", "in_chans")
    timms = timm_name(metadata.encoder)  # of timm's models the keys are timm's, of all others smp's
    smps = metadata.encoder not in OURS and not is_vit(metadata.encoder)
    load = f'load_state_dict(load_file("{file}"))'
    ways: dict[str, list[str]] = {}
    if metadata.task == "segmentation" and metadata.decoder and smps:
        classes = 1 if metadata.threshold is not None else len(metadata.classes)
        ways["segmentation-models-pytorch"] = [
            "import segmentation_models_pytorch as smp",
            f'model = smp.create_model("{metadata.decoder}", "{metadata.encoder}", encoder_weights=None, '
            f"classes={classes}{bands})",
            f"model.{load}",
        ]
    elif metadata.task == "backbone":
        if _ELSEWHERE.fullmatch(metadata.encoder) and metadata.in_channels == 3:
            ways["torchvision"] = [
                "import torch, torchvision",
                f"model = torchvision.models.{metadata.encoder}()",
                "model.fc = torch.nn.Identity()",
                f"model.{load}",
            ]
        if _ELSEWHERE.fullmatch(metadata.encoder) or timms:
            form = "features_only=True" if timms and smps else "num_classes=0"
            ways["timm"] = [
                "import timm",
                f'model = timm.create_model("{timms or metadata.encoder}", {form}{chans})',
                f"model.{load}",
            ]
        if smps:
            ways["segmentation-models-pytorch"] = [
                "import segmentation_models_pytorch as smp",
                f'model = smp.Unet("{metadata.encoder}", encoder_weights=None{bands})',
                f"model.encoder.{'model.' if timms else ''}{load}",
            ]
    lines = []
    for library, code in ways.items():
        lines += [f"With {library}:", "", "```python", "from safetensors.torch import load_file", *code, "```", ""]
    if metadata.stem == "cifar":
        lines += ["The first convolution was 3x3 with stride 1, without max-pool; it is stored centred in 7x7.", ""]
    return [
        *lines,
        f"Pixels in [0, 1] are normalised with mean {_numbers(metadata.mean)} and std {_numbers(metadata.std)}.",
        "",
    ]


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)
