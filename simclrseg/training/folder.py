"""The folder of a training run: claimed or taken up again, locked, and described."""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import torch

import simclrseg
from simclrseg.data.seen import kept
from simclrseg.errors import DataError, RunError, UsageError
from simclrseg.knobs.parsing import config_of_run, dump_config
from simclrseg.runs.claim import claim, discarded_unless_started, lock
from simclrseg.runs.lookup import find_run
from simclrseg.runs.names import BACKBONE_FILE, MODEL_FILE, ONNX_FILE, Kind
from simclrseg.runs.run import Run, record_facts, runs_option, source_commit
from simclrseg.system import distributed, log_file
from simclrseg.system.files import write_text
from simclrseg.text import without_secrets
from simclrseg.training.knobs import TrainingConfig, differing
from simclrseg.training.machine import Machine

log = logging.getLogger(__name__)

PROLONGED = "prolonged"
"""Key of a run's environment: each time that it got more epochs, how many, and the step where a new schedule began."""

Config = TypeVar("Config", bound=TrainingConfig)


def resumed_run(kind: Kind, config: Config) -> tuple[Run | None, Config]:
    """The run to continue, or None for a new one; and the configuration, in which ``epochs`` are a number then.

    Where it goes on for more epochs than it was made with, what it has done stays done.

    Raises:
        RunError: if there is nothing to continue.
        UsageError: if the configuration differs in a way that changes the result; the keys are named.
    """
    if config.run.resume is None:
        return None, config
    run = find_run(Path(config.console.runs), kind, config.run.resume)
    if config.run.overwrite:
        raise UsageError(
            f"--resume goes on with run {run.name!r}, and --overwrite begins one anew",
            "leave one of them out",
            option="overwrite",
        )
    stored = config_of_run(type(config), run.folder)
    epochs = epochs_of(run, stored)
    wanted = epochs if config.training.epochs == "auto" else config.training.epochs
    longer = wanted > epochs
    if wanted < epochs:
        raise UsageError(
            f"--epochs {wanted}",
            f"run {run.name!r} has {epochs}, and more train it longer: take more, or leave it out",
            option="epochs",
            value=wanted,
        )
    if run.finished and not longer:
        exports = kind == "finetune" and not run.holds(ONNX_FILE)
        more = f"; `{run.command('export')}` writes its {ONNX_FILE}" if exports else ""
        raise RunError(
            f"run {run.name!r} finished on {run.finished[:10]}: there is nothing to resume; more --epochs than its "
            f"{epochs} train it longer{more}"
        )
    if not run.started:
        raise RunError(f"run {run.name!r} has no checkpoint", start_anew(run))
    batch, processes = run.environment.get("batch_size", 0), distributed.world_size()
    if batch % processes:
        fitting = max(number for number in range(1, processes) if batch % number == 0)
        raise UsageError(
            f"--resume {run.name}: its batches of {batch} cannot be shared out over {processes} processes",
            f"take --devices {fitting}",
            option="devices",
            value=processes,
        )
    changed = [key for key in differing(stored, config) if not (longer and key == "training.epochs")]
    if changed:
        raise UsageError(
            f"--resume {run.name}: {', '.join(changed)} cannot differ from the run's config.yaml",
            option="resume",
            value=run.name,
        )
    return run, config.prolonging(stored.of_length(epochs)) if longer else config.of_length(epochs)


def start_anew(run: Run, state: Path | None = None) -> str:
    """Advice where a run cannot go on: a new one like it, from its weights where it has some; the old one stays.

    Args:
        state: a file of its checkpoints that is whole.
    """
    folder = shlex.quote(str(run.folder))
    option, file = {"pretrain": ("--init", BACKBONE_FILE), "finetune": ("--pretrained", MODEL_FILE)}[run.kind]
    start = ""
    if run.holds(file):
        start = f" {option} {folder}"
    elif state is not None:
        start = f" {option} {shlex.quote(str(state))} --backbone {run.recorded('encoder')}"
    return f"start a new run with `simclrseg {run.kind} --config {folder}{start}{runs_option(run.root)}`"


def epochs_of(run: Run, stored: TrainingConfig) -> int:
    """The epochs of a run: those of its configuration, or what ``auto`` became."""
    return int(run.recorded("epochs") if stored.training.epochs == "auto" else stored.training.epochs)


