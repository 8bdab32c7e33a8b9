"""Which backbones are probed: pretraining runs, and files of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from simclrseg.config.pretrain import PretrainConfig, PretrainData
from simclrseg.errors import RunError, UsageError, WeightsError
from simclrseg.knobs.parsing import config_of_run
from simclrseg.metadata import ModelMetadata
from simclrseg.models.weights import read_metadata
from simclrseg.runs.names import BACKBONE_FILE, ENVIRONMENT
from simclrseg.runs.run import Run


@dataclass(frozen=True)
class Backbone:
    """A pretrained encoder in a file.

    Attributes:
        name: what tables call it; no two of a report are the same.
        path: what was named, a run's folder or a file.
        config: of the run; None for a file alone.
    """

    name: str
    path: Path
    file: Path
    metadata: ModelMetadata
    config: PretrainConfig | None

    @property
    def data(self) -> PretrainData | None:
        return self.config.data if self.config else None


def find_backbones(names: Sequence[str], root: Path) -> list[Backbone]:
    """The pretraining runs of these names or folders, or the backbones in these files; none where all are others.

    A name that a fine-tuned run bears too is that run's.

    Raises:
        RunError: if a run has no backbone yet.
        UsageError: if some of several models are backbones and others are not, or one is named twice.
        WeightsError: if a file cannot be read, or does not say what it holds.
    """
    asked = {name: _find(name, root) for name in names}
    found = [backbone for backbone in asked.values() if backbone is not None]
    for name, backbone in asked.items():
        if found and backbone is None:
            raise UsageError(
                f"{found[0].path} is a backbone and {name} is none: evaluate each kind alone",
                option="models",
                path=found[0].path,
            )
    files = [backbone.file.resolve() for backbone in found]
    for backbone in found:
        if files.count(backbone.file.resolve()) > 1 or len(asked) < len(names):
            raise UsageError(
                f"{backbone.path} is named twice", "name each backbone once", option="models", path=backbone.path
            )
    labels = [backbone.name for backbone in found]
    return [one if labels.count(one.name) == 1 else replace(one, name=str(one.path)) for one in found]


def _find(name: str, root: Path) -> Backbone | None:
    path = Path(name)
    if path.suffix == ".safetensors" and not path.is_dir():
        if path.name == BACKBONE_FILE and (path.parent / ENVIRONMENT).is_file():
            return _of_run(Run(path.parent))
        metadata = read_metadata(path)
        if metadata is None:
            raise WeightsError(
                f"{path} does not say which encoder it holds: only backbones of `pretrain` are scored", path=path
            )
        return Backbone(path.stem, path, path, metadata, None) if metadata.task == "backbone" else None
    for folder in (path, root / "pretrain" / name):
        run = Run(folder)
        if run.holds(ENVIRONMENT) and run.kind == "pretrain":
            taken = folder != path and (root / "finetune" / name / ENVIRONMENT).is_file()
            return None if taken else _of_run(run)
    return None


def _of_run(run: Run) -> Backbone:
    file = run.folder / BACKBONE_FILE
    if not file.is_file():
        raise RunError(
            f"run {run.name!r} holds no {BACKBONE_FILE} yet",
            f"finish it with `{run.command('pretrain --resume')}`",
        )
    metadata = read_metadata(file)
    if metadata is None:
        raise WeightsError(f"{file} does not say which encoder it holds", "pretrain again", path=file)
    return Backbone(run.name, run.folder, file, metadata, config_of_run(PretrainConfig, run.folder))
