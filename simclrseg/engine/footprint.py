"""Memory of an image in training, and the micro-batch that fits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks

from simclrseg.engine.batch_norm import BatchNorm
from simclrseg.engine.gradients import Passes, buffers_kept
from simclrseg.engine.task import Batch, CoupledTask, Task
from simclrseg.system.distributed import local_world_size, world_size
from simclrseg.system.hardware import available_memory

SHARE = 0.85  # of the free memory that is planned with: allocators round up and leave gaps
BACKWARD = 1.25  # peak of the backward pass, as a multiple of what the forward pass keeps: measured 1.1 to 1.25
SIZES = (2, 4)  # images of the two steps whose difference is measured; batch norm needs more than one value

T = TypeVar("T")
Fields = Mapping[str, tuple[tuple[int, ...], type[np.generic]]]
"""Shape and type of one sample's arrays, by name."""


@dataclass(frozen=True)
class Footprint:
    """Memory of a training step, in bytes."""

    fixed: int
    """That of gradients, the optimizer's state and batches that wait, whatever the micro-batch is."""
    image: int
    """For each image of a micro-batch."""


def measure_footprint(task: Task, fields: Fields, *, batch_size: int, passes: Passes) -> Footprint:
    """Measure on small steps of the real network in the real number format; the task is left as it was.

    On a GPU they are computed, and its allocator says what they took. Elsewhere only shapes go through the network, and
    what it keeps for the backward pass is counted: the process's own peak says little, as memory is reused.

    Args:
        fields: of the samples that batches are made of.
        batch_size: of this process.
    """
    parameters = [parameter for parameter in task.model.parameters() if parameter.requires_grad]
    row = sum(math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in fields.values())
    weights = sum(parameter.nbytes for parameter in parameters)
    fixed = 3 * weights + 2 * row * batch_size  # Adam keeps two numbers a parameter
    with task.mode(training=True), buffers_kept(task.model):
        if passes.device.type == "cuda":
            _peak(task, fields, SIZES[1], passes)  # libraries take their own memory the first time
            small, large = (_peak(task, fields, size, passes) for size in SIZES)
        else:
            small, large = (math.ceil(BACKWARD * _kept(task, fields, size, passes)) for size in SIZES)
    return Footprint(fixed, max(1, math.ceil((large - small) / (SIZES[1] - SIZES[0]))))


def free_memory(device: torch.device) -> int | None:
    """Bytes that this process may still take on the device; None where the system does not say."""
    if device.type == "cuda":
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + idle
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    free = available_memory()
    return None if free is None else free // local_world_size()