@contextmanager
def open_run(
    kind: Kind,
    config: TrainingConfig,
    *,
    resumed: Run | None = None,
    name: str,
    machine: Machine,
    images: Sequence[str],
    truth: str = "",
    fingerprint: str = "",
    **facts: Any,
) -> Iterator[tuple[Run, Mapping[str, Any]]]:
    """Claim a new run's folder, or take the resumed one's, and hold it locked while the block runs.

    A new run that fails before its first checkpoint leaves no folder behind. Of several processes the first does all
    this, and tells the others which folder it is.

    Args:
        resumed: the run to continue, of ``resumed_run``.
        name: of a new run, where none was asked for.
        images: keys of those that are used; DataError if a run began with others.
        truth: a hash of what is true of them; the same.
        fingerprint: of their content; the same if most of it is other, and a warning where some is.
        facts: what was resolved from ``auto`` and is worth keeping.
    """
    digest = hash_of_names(images)
    began: Mapping[str, Any]
    if not distributed.is_main():
        folder, began = distributed.from_main(lambda: (Path(), {}))
        if config.run.resume is not None:
            _take_up_threads(began)
        yield Run(folder), began
        return
    run = resumed or claim(Path(config.console.runs), kind, config.run.name or name, overwrite=config.run.overwrite)
    began = run.environment
    if resumed is not None and began.get("photos_hash", digest) != digest:
        raise DataError(
            f"--resume {run.name}: the photos are not those that the run began with ({run.recorded('photos'):,}, "
            f"now {len(images):,})",
            "restore them, or start a new run",
            option="resume",
            value=run.name,
        )
    if resumed is not None and began.get("truth_hash", truth) != truth:
        raise DataError(
            f"--resume {run.name}: the masks, or how they are read, are not those that the run began with",
            "restore them, or start a new run",
            option="resume",
            value=run.name,
        )
    if resumed is not None:
        _check_content(run, began.get("fingerprint", ""), fingerprint)
    command = without_secrets(shlex.join(["simclrseg", *sys.argv[1:]]))
    with lock(run), discarded_unless_started(run), log_file.kept(run.folder, command):
        if resumed is not None:
            _take_up_threads(began)
            _record_prolonging(run, config)
        else:
            write_text(run.folder / "config.yaml", dump_config(config))
        record_facts(
            run,
            kind=kind,
            command=command,
            folder=began.get("folder") or os.getcwd(),
            started=began.get("started") or datetime.now(UTC).isoformat(timespec="seconds"),
            version=simclrseg.__version__,
            commit=source_commit(),
            python=platform.python_version(),
            torch=torch.__version__,
            device=str(machine.device),
            precision=machine.precision,
            threads=torch.get_num_threads(),
            workers=machine.workers,
            processes=distributed.world_size(),
            photos=len(images),
            photos_hash=digest,
            truth_hash=truth,
            fingerprint=began.get("fingerprint", fingerprint),
            **facts,
        )
        log.info(f"{'run' if resumed is None else 'resuming'} {run.folder}")
        distributed.from_main(lambda: (run.folder, began))
        yield run, began


def _check_content(run: Run, before: str, now: str) -> None:
    """Refuse to go on with other photos under the names of those that a run began with; warn where a few are other."""
    same, of = kept(before, now)
    other = f"{of - same:,} of {of:,} photos that were looked at"
    if same < of / 2:
        began = run.begun_in
        moved = began is not None and began.is_dir() and not began.samefile(".")
        raise DataError(
            f"--resume {run.name}: {other} have another content than when the run began, under the same names",
            f"restore them,{f' go on in {began}, where it began,' if moved else ''} or start a new run",
            option="resume",
            value=run.name,
        )
    if same < of:
        log.warning(f"--resume {run.name}: {other} have another content than when the run began")


def hash_of_names(images: Sequence[str]) -> str:
    """A hash of which images a run uses, by their keys."""
    return hashlib.sha256("\n".join(images).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _record_prolonging(run: Run, config: TrainingConfig) -> None:
    """Note that a run gets more epochs, where it does; at which step, ``train`` finds out."""
    epochs = config.training.epochs
    if epochs != "auto" and epochs > epochs_of(run, config_of_run(type(config), run.folder)):
        past = run.environment.get(PROLONGED, [])
        record_facts(run, finished=None, **{PROLONGED: [*past, {"epochs": epochs, "from_step": None}]})
        write_text(run.folder / "config.yaml", dump_config(config))  # last: without a new schedule it would be wrong


def is_prolonged(run: Run) -> bool:
    """Whether a run that goes on has got more epochs, or gets them now, of which some may be left."""
    return run.finished is not None or PROLONGED in run.environment


def first_step(run: Run, step: int) -> int:
    """The step from which the schedule runs: 0, or where the run got more epochs.

    Args:
        step: to go on from. Where that is an earlier one, by a state that was kept, the schedule runs from there.
    """
    past = run.environment.get(PROLONGED)
    if not past:
        return 0
    known = past[-1]["from_step"]
    if known is None or known > step:
        past = [*past[:-1], past[-1] | {"from_step": step}]
        if distributed.is_main():
            record_facts(run, **{PROLONGED: past})
    return int(past[-1]["from_step"])


def _take_up_threads(began: Mapping[str, Any]) -> None:
    """Compute with as many threads as a resumed run did, by its facts: sums depend on how they are split."""
    if began.get("processes") == distributed.world_size():
        torch.set_num_threads(began.get("threads", torch.get_num_threads()))
