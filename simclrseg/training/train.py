"""What every training command does around the engine: the machine, the run folder, the optimizer, the pictures."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
import platform
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import nn

import simclrseg
from simclrseg import runs
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
from simclrseg.knobs.files import config_of_run, dump_config
from simclrseg.knobs.knob import knobs_of, look_up
from simclrseg.knobs.sections import Hardware
from simclrseg.metadata import ONNX_FILE
from simclrseg.system import distributed, log_file
from simclrseg.system.files import write_text
from simclrseg.system.hardware import cpu_cores, explained_shortage
from simclrseg.training.curves import draw_curves
from simclrseg.training.forecast import (
    DRY_STEPS,
    DRY_STEPS_ON_A_GPU,
    FirstSteps,
    Forecast,
    Rehearsal,
    findings,
)
from simclrseg.training.knobs import Training, TrainingConfig, TrainingRun
from simclrseg.training.memory import fitting_micro_batch

log = logging.getLogger(__name__)

# What may differ when a run is resumed: nothing that changes its result but rounding.
RESUMABLE = {
    "data.cache",
    "hardware.workers",
    "hardware.devices",
    "run.log",
    "run.checkpoint_steps",
    "run.checkpoint_minutes",
    "run.keep_checkpoints",
    "segment.examples_every",
    "console.runs",
    "training.micro_batch",  # without batch norm the gradient is the same; with it a run out of memory has to go on
}


EPOCHS = "training.epochs"  # may be more
PROLONGED = "prolonged"
"""Key of a run's environment: each time that it got more epochs, how many, and the step where a new schedule began."""

Config = TypeVar("Config", bound=TrainingConfig)


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


def check_batch(batch_size: int, photos: int, what: str) -> None:
    if batch_size > photos:
        remedy = f"pass --batch-size {photos} or less" if photos > 1 else "add photos"
        raise DataError(f"a batch of {batch_size} is larger than the {photos} {what}", remedy)


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
            "nothing from that",
            f"take {together} or more",
            option="micro_batch",
            value=asked,
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
    stored = config_of_run(type(config), run.folder)
    epochs = stored.training.epochs
    longer = config.training.epochs > epochs
    if config.training.epochs < epochs:
        raise UsageError(
            f"--epochs {config.training.epochs}",
            f"run {run.name!r} has {epochs}, and more train it longer: take more, or leave it out",
            option="epochs",
            value=config.training.epochs,
        )
    if run.finished and not longer:
        export = f"`simclrseg export {run.name}{runs.option(run.root)}` writes its {ONNX_FILE}"
        more = f"; {export}" if kind == "finetune" and not run.holds(ONNX_FILE) else ""
        raise RunError(
            f"run {run.name!r} finished on {run.finished[:10]}: there is nothing to resume; more --epochs than its "
            f"{epochs} train it longer{more}"
        )
    if not run.started:
        raise RunError(f"run {run.name!r} has no checkpoint yet", "start it again, with --overwrite")
    may_differ = RESUMABLE | ({EPOCHS} if longer else set())
    old, new = stored.model_dump(), config.model_dump()
    changed = [
        knob.key
        for knob in knobs_of(type(config))
        if not knob.transient and knob.key not in may_differ and look_up(old, knob.path) != look_up(new, knob.path)
    ]
    if changed:
        raise UsageError(
            f"--resume {run.name}: {', '.join(changed)} cannot differ from the run's config.yaml",
            option="resume",
            value=run.name,
        )
    return run


def prolonged(config: Config, resumed: runs.Run | None) -> Config:
    """The configuration of a run that goes on for more epochs than it was made with; of others it stays as it is."""
    if resumed is None:
        return config
    before = config_of_run(type(config), resumed.folder).training
    if config.training.epochs == before.epochs:
        return config
    return config.model_copy(update={"training": config.training.prolonging(before)})


