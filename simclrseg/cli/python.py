"""The commands from Python: what ``import simclrseg`` offers.

The flags are keywords, the results objects, and what the command line says in one line is a ``SimclrsegError``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simclrseg.cli.console import session
from simclrseg.cli.progress import TrainingProgress
from simclrseg.errors import UsageError, suggestion

if TYPE_CHECKING:
    from torch import nn

    from simclrseg.evaluation.label_next import LabelNext
    from simclrseg.evaluation.probed import Probed, ProbedSeveral
    from simclrseg.evaluation.results import Report
    from simclrseg.inference.model import LoadedModel


_PLAIN = (str, Real, os.PathLike, type(None))
_TEXTS = ("config", "resume", "runs")
"""Keywords that are looked at before all are checked."""


@dataclass(frozen=True)
class TrainedRun:
    """A finished run. It stands for its folder wherever a path or a name of a run can be given.

    Attributes:
        folder: of its files.
        metrics: of a pretraining its last epoch's, of a fine-tuning those on the test images.
    """

    folder: Path
    metrics: Mapping[str, Any]

    def __fspath__(self) -> str:
        return str(self.folder)

    def _repr_html_(self) -> str:
        """How a notebook shows it: where it lies, and its numbers."""
        from simclrseg.evaluation.page import table
        from simclrseg.scores.wording import words, written

        scored = self.metrics.get("original", self.metrics)  # of masks, at their own resolution
        free = scored.get("without_learning", {})
        rows = [
            {"metric": words(name), "value": written(value)}
            | ({"without learning": written(free.get(name))} if free else {})
            for name, value in scored.get("metrics", scored).items()
        ]
        return table(rows, caption=str(self.folder))

    @property
    def model(self) -> LoadedModel:
        """The fine-tuned model."""
        return load_model(self)

    @property
    def backbone(self) -> nn.Module:
        """The encoder that was pretrained."""
        return load_backbone(self)


def pretrain(**knobs: Any) -> TrainedRun:
    """Train a backbone on images without labels.

    Args:
        knobs: the options of ``simclrseg pretrain``, as ``dataset="photos/", backbone="resnet18", epochs=50``.

    Raises:
        SimclrsegError: as the command does.
    """
    from simclrseg.commands.pretrain import pretrain as run

    return _trained("pretrain", knobs, run, "metrics")


def finetune(**knobs: Any) -> TrainedRun:
    """Train a segmentation or classification model on labelled images.

    Args:
        knobs: the options of ``simclrseg finetune``, as ``dataset="labelled/", pretrained=run, data_ratio=0.5``.

    Raises:
        SimclrsegError: as the command does.
    """
    from simclrseg.commands.finetune import finetune as run

    return _trained("finetune", knobs, run, "test")


def _trained(command: str, knobs: Mapping[str, Any], run: Callable[..., Any], scores: str) -> TrainedRun:
    config = _config(command, knobs)
    with session(quiet=config.console.quiet), TrainingProgress() as progress:
        result = run(config, observers=[progress])
    return TrainedRun(result.run, getattr(result, scores))


def evaluate(*models: str | os.PathLike[str], **knobs: Any) -> Report | Probed | ProbedSeveral | LabelNext:
    """Score models on labelled images, or choose images to label.

    ``facts()`` of the result is what ``simclrseg evaluate --json`` prints, and ``missed`` names the bounds of ``min``
    that are not met, which raise nothing here.

    Args:
        models: runs, backbones or exported files; the newest fine-tuned run by default.
        knobs: the options of the command.

    Raises:
        SimclrsegError: as the command does for everything else.
    """
    from simclrseg.commands.evaluate import evaluate as run

    config = _config("evaluate", {"models": list(models), **knobs})
    with session(quiet=config.console.quiet):
        return run(config)


def load_model(
    model: str | os.PathLike[str] | None = None, *, device: str = "auto", runs: str | os.PathLike[str] = "runs"
) -> LoadedModel:
    """Open a fine-tuned model for prediction; torch is not imported.

    Args:
        model: a run by name or folder, an ONNX file, or ``pets-small``, which comes with the tool; by default the
            newest finished run, or where there are no runs yet ``pets-small``.
        device: ``auto``, ``cpu`` or ``cuda``.
        runs: folder of all runs.

    Raises:
        SimclrsegError: if there is no such model, it cannot be read, or the device is not there.
    """
    from simclrseg.commands.model import find_model
    from simclrseg.inference.model import LoadedModel
    from simclrseg.inference.session import open_model

    return LoadedModel(open_model(find_model(Path(runs), None if model is None else os.fspath(model)), device))


def load_backbone(
    pretrained: str | os.PathLike[str], *, runs: str | os.PathLike[str] = "runs", encoder: str | None = None
) -> nn.Module:
    """An encoder with its weights, in evaluation mode.

    Args:
        pretrained: what ``--pretrained`` takes: a name, a run, ``hf:owner/repo`` or a file.
        runs: folder of all runs.
        encoder: which one, where the weights do not say or a published name has several; by default resnet50, or the
            name's usual one.

    Returns:
        (N, bands, H, W) -> feature maps, the last of which are pooled; ``mean`` and ``std`` of each band, for pixels in
        [0, 1], are attributes.

    Raises:
        SimclrsegError: if it cannot be found or read, or is another encoder.
    """
    from simclrseg.config.pretrain import command_that_makes
    from simclrseg.metadata import IMAGENET_MEAN, IMAGENET_STD
    from simclrseg.models.backbones import build_backbone
    from simclrseg.models.weights import load_backbone as load
    from simclrseg.weights.find import encoder_of, find_pretrained

    found = find_pretrained(os.fspath(pretrained), root=Path(runs), encoder=encoder, make=command_that_makes)
    if found.file is None:
        raise UsageError(
            f"{found.label} names no weights", "name a run, a published backbone or a file", option="pretrained"
        )
    metadata = found.metadata
    if metadata is not None:
        encoder_of(found, encoder, named="encoder=NAME", option="pretrained", key="encoder")
    backbone = build_backbone(
        metadata.encoder if metadata else encoder or "resnet50",
        in_channels=metadata.in_channels if metadata else 3,
        stem=metadata.stem if metadata else "imagenet",
    )
    load(backbone, found.file)
    mean, std = (metadata.mean, metadata.std) if metadata else (IMAGENET_MEAN, IMAGENET_STD)
    vars(backbone).update(mean=mean, std=std)
    return backbone.eval()


def _config(command: str, keywords: Mapping[str, Any]) -> Any:
    """The config of a command from keywords, as the command line makes it from words."""
    from simclrseg.cli.words import config_from
    from simclrseg.config import CONFIGS
    from simclrseg.knobs.knob import knobs_of

    model = CONFIGS[command]
    knobs = {name: knob for knob in knobs_of(model) for name in (knob.flag.lstrip("-").replace("-", "_"), knob.name)}
    words: dict[str, Any] = {"config_file": None}
    for name, value in keywords.items():
        if name != "config" and name not in knobs:
            raise UsageError(
                f"{command} has no option {name!r}", suggestion(name, [*knobs, "config"]), option=name, value=value
            )
        several = isinstance(value, list | tuple)
        strangers = [item for item in (value if several else [value]) if not isinstance(item, _PLAIN)]
        if strangers or (name in _TEXTS and not isinstance(value, str | os.PathLike | None)):
            kind = type([*strangers, value][0]).__name__
            remedy = "pass text or a path" if name in _TEXTS else "pass text, a number, a path, or a list of these"
            raise UsageError(f"{command}: {name} is of type {kind}", remedy, option=name)
        value = [_plain(item) for item in value] if several else _plain(value)
        if name == "config":
            words["config_file"] = value
            continue
        if name == "dry_run" and value:
            raise UsageError(
                "a dry run leaves no run to return", f"type `simclrseg {command} --dry-run`", option="dry_run"
            )
        many = knobs[name].values.many and not several
        words[knobs[name].name] = [value] if many and value is not None else value
    return config_from(model, words)


def _plain(value: Any) -> Any:
    """A path as text, and a number of NumPy as one of Python."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Real) and not isinstance(value, int | float):
        return int(value) if isinstance(value, Integral) else float(value)
    return value