def least_together(task: Task, fields: Fields) -> int:
    """Samples of all processes that a forward pass of training must have: 2 where batch norm cannot do with one.

    That is so where it sees one value a channel of a sample, as of maps of one pixel: then there is no variance. A
    layer that is frozen takes what it has learned.
    """
    layers = [layer for layer in task.model.modules() if isinstance(layer, BatchNorm)]
    learning = [layer for layer in layers if layer.weight is None or layer.weight.requires_grad]
    if not learning:
        return 1
    alone: list[bool] = []

    def note(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        alone.append(inputs[0].numel() == inputs[0].shape[1])

    hooks = [layer.register_forward_pre_hook(note) for layer in learning]
    passes = Passes(next(task.model.parameters()).device, "fp32", seed=0)
    try:
        with task.mode(training=False), torch.no_grad():
            _of_shapes(task, passes, lambda device: _forward(task, blank_batch(fields, 1, device), passes))
    finally:
        for hook in hooks:
            hook.remove()
    return 2 if any(alone) else 1


def takes_nothing(task: Task, fields: Fields) -> bool:
    """Tell whether a forward pass of no samples works, as a process has that a short batch has nothing for.

    Transformers fail, whose tokens are counted from what there is.
    """
    device = next(task.model.parameters()).device
    passes = Passes(device, "fp32", seed=0)
    try:
        with task.mode(training=False), torch.no_grad():
            _forward(task, blank_batch(fields, 0, device), passes)
    except RuntimeError:
        return False
    return True


def least_micro_batch(task: Task, together: int = 1) -> int:
    """Samples that a process must have in memory at once for the task to be learned at all.

    Args:
        together: of ``least_together``. Where the network has batch norm, the task may need more.
    """
    if any(isinstance(layer, BatchNorm) for layer in task.model.modules()):
        together = max(together, task.batch_norm_needs)
    return max(task.neighbours, -(-together // world_size()))


def largest_micro_batch(batch_size: int, footprint: Footprint, free: int, *, least: int = 1) -> int:
    """The largest divisor of the batch that fits, or where all such are small, the size of equal parts that fit.

    Args:
        least: of ``least_micro_batch``. What does not fit is taken all the same, as that may be wrong by a little.
    """
    fitting = int((SHARE * free - footprint.fixed) / footprint.image)
    divisor = max(number for number in _divisors(batch_size) if number == 1 or number <= fitting)
    if divisor >= least and 2 * divisor >= fitting:
        return divisor
    parts = min(math.ceil(batch_size / max(fitting, 1)), max(1, batch_size // least))
    return math.ceil(batch_size / parts)


def smaller_micro_batch(micro_batch: int, batch_size: int, *, least: int = 1) -> int | None:
    """The next micro-batch to try where memory was short; None where fewer images will not do.

    Args:
        batch_size: of this process; ``micro_batch`` is at most that.
        least: of ``least_micro_batch``.
    """
    smaller = [divisor for divisor in _divisors(batch_size) if least <= divisor <= micro_batch / 2]
    return smaller[-1] if smaller else None


def _divisors(number: int) -> list[int]:
    return [divisor for divisor in range(1, number + 1) if number % divisor == 0]


def _peak(task: Task, fields: Fields, size: int, passes: Passes) -> int:
    """Most bytes that a step with so many images takes on the GPU."""
    batch = blank_batch(fields, size, passes.device)
    torch.cuda.reset_peak_memory_stats(passes.device)
    before = torch.cuda.memory_allocated(passes.device)
    _forward(task, batch, passes).float().sum().backward()
    peak = torch.cuda.max_memory_allocated(passes.device) - before
    for parameter in task.model.parameters():
        parameter.grad = None
    return peak


def _kept(task: Task, fields: Fields, size: int, passes: Passes) -> int:
    """Bytes that a forward pass with so many images keeps for the backward pass."""

    def count(device: torch.device) -> int:
        kept: dict[int, Tensor] = {}  # by storage: several tensors may share one

        def keep(tensor: Tensor) -> Tensor:
            kept[tensor.untyped_storage()._cdata] = tensor
            return tensor

        with saved_tensors_hooks(keep, lambda tensor: tensor):
            _forward(task, blank_batch(fields, size, device), passes)
            return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())

    return _of_shapes(task, passes, count)


def _of_shapes(task: Task, passes: Passes, compute: Callable[[torch.device], T]) -> T:
    """Compute on shapes alone where that can be, without memory or arithmetic.

    An operation that cannot say its output's shape fails, each in another way: then the next way is tried.

    Args:
        compute: is told where its input belongs.
    """
    if passes.precision == "fp32":  # autocast does nothing on this device
        with suppress(Exception), _on_meta(task.model):
            return compute(torch.device("meta"))
    with suppress(Exception), FakeTensorMode(allow_non_fake_inputs=True):  # slower by a factor of three
        return compute(passes.device)
    return compute(passes.device)


@contextmanager
def _on_meta(model: nn.Module) -> Iterator[None]:
    """Parameters and buffers without values, in the same memory format; the model has its own again afterwards."""
    replaced: dict[int, Tensor] = {}  # a parameter may be in two places

    def bare(tensor: Tensor | None) -> Tensor | None:
        if tensor is None or id(tensor) in replaced:
            return tensor if tensor is None else replaced[id(tensor)]
        empty = torch.empty_like(tensor, device="meta")
        if isinstance(tensor, nn.Parameter):
            empty = nn.Parameter(empty, requires_grad=tensor.requires_grad)
        return replaced.setdefault(id(tensor), empty)

    tables: list[dict[str, Any]] = [
        table for module in model.modules() for table in (module._parameters, module._buffers)
    ]
    own = [dict(table) for table in tables]
    try:
        for table in tables:
            table.update({name: bare(tensor) for name, tensor in table.items()})
        yield
    finally:
        for table, tensors in zip(tables, own, strict=True):
            table.update(tensors)


def _forward(task: Task, batch: Batch, passes: Passes) -> Tensor:
    with passes.forward(0, 0):
        # the loss of a coupled task is that of the whole batch: it is no part of a micro-batch
        return task.embed(batch) if isinstance(task, CoupledTask) else task.training_loss(batch)[0]


def blank_batch(fields: Fields, size: int, device: torch.device) -> Batch:
    """So many samples of nothing but zeros."""
    batch = {}
    for name, (shape, dtype) in fields.items():
        kind = torch.from_numpy(np.empty(0, dtype)).dtype
        batch[name] = torch.zeros((size, *shape), dtype=kind, device=device)
    return batch
