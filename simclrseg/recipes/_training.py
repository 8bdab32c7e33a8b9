"""What every training command does around the engine: the machine, the run folder, the optimizer, the pictures."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
import platform
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

import simclrseg
from simclrseg import distributed, plots, runs
from simclrseg.config.finetune import FinetuneConfig
from simclrseg.config.pretrain import PretrainConfig
from simclrseg.config.shared import Hardware, Training, TrainingRun
from simclrseg.data.loader import Loader
from simclrseg.engine import LOGGERS, OPTIMIZERS, SCHEDULES
from simclrseg.engine.checkpoints import Checkpoints
from simclrseg.engine.footprint import least_micro_batch, smaller_micro_batch
from simclrseg.engine.freezing import Freezing
from simclrseg.engine.history import FileHistory, Observer, Plan
from simclrseg.engine.loggers import MakeLogger
from simclrseg.engine.loop import FitResult, fit
from simclrseg.engine.optimizers import parameter_groups
from simclrseg.engine.runtime import choose_device, choose_precision, compiled, describe
from simclrseg.engine.schedules import ending_at
from simclrseg.engine.task import Loader as Validation
from simclrseg.engine.task import Task
from simclrseg.errors import (
    DataError,
    Interrupted,
    OutOfMemory,
    RunError,
    SimclrsegError,
    Terminated,
    TrainingError,
    UsageError,
)
from simclrseg.files import write_text
from simclrseg.hardware import cpu_cores, explained_shortage
from simclrseg.knobs import config_of_run, dump_config, knobs_of, look_up
from simclrseg.metadata import ONNX_FILE
from simclrseg.recipes._forecast import (
    DRY_STEPS,
    DRY_STEPS_ON_A_GPU,
    FirstSteps,
    Forecast,
    Rehearsal,
    findings,
    suggested,
)
from simclrseg.recipes._memory import fitting_micro_batch

log = logging.getLogger(__name__)

TrainingConfig = PretrainConfig | FinetuneConfig

# What may differ when a run is resumed: nothing that changes its result but rounding.
RESUMABLE = {
    "data.cache",
    "hardware.workers",
    "hardware.devices",
    "run.log",
    "run.checkpoint_steps",
    "run.checkpoint_minutes",
    "run.keep_checkpoints",
    "run.examples_every",
    "console.runs",
    "training.micro_batch",  # without batch norm the gradient is the same; with it a run out of memory has to go on
}


@dataclasses.dataclass(frozen=True)
class Machine:
    """What a run computes on."""

    device: torch.device
    precision: str
    workers: int


def prepare_machine(hardware: Hardware, precision: str = "auto") -> Machine:
    """Meet the other processes, if there are any, choose device and number format, and say so."""
    distributed.meet()
    device = choose_device(hardware.device)
    precision = choose_precision(precision, device)
    distributed.start(device)
    several = f", one of {distributed.world_size()} processes" if distributed.world_size() > 1 else ""
    log.info(describe(device, precision) + several)
    cores = max(1, cpu_cores() // distributed.local_world_size())
    return Machine(device, precision, hardware.workers or cores)


def as_begun(machine: Machine, resumed: runs.Run | None) -> Machine:
    """The same with the number format in which a resumed run began, whatever ``auto`` would be here."""
    begun = resumed.environment.get("precision") if resumed else None
    if begun in (None, machine.precision):
        return machine
    log.warning(f"going on in {begun}, as the run began; auto is {machine.precision} here")
    return dataclasses.replace(machine, precision=begun)


def find_loggers(config: TrainingConfig) -> list[MakeLogger]:
    """The tools that get the numbers too.

    Raises:
        UsageError: if one of them is not installed.
    """
    return [LOGGERS[name]() for name in dict.fromkeys(config.run.log)]


def make_loggers(makers: Sequence[MakeLogger], run: runs.Run, config: TrainingConfig) -> list[Observer]:
    """Their observers, who are told the configuration; one process tells for all."""
    if not distributed.is_main():
        return []
    values = config.model_dump(mode="json")
    knobs = {knob.key: look_up(values, knob.path) for knob in knobs_of(type(config)) if not knob.transient}
    return [make(run.folder, knobs) for make in makers]


def dataset_label(dataset: str) -> str:
    """What a run's derived name calls a dataset: its name, or its folder's as far as a run's name can hold it."""
    name = Path(dataset).resolve().name if Path(dataset).is_dir() else dataset
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", name).strip("._+-") or "photos"


