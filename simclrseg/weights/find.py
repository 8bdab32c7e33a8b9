"""Resolve ``--pretrained`` and ``--init``: NAME, file or folder -> a local weights file."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from simclrseg.errors import HubError, RunError, UsageError, suggestion
from simclrseg.hub.fetch import fetch
from simclrseg.hub.table import FOUNDATIONS, HF, PUBLISHED, find, parse_address, same_encoder
from simclrseg.metadata import ModelMetadata
from simclrseg.models.weights import LoadReport, read_metadata
from simclrseg.registry import canonical
from simclrseg.runs.lookup import find_pretraining, list_runs
from simclrseg.runs.names import BACKBONE_FILE, ENVIRONMENT, MODEL_FILE, RESERVED, WEIGHTS
from simclrseg.runs.run import Run, runs_option
from simclrseg.system.content import read_json
from simclrseg.system.identify import why_not_a_file
from simclrseg.weights.backbone import save_unfinished
from simclrseg.weights.published import backbone_file

log = logging.getLogger(__name__)

IMAGENET = "imagenet"
PRETRAINED_FILE = "pretrained_file"
"""Key of ``environment.json`` for the file of weights that a fine-tuned run began with: a name may mean another now."""
LOAD_REPORT = "load_report.json"
"""File in a fine-tuned run: what was loaded of its start weights, their name, and their metadata."""


@dataclass(frozen=True)
class Pretrained:
    """Where the encoder's weights come from.

    Attributes:
        label: a short name, for run names and metadata.
        file: the weights; None to start from scratch, or from the state of a run to go on with.
        recorded: what that run noted of the file that it began with.
        resumed: whether the state of such a run holds the weights.
    """

    label: str
    file: Path | None
    recorded: ModelMetadata | None = None
    resumed: bool = False

    @property
    def from_scratch(self) -> bool:
        """Whether the encoder begins with random weights, or did so in a run to go on with."""
        return self.label == "none" and self.file is None

    @cached_property
    def metadata(self) -> ModelMetadata | None:
        """Metadata of the file, which may be gone; None where it is not ours, or there is none."""
        return self.recorded if self.file is None else read_metadata(self.file)


def find_pretrained(
    name: str,
    *,
    root: Path,
    encoder: str | None = None,
    allow_unfinished: bool = False,
    option: str = "--pretrained",
    make: Callable[[str], str | None] = lambda name: None,
) -> Pretrained:
    """Resolve a reserved name, an address of the Hub, a path, a run's or a published name, a folder, in this order.

    Args:
        root: the folder of all runs.
        encoder: which is meant where a name has weights of several, as ``imagenet`` has; by default its usual one.
        option: how messages call it.
        make: a name -> the command that makes a run of it, where there is one.
    """
    if name == "none":
        return Pretrained("none", None)
    if name in RESERVED:
        entry = find(name, encoder=encoder)
        if name in FOUNDATIONS:
            log.info(
                f"{name}: {entry.encoder}, {entry.how} on {entry.dataset}; its licence, {entry.licence}, goes on with "
                "what is made of it"
            )
        return Pretrained(name, backbone_file(entry))
    if name.startswith(HF):
        source = parse_address(name)
        return Pretrained(source.repo_id.split("/")[1], fetch(source))
    if is_path(name):
        return _from_path(Path(name), option)
    run = find_pretraining(root, name, allow_unfinished=allow_unfinished)
    if run is not None:
        file = run.folder / BACKBONE_FILE if run.finished else save_unfinished(run)
        return _announced(Pretrained(name, file), run)
    if (name := canonical(name, PUBLISHED)) in PUBLISHED:
        entry = find(name)
        try:
            return Pretrained(name, backbone_file(replace(entry, make=entry.make + runs_option(root))))
        except HubError as error:
            raise HubError(
                f"{option} {name}: no such run in {root / 'pretrain'}, and {error}",
                option=option.strip("-"),
                value=name,
            ) from error
    if any(file.is_file() for file in _weights_in(Path(name))):  # of a folder without a stroke, such as the current one
        return _from_path(Path(name), option)
    if (tuned := Run(root / "finetune" / name)).holds(MODEL_FILE):
        remedy = f"name the folder of the fine-tuned run that is called so, {tuned.folder}"
    elif command := make(name):
        remedy = f"make it with `{command}{runs_option(root)}`"
    else:
        remedy = suggestion(name, ["none", *(run.name for run in list_runs(root, "pretrain")), *PUBLISHED])
    raise RunError(
        f"{option} {name}: no such run in {root / 'pretrain'}, and nothing is published as {name!r}",
        remedy,
        option=option.strip("-"),
        value=name,
    )


def encoder_of(
    pretrained: Pretrained,
    asked: str | None,
    *,
    named: str = "--backbone",
    option: str = "--pretrained",
    key: str = "backbone",
) -> str | None:
    """The encoder that weights are of: the file's where it says one, else the one that is asked for.

    Args:
        named, option, key: how messages call what asks for it and the weights, and the option that they are about.
    """
    source = pretrained.metadata
    if source is None:
        if pretrained.file is not None and asked is None:
            raise UsageError(
                f"{pretrained.file} does not say which encoder it holds",
                f"name it with {named}",
                option=key,
                path=pretrained.file,
            )
        return asked
    if asked is not None and not same_encoder(asked, source.encoder):
        theirs, its = (
            named.replace("NAME", encoder) if "NAME" in named else f"{named} {encoder}"
            for encoder in (asked, source.encoder)
        )
        raise UsageError(
            f"{theirs} contradicts {option} {pretrained.label}, which is a {source.encoder}",
            f"take {its}, or other weights with {option}",
            option=key,
            value=asked,
        )
    return source.encoder


def begun_with(run: Run | None) -> Pretrained | None:
    """The start of a run to resume, by its ``LOAD_REPORT``: its state holds the weights, whose file may be gone.

    Returns:
        The weights without their file; None where there is no such run, or no such report.
    """
    try:
        report = read_json(run.folder / LOAD_REPORT) if run is not None else {}
        said, label = report["metadata"], report["weights"]
        if not isinstance(label, str):
            raise TypeError
        return Pretrained(label, None, said and ModelMetadata.model_validate(said), resumed=True)
    except (OSError, ValueError, KeyError, TypeError):  # none was written by an older version, or it is garbled
        return None


def recorded_file(pretrained: Pretrained, resumed: Run | None) -> str | None:
    """The value of ``PRETRAINED_FILE``; a resumed run keeps the one that it began with."""
    if resumed is not None:
        return resumed.environment.get(PRETRAINED_FILE)
    return os.path.abspath(pretrained.file) if pretrained.file is not None else None


def began_with(run: Run, name: str, *, root: Path) -> Path | None:
    """The weights that a fine-tuned run began with; None where they are not at hand, for nothing is fetched.

    Of a run of an older version, which did not record them, it is what the name stood for when the run started.

    Args:
        name: the run's ``--pretrained``.
        root: the folder of all runs.
    """
    started = run.environment.get("started")
    if recorded := run.environment.get(PRETRAINED_FILE):
        file = Path(recorded)
        files = [file, root / "pretrain" / file.parent.name / file.name]  # all runs may have moved together
    elif is_path(name):
        files = [Path(name), *_weights_in(Path(name))]
    else:
        numbered = re.compile(re.escape(name) + r"(-\d+)?")
        candidates = [other for other in list_runs(root, "pretrain") if numbered.fullmatch(other.name)]
        files = [other.folder / BACKBONE_FILE for other in candidates if other.finished]
    return next((file for file in files if file.is_file() and not _finished_after(file, started)), None)


def _finished_after(file: Path, moment: str | None) -> bool:
    """Whether the run that a file lies in finished later: then the file is another, or was not yet what it is."""
    finished = Run(file.parent).finished
    return bool(moment and finished and finished[:19] > moment[:19])  # to the second


def is_of_the_hub(name: str) -> bool:
    """Whether a name of weights is the Hub's and never a run's, so that they can be fetched again."""
    return (name in RESERVED and name != "none") or name.startswith(HF)


def tell_loaded(label: str, report: LoadReport) -> None:
    """Say what of the weights was loaded; what costs accuracy is a warning."""
    log.info(f"{label}: {report}")
    if report.adapted:
        log.warning(f"{label} was made for other pictures, which costs accuracy: {'; '.join(report.adapted)}")


def is_path(name: str) -> bool:
    """Whether a name of weights is a file's or a folder's."""
    if name.startswith(HF):
        return False
    file = Path(name)
    return name.endswith(WEIGHTS) or "/" in name or "\\" in name or bool(file.suffix and file.is_file())


def _weights_in(folder: Path) -> tuple[Path, Path]:
    return folder / BACKBONE_FILE, folder / MODEL_FILE


def _from_path(path: Path, option: str) -> Pretrained:
    if path.is_dir():
        for file in _weights_in(path):
            if file.is_file():
                return _announced(Pretrained(Run(path).name, file), Run(path))
        others = sorted(str(path / name) for name in os.listdir(path) if name.endswith(WEIGHTS))
        raise RunError(
            f"{option} {path}: the folder holds no {BACKBONE_FILE}",
            f"name the file, as {others[0]}" if others else "finish that run first, or name another",
            option=option.strip("-"),
            path=path,
        )
    if reason := why_not_a_file(path):
        raise UsageError(
            f"{option} {path}: {reason}", f"name another with {option}", option=option.strip("-"), path=path
        )
    return Pretrained(path.stem.removesuffix(".pth"), path)  # of x.pth.tar x


def _announced(pretrained: Pretrained, run: Run) -> Pretrained:
    """Say which file it is: a name may stand for several runs, and a folder hold what was fetched."""
    count = pretrained.metadata.epochs if pretrained.metadata else 0
    epochs = f", {count} epoch{'' if count == 1 else 's'}" if pretrained.metadata else ""
    age = ""
    if run.holds(ENVIRONMENT):
        age = f", finished {_ago(run.finished)}" if run.finished else ", of a run that was interrupted"
    log.info(f"pretrained weights: {pretrained.file}{epochs}{age}")
    return pretrained


def _ago(moment: str) -> str:
    seconds = (datetime.now(UTC) - datetime.fromisoformat(moment).astimezone(UTC)).total_seconds()
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return "just now"
