"""The model card: README.md of a run, and of what is uploaded."""

from __future__ import annotations

import re
from collections.abc import Mapping

from simclrseg.errors import some
from simclrseg.metadata import ModelMetadata
from simclrseg.models.backbones import OURS, is_vit, timm_name
from simclrseg.text import in_markdown

CARD = "README.md"
PIPELINES = {
    "segmentation": "image-segmentation",
    "classification": "image-classification",
    "backbone": "image-feature-extraction",
}
"""The Hub's names for the tasks of the metadata."""
_ELSEWHERE = re.compile(r"resnet\d+|resnext50_32x4d|resnext101_32x8d")  # that torchvision and timm have too


def card_text(
    title: str,
    file: str,
    metadata: ModelMetadata,
    *,
    use: str,
    method: str | None = None,
    images: str | None = None,
    rows: Mapping[str, object] | None = None,
    scored: str | None = None,
    recipe: str | None = None,
    licence: str | None = None,
) -> str:
    """A page of Markdown, with the header that the Hub reads.

    Args:
        file: name of the weights beside it.
        use: Markdown of the first thing to do with them.
        method: how texts call the method of pretraining; by default its word.
        images: how many were trained on, and of what; by default the dataset.
        rows: more to say of the training.
        scored: what the scores are over, as a sentence.
        recipe: ``config.yaml``, where it does not lie beside.
    """
    how = method or metadata.method
    unlabelled = [str(name) for name in metadata.data.get("unlabelled", ())]
    facts = {
        "encoder": metadata.encoder,
        "decoder": metadata.decoder,
        "pretraining": how,
        "started from": metadata.pretrained,
        "distilled from": metadata.teacher,
        "photos": images or metadata.dataset,
        "photos without masks": ", ".join(unlabelled),
        "bands": metadata.in_channels,
        "image size": f"{metadata.image_size} px" + ("" if metadata.resize == "squash" else f", {metadata.resize}"),
        "stem": metadata.stem if metadata.stem != "imagenet" else None,
        "mean, std": f"{_numbers(metadata.mean)}; {_numbers(metadata.std)}",
        "classes": ", ".join(metadata.classes),
        "border pixels": metadata.border,
        "threshold": metadata.threshold,
        "epochs": metadata.epochs,
        **(rows or {}),
        "simclrseg": metadata.version + (f" at {metadata.commit[:10]}" if metadata.commit else ""),
    }
    some_sets = in_markdown(" and ".join(filter(None, [metadata.dataset, *unlabelled])))
    test = " Photos of a published test list are among them." if metadata.include_test else ""
    terms = f"The weights are under {licence}." if licence else "No licence was chosen for the weights."
    lines = [
        "---",
        "library_name: simclrseg",
        f"license: {licence or 'other'}",
        f"pipeline_tag: {PIPELINES[metadata.task]}",
        f"tags: [{', '.join(filter(None, ['simclrseg', metadata.method, metadata.encoder, metadata.task]))}]",
        "---",
        "",
        f"# {title}",
        "",
        _what(metadata, how),
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {in_markdown(str(value))} |" for name, value in facts.items() if value not in {None, ""}),
        "",
        "## Scores",
        "",
        *([scored, ""] if scored else []),
        *(f"- {name}: {value:.4g}{_beside(name, metadata)}" for name, value in metadata.metrics.items()),
        *([] if metadata.metrics else ["None were recorded."]),
        *(f"\n**Doubt:** {doubt}" for doubt in metadata.doubts),
        "",
        "## Use",
        "",
        use,
        "",
        *usage(file, metadata),
        "## Data and licence",
        "",
        f"Trained on photos of {some_sets or 'a folder'}.{test} {terms} "
        "The licence of the photos applies to what was learned from them."
        + (f" So do those of the weights that it was made of: {', '.join(metadata.terms)}." if metadata.terms else ""),
        "",
        *(["## Recipe", "", "```yaml", recipe.strip(), "```", ""] if recipe else []),
    ]
    return "\n".join(lines)


def _beside(name: str, metadata: ModelMetadata) -> str:
    """What a metric is for free, in parentheses."""
    how = "before pretraining" if metadata.task == "backbone" else "with the same class everywhere"
    free = metadata.without_learning
    return f" ({free[name]:.4g} {how})" if name in free else ""


def _what(metadata: ModelMetadata, method: str | None) -> str:
    """The model in a sentence."""
    pretrained = f", pretrained with {method}" if method else ""
    if metadata.task == "segmentation":
        classes = in_markdown(some(metadata.classes))
        return (
            f"A {metadata.decoder} on a {metadata.encoder} encoder{pretrained}, which segments photos into {classes}."
        )
    if metadata.task == "classification":
        return f"A {metadata.encoder}{pretrained}, which tells photos of {in_markdown(some(metadata.classes))} apart."
    return f"A {metadata.encoder} encoder{pretrained}."


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
