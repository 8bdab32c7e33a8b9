"""The machine of a run: device, number format and threads."""

from __future__ import annotations

import dataclasses
import logging

import torch

from simclrseg.engine.runtime import choose_device, choose_precision, describe
from simclrseg.knobs.sections import Hardware
from simclrseg.runs.run import Run
from simclrseg.system import distributed
from simclrseg.system.hardware import cpu_cores

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Machine:
    """A device, the number format of forward passes on it, and the number of threads that read images."""

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


def as_begun(machine: Machine, resumed: Run | None) -> Machine:
    """The same with the number format in which a resumed run began, whatever ``auto`` would be here."""
    begun = resumed.environment.get("precision") if resumed else None
    if begun in (None, machine.precision):
        return machine
    log.warning(f"going on in {begun}, as the run began; auto is {machine.precision} here")
    return dataclasses.replace(machine, precision=begun)