def check_batch(batch_size: int, photos: int, what: str) -> None:
    if batch_size > photos:
        remedy = f"pass --batch-size {photos} or less" if photos > 1 else "add photos"
        raise DataError(f"a batch of {batch_size} is larger than the {photos} {what}: {remedy}")


def check_micro_batch(asked: int | Literal["auto"], together: int) -> None:
    """Refuse one that batch norm cannot take.

    Args:
        together: of ``least_together``.

    Raises:
        UsageError: if it is too small.
    """
    processes = distributed.world_size()
    if asked != "auto" and asked * processes < together:
        raise UsageError(
            f"--micro-batch {asked}: of one image a batch norm of this network sees one value a channel, and learns "
            f"nothing from that: take {together} or more"
        )


def resumed_run(kind: runs.Kind, config: TrainingConfig) -> runs.Run | None:
    """The run to continue, or None for a new one.

    Raises:
        RunError: if there is nothing to continue.
        UsageError: if the configuration differs in a way that changes the result; the keys are named.
    """
    if config.run.resume is None:
        return None
    run = runs.find(Path(config.console.runs), kind, config.run.resume)
    if run.finished:
        export = f"`simclrseg export {run.name}{runs.option(run.root)}` writes its {ONNX_FILE}"
        more = f"; {export}" if kind == "finetune" and not run.holds(ONNX_FILE) else ""
        raise RunError(f"run {run.name!r} finished on {run.finished[:10]}: there is nothing to resume{more}")
    if not run.started:
        raise RunError(f"run {run.name!r} has no checkpoint yet: start it again, with --overwrite")
    stored, asked = config_of_run(type(config), run.folder).model_dump(), config.model_dump()
    changed = [
        knob.key
        for knob in knobs_of(type(config))
        if not knob.transient and knob.key not in RESUMABLE and look_up(stored, knob.path) != look_up(asked, knob.path)
    ]
    if changed:
        raise UsageError(f"--resume {run.name}: {', '.join(changed)} cannot differ from the run's config.yaml")
    return run


