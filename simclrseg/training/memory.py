"""The micro-batch of a training run where nobody names one."""

from __future__ import annotations

import logging

import torch

from simclrseg.data.loader import Loader
from simclrseg.engine.footprint import free_memory, largest_micro_batch, measure_footprint
from simclrseg.engine.gradients import Passes
from simclrseg.engine.task import Task
from simclrseg.system import distributed

log = logging.getLogger(__name__)


def fitting_micro_batch(task: Task, batches: Loader, device: torch.device, precision: str, *, least: int) -> int:
    """The whole batch of this process where it fits the free memory, else a part of it that does; and say so.

    Args:
        least: of ``least_micro_batch``.
    """
    batch_size = batches.batch_size // distributed.world_size()
    free = free_memory(device)
    if free is None:
        log.info(f"micro-batch {batch_size} of {batch_size}: this system does not say how much memory is free")
        return batch_size
    task.model.to(device).to(memory_format=torch.channels_last)
    footprint = measure_footprint(
        task, batches.samples.fields, batch_size=batch_size, passes=Passes(device, precision, seed=0)
    )
    micro_batch = largest_micro_batch(batch_size, footprint, free, least=least)
    log.info(
        f"micro-batch {micro_batch} of {batch_size}: about {footprint.image / 1e6:,.3g} MB an image, "
        f"{free / 1e9:.1f} GB free"
    )
    if footprint.fixed + micro_batch * footprint.image > free:
        log.warning(f"{micro_batch} images may not fit the memory: a smaller --image-size or --backbone takes less")
    return micro_batch
