"""The machine of a run: device, number format, threads, and the micro-batch that fits its memory."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable

import torch

from simclrseg.engine.footprint import Footprint, free_memory, largest_micro_batch
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


def fitting_micro_batch(batch_size: int, device: torch.device, measure: Callable[[], Footprint], *, least: int) -> int:
    """The whole batch of this process where it fits the free memory, else a part of it that does; and say so.

    Args:
        batch_size: of this process.
        measure: gives the footprint of a step, where it is needed.
        least: of ``least_micro_batch``.
    """
    free = free_memory(device)
    if free is None:
        log.info(f"micro-batch {batch_size} of {batch_size}: this system does not say how much memory is free")
        return batch_size
    footprint = measure()
    micro_batch = largest_micro_batch(batch_size, footprint, free, least=least)
    log.info(
        f"micro-batch {micro_batch} of {batch_size}: about {footprint.image / 1e6:,.3g} MB an image, "
        f"{free / 1e9:.1f} GB free"
    )
    if footprint.fixed + micro_batch * footprint.image > free:
        log.warning(f"{micro_batch} images may not fit the memory: a smaller --image-size or --backbone takes less")
    return micro_batch