@contextmanager
def open_run(
    kind: runs.Kind, config: TrainingConfig, *, name: str, machine: Machine, photos: Sequence[str], **facts: Any
) -> Iterator[runs.Run]:
    """Claim a new run's folder, or take the resumed one's, and hold it locked while the block runs.

    A new run that fails before its first checkpoint leaves no folder behind. Of several processes the first does all
    this, and tells the others which folder it is.

    Args:
        name: of a new run, where none was asked for.
        photos: keys of those that are used, which must be the same when a run is resumed.
        facts: what was resolved from ``auto`` and is worth keeping.

    Raises:
        DataError: if they are others.
    """
    digest = hashlib.sha256("\n".join(photos).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    if not distributed.is_main():
        theirs = runs.Run(Path(distributed.shared(None)))
        if config.run.resume is not None:
            _take_up_threads(theirs)
        yield theirs
        return
    run = resumed_run(kind, config)
    resuming = run is not None
    if run is None:
        run = runs.claim(Path(config.console.runs), kind, config.run.name or name, overwrite=config.run.overwrite)
    with runs.lock(run):
        try:
            if not resuming:
                write_text(run.folder / "config.yaml", dump_config(config))
            elif run.environment.get("photos_hash", digest) != digest:
                began = run.environment["photos"]
                raise DataError(
                    f"--resume {run.name}: the photos are not those that the run began with ({began:,}, now "
                    f"{len(photos):,}): restore them, or start a new run"
                )
            else:
                _take_up_threads(run)
            runs.record(
                run,
                kind=kind,
                command=shlex.join(["simclrseg", *sys.argv[1:]]),
                folder=run.environment.get("folder") or os.getcwd(),
                started=run.environment.get("started") or datetime.now(UTC).isoformat(timespec="seconds"),
                version=simclrseg.__version__,
                commit=source_commit(),
                python=platform.python_version(),
                torch=torch.__version__,
                device=str(machine.device),
                precision=machine.precision,
                threads=torch.get_num_threads(),
                workers=machine.workers,
                processes=distributed.world_size(),
                photos=len(photos),
                photos_hash=digest,
                **facts,
            )
            log.info(f"{'resuming' if resuming else 'run'} {run.folder}")
            distributed.shared(str(run.folder))
            yield run
        finally:
            runs.discard_unless_started(run)


def _take_up_threads(run: runs.Run) -> None:
    """Compute with as many threads as a resumed run began with: sums depend on how they are split."""
    if run.environment.get("processes") == distributed.world_size():
        torch.set_num_threads(run.environment.get("threads", torch.get_num_threads()))


def train(
    task: Task,
    batches: Loader,
    validation: Validation | None,
    *,
    run: runs.Run,
    machine: Machine,
    training: Training,
    learning_rate: float,
    micro_batch: int,
    together: int,
    saving: TrainingRun,
    suggestion: Callable[[float], str] | None,
    observers: Sequence[Observer],
    validate_every: int = 1,
    keep: Literal["best", "last"] = "best",
    freezing: Freezing | None = None,
    scales: Mapping[nn.Parameter, float] | None = None,
    average: float | None = None,
    patience: int | None = None,
) -> FitResult:
    """Run the engine in a run's folder, from its last checkpoint where it has one."""
    checkpoints = Checkpoints(
        run.folder / "checkpoints",
        keep=saving.keep_checkpoints,
        every_steps=saving.checkpoint_steps,
        every_minutes=saving.checkpoint_minutes,
    )
    start = checkpoints.load_last()
    watchers: list[Observer] = []
    if distributed.is_main():
        watchers = [FileHistory(run.folder), Forecast(suggestion=suggestion), *observers]
    optimizer = _optimizer(task, training, learning_rate, scales)
    steps = len(batches)
    if training.warmup_epochs not in (None, training.warmup):
        log.warning(
            f"a warm-up of {training.warmup_epochs:g} epochs does not fit into {training.epochs}: "
            f"it takes {training.warmup:g}, as by default"
        )
    schedule = partial(
        _rate,
        ending_at(training.final_rate, SCHEDULES[training.schedule]),
        learning_rate,
        total=training.epochs * steps,
        warmup=round(training.warmup * steps),
    )
    try:
        with compiled(task.model, enabled=training.compile):
            result = fit(
                task,
                batches,
                validation,
                validate_every=validate_every,
                keep=keep,
                optimizer=optimizer,
                schedule=schedule,
                epochs=training.epochs,
                device=machine.device,
                precision=machine.precision,
                micro_batch=micro_batch,
                together=together,
                clip=training.clip,
                freezing=freezing,
                average=average,
                patience=patience,
                observers=watchers,
                checkpoints=checkpoints,
                start=start,
                seed=saving.seed,
            )
    except Interrupted as stop:
        raise Interrupted(
            f"{stop}; go on with: simclrseg {run.kind} --resume {run.name}{runs.option(run.root)}", signum=stop.signum
        ) from None
    if len(result.history) < training.epochs:
        name = next(iter(result.best))
        log.info(
            f"stopped after epoch {len(result.history)} of {training.epochs}: no {name} better than that of epoch "
            f"{result.best_epoch}, {result.best[name]:.4f}"
        )
    return result


def choose_micro_batch(
    asked: int | Literal["auto"],
    task: Task,
    batches: Loader,
    *,
    together: int,
    machine: Machine,
    run: runs.Run | None = None,
) -> int:
    """Images of a process that are in memory at once, at most its share of a batch; a resumed run keeps what it has.

    Args:
        together: of ``least_together``.
    """
    processes, least = distributed.world_size(), least_micro_batch(task, together)
    if asked == "auto" and run is not None and run.environment.get("processes") == processes:
        asked = run.environment.get("micro_batch", "auto")
    if asked == "auto":
        fits = fitting_micro_batch(task, batches, machine.device, machine.precision, least=least)
        asked = -distributed.largest(-fits)  # the same for all processes
    micro_batch = min(asked, batches.batch_size // processes)
    if micro_batch < least:
        log.warning(
            f"batch norm sees {processes * micro_batch} photos at a time, and of fewer than {processes * least} the "
            "two views of one come out as opposites: little can be learned; take a larger --micro-batch, or "
            "--batch-size"
        )
    if run is not None and distributed.is_main():
        runs.record(run, micro_batch=micro_batch)
    return micro_batch


def report_skipped(skipped: Sequence[str]) -> None:
    """Warn of the photos that any process could not read."""
    if lines := distributed.union(skipped):
        log.warning(f"unreadable photos, which were skipped: {len(lines):,}; the first is {lines[0]}")


def rehearse(
    task: Task, batches: Loader, *, together: int, config: TrainingConfig, machine: Machine, learning_rate: float
) -> dict[str, Any]:
    """Take a few steps, write nothing, and say what the whole run would take."""
    training = config.training
    micro_batch = choose_micro_batch(training.micro_batch, task, batches, together=together, machine=machine)
    steps = DRY_STEPS.get(machine.device.type, DRY_STEPS_ON_A_GPU)
    plan = Plan(training.epochs, len(batches), 0, (), batches.batch_size)
    rehearsal = Rehearsal(plan, steps=steps, suggestion=suggested(config, machine.device))
    with compiled(task.model, enabled=training.compile):
        fit(
            task,
            FirstSteps(batches, steps),
            optimizer=_optimizer(task, training, learning_rate),
            schedule=lambda step: 0.0,
            epochs=1,
            device=machine.device,
            precision=machine.precision,
            micro_batch=micro_batch,
            together=together,
            clip=training.clip,
            observers=[rehearsal],
            seed=config.run.seed,
        )
    return findings(rehearsal, batch_size=batches.batch_size, micro_batch=micro_batch, device=machine.device)


def _optimizer(
    task: Task, training: Training, learning_rate: float, scales: Mapping[nn.Parameter, float] | None = None
) -> torch.optim.Optimizer:
    optimizer: torch.optim.Optimizer = OPTIMIZERS[training.optimizer](
        parameter_groups(task.model, training.weight_decay, scales=scales),
        learning_rate=learning_rate,
        weight_decay=training.weight_decay,
    )
    return optimizer


def _rate(schedule: Callable[..., float], peak: float, step: int, *, total: int, warmup: int) -> float:
    return peak * schedule(step, total, warmup)


@contextmanager
def finishing(
    run: runs.Run, phase: str, task: Task, batches: Loader, *, micro_batch: int, together: int
) -> Iterator[None]:
    """Tell, of what goes wrong after the last step, how the run is finished without another one.

    Args:
        phase: what is done, as "scoring".
        micro_batch: images of a forward pass.
        together: of ``least_together``.

    Raises:
        OutOfMemory, TrainingError: in the place of an error that a user can mend.
        Interrupted: in the place of a signal.
    """
    own = batches.batch_size // distributed.world_size()
    fewer = smaller_micro_batch(micro_batch, own, least=least_micro_batch(task, together))
    command = f"simclrseg {run.kind} --resume {run.name}{runs.option(run.root)}"
    later = f"then finish the run with `{command}`"
    remedy = f"finish the run with `{command} --micro-batch {fewer}`" if fewer else f"free some memory, {later}"
    try:
        with explained_shortage(f"in {phase} with micro-batch {micro_batch}", remedy):
            yield
    except OutOfMemory:
        raise
    except SimclrsegError as error:
        raise TrainingError(f"{error}; {later}") from error
    except (KeyboardInterrupt, Terminated) as stop:
        signum = stop.signum if isinstance(stop, Terminated) else signal.SIGINT
        raise Interrupted(f"stopped in {phase}; go on with: {command}", signum=signum) from None


def finish_run(run: runs.Run) -> None:
    """Draw the curves and mark the run finished."""
    plots.curves(run.folder / "metrics.csv", run.folder / "curves.png")
    runs.finish(run)


def spread(indices: Sequence[int], count: int) -> list[int]:
    """At most ``count`` of them, evenly: neighbours in a folder look alike."""
    count = min(count, len(indices))
    return [indices[place * len(indices) // count] for place in range(count)]


def source_commit() -> str | None:
    """The commit of the source tree that runs, or None when it was installed as a package."""
    folder = Path(simclrseg.__file__).parents[1]
    if not (folder / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
