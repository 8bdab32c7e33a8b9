"""What a training begins with: its configuration, its machine and, where it goes on, its run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Self

from simclrseg.engine.loggers import MakeLogger, logger
from simclrseg.runs.names import Kind
from simclrseg.runs.run import Run
from simclrseg.training.folder import Config, resumed_run
from simclrseg.training.machine import Machine, as_begun, prepare_machine


@dataclass(frozen=True)
class Session(Generic[Config]):
    """Config, machine and run of a training, known before anything is read.

    Attributes:
        loggers: the tools that get the numbers too.
        resumed: the run to continue, if it is not a new one.
        requested: the configuration to store, where that of ``config`` is what became of it.
    """

    kind: Kind
    config: Config
    machine: Machine
    loggers: Sequence[MakeLogger] = ()
    resumed: Run | None = None
    requested: Config | None = None

    @classmethod
    def begin(cls, kind: Kind, config: Config) -> Self:
        """Meet the other processes, choose device and number format, and find the run to continue."""
        machine = prepare_machine(config.hardware, config.hardware.precision)
        loggers = [logger(name) for name in dict.fromkeys(config.run.log)]
        resumed, config = resumed_run(kind, config)
        return cls(kind, config, as_begun(machine, resumed), loggers, resumed)