@contextmanager
def open_run(
    kind: runs.Kind,
    config: TrainingConfig,
    *,
    resumed: runs.Run | None = None,
    name: str,
    machine: Machine,
    photos: Sequence[str],
    **facts: Any,
) -> Iterator[runs.Run]:
    """Claim a new run's folder, or take the resumed one's, and hold it locked while the block runs.

    A new run that fails before its first checkpoint leaves no folder behind. Of several processes the first does all
    this, and tells the others which folder it is.

    Args:
        resumed: the run to continue, of ``resumed_run``.
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
    run = resumed or runs.claim(
        Path(config.console.runs), kind, config.run.name or name, overwrite=config.run.overwrite
    )
    began = run.environment
    if resumed is not None and began.get("photos_hash", digest) != digest:
        raise DataError(
            f"--resume {run.name}: the photos are not those that the run began with ({began['photos']:,}, now "
            f"{len(photos):,})",
            "restore them, or start a new run",
            option="resume",
            value=run.name,
        )
    command = shlex.join(["simclrseg", *sys.argv[1:]])
    with runs.lock(run), _discarded_unless_started(run), log_file.kept(run.folder, command):
        if resumed is not None:
            _take_up_threads(run)
            _record_prolonging(run, config)
        else:
            write_text(run.folder / "config.yaml", dump_config(config))
        runs.record(
            run,
            kind=kind,
            command=command,
            folder=began.get("folder") or os.getcwd(),
            started=began.get("started") or datetime.now(UTC).isoformat(timespec="seconds"),
            version=simclrseg.__version__,
            commit=runs.source_commit(),
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
        log.info(f"{'run' if resumed is None else 'resuming'} {run.folder}")
        distributed.shared(str(run.folder))
        yield run


@contextmanager
def _discarded_unless_started(run: runs.Run) -> Iterator[None]:
    try:
        yield
    finally:
        runs.discard_unless_started(run)


def _record_prolonging(run: runs.Run, config: TrainingConfig) -> None:
    """Note that a run gets more epochs, where it does; at which step, ``train`` finds out."""
    before = config_of_run(type(config), run.folder).training.epochs
    if config.training.epochs > before:
        past = run.environment.get(PROLONGED, [])
        runs.record(run, finished=None, **{PROLONGED: [*past, {"epochs": config.training.epochs, "from_step": None}]})
        write_text(run.folder / "config.yaml", dump_config(config))  # last: without a new schedule it would be wrong


def _first_step(run: runs.Run, step: int) -> int:
    """The step from which the schedule runs: 0, or where the run got more epochs.

    Args:
        step: to go on from.
    """
    past = run.environment.get(PROLONGED)
    if not past:
        return 0
    if past[-1]["from_step"] is None:
        past = [*past[:-1], past[-1] | {"from_step": step}]
        if distributed.is_main():
            runs.record(run, **{PROLONGED: past})
    return int(past[-1]["from_step"])


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
    first = _first_step(run, 0 if start is None else start.step)
    total = training.epochs * steps - first
    warmup = training.warmup_of(total / steps)
    if training.warmup_epochs not in (None, warmup):
        log.warning(
            f"a warm-up of {training.warmup_epochs:g} epochs does not fit into {total / steps:g}: "
            f"it takes {warmup:g}, as by default"
        )
    if start is not None and 0 < first == start.step:
        log.info(
            f"a new {training.schedule} schedule for {total / steps:g} more epochs, {training.epochs} in all: "
            f"{warmup:g} of warm-up to {learning_rate:.4g}; weights and the optimizer's state are kept"
        )
    schedule = partial(
        _rate,
        ending_at(training.final_rate, SCHEDULES[training.schedule]),
        learning_rate,
        first=first,
        total=total,
        warmup=round(warmup * steps),
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
                patient_from=first // steps,
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
            f"batch norm sees {processes * micro_batch} photos at a time, and of fewer than {processes * least} "
            f"{task.too_few}: little can be learned; take a larger --micro-batch, or --batch-size"
        )
    if run is not None and distributed.is_main():
        runs.record(run, micro_batch=micro_batch)
    return micro_batch


def report_skipped(skipped: Sequence[str]) -> None:
    """Warn of the photos that any process could not read."""
    if lines := distributed.union(skipped):
        log.warning(f"unreadable photos, which were skipped: {len(lines):,}; the first is {lines[0]}")


def rehearse(
    task: Task,
    batches: Loader,
    *,
    together: int,
    config: TrainingConfig,
    machine: Machine,
    learning_rate: float,
    suggestion: Callable[[float], str] | None,
) -> dict[str, Any]:
    """Take a few steps, write nothing, and say what the whole run would take."""
    training = config.training
    micro_batch = choose_micro_batch(training.micro_batch, task, batches, together=together, machine=machine)
    steps = DRY_STEPS.get(machine.device.type, DRY_STEPS_ON_A_GPU)
    plan = Plan(training.epochs, len(batches), 0, (), batches.batch_size)
    rehearsal = Rehearsal(plan, steps=steps, suggestion=suggestion)
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


def _rate(schedule: Callable[..., float], peak: float, step: int, *, first: int, total: int, warmup: int) -> float:
    return peak * schedule(step - first, total, warmup)


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
        raise TrainingError(f"{error}", later) from error
    except (KeyboardInterrupt, Terminated) as stop:
        signum = stop.signum if isinstance(stop, Terminated) else signal.SIGINT
        raise Interrupted(f"stopped in {phase}; go on with: {command}", signum=signum) from None


def finish_run(run: runs.Run) -> None:
    """Draw the curves and mark the run finished."""
    draw_curves(run.folder / "metrics.csv", run.folder / "curves.png")
    runs.finish(run)
