"""Several processes that train as one, as torchrun starts them; alone, everything here does nothing.

``meet`` and ``start`` join the processes, ``dismiss`` ends that. In between each process has its share of every batch,
and the loss of the whole is the sum of the processes' losses, each weighted by its share: gradients are summed.
"""

from __future__ import annotations

import base64
import os
import pickle
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import count as numbers
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from simclrseg.errors import UsageError
from simclrseg.system.files import held_back
from simclrseg.system.signals import ending_at_once

_PATIENCE = timedelta(hours=2)  # others wait while the first process downloads a dataset
_FAREWELL = timedelta(seconds=10)  # a process that failed waits so long for the others to see it
BUCKET = 64 << 20  # bytes that are summed over processes at once
_store: dist.Store | None = None
_made = numbers()  # what ``from_main`` has made, counted alike in all processes

T = TypeVar("T")


def rank() -> int:
    """Number of this process among all of them, from 0."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """Number of processes that train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_rank() -> int:
    """Number of this process among those of its machine, from 0."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def local_world_size() -> int:
    """Number of those processes that run on this machine and share its memory."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def is_main() -> bool:
    """Tell whether this process writes files and lines: the first does, for all."""
    return rank() == 0


def meet() -> None:
    """Find the other processes, if there are any: from here on each hears of the others' failures."""
    global _store
    if world_size() == 1 or _store is not None:
        return
    if "MASTER_ADDR" not in os.environ:
        raise UsageError(
            f"WORLD_SIZE is {world_size()}, but MASTER_ADDR is not set",
            "start the processes with torchrun",
            option="devices",
        )
    if sys.platform == "win32":  # whose builds of torch have no libuv, which some ask for all the same
        os.environ.setdefault("USE_LIBUV", "0")
    with ending_at_once():
        _store, _, _ = next(rendezvous("env://", timeout=_PATIENCE))


def start(device: torch.device) -> None:
    """Join the processes: over NCCL between GPUs, and over gloo for what lies in the RAM."""
    meet()
    if _store is not None and not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        with held_back(1):  # where gloo of torch 2.8 says that it is connected
            dist.init_process_group(backend, store=_store, rank=rank(), world_size=world_size(), timeout=_PATIENCE)


def dismiss() -> bool:
    """End the processes' work together, and tell whether this one goes on alone: the first does."""
    global _store
    if dist.is_initialized():
        barrier()  # nobody leaves before all have come here
        dist.destroy_process_group()
    _store = None
    return is_main()


def first_failure(code: int) -> tuple[bool, int]:
    """Tell the other processes that this one fails, and let them fail too.

    Returns:
        Whether this process is the first, whose line the user should see; and the exit code of the first, with which
        all end.
    """
    first = local_rank() == 0
    if _store is None:  # before they met, where the processes of a machine fail alike
        return first, code
    try:
        first = _store.add("simclrseg/failed", 1) == 1
        if first:
            _store.set("simclrseg/code", str(code))
        else:
            _store.wait(["simclrseg/code"], _FAREWELL)
            code = int(_store.get("simclrseg/code"))
        if dist.is_initialized():
            dist.destroy_process_group()  # whoever waits for this process sees that it is gone
        # the others are killed soon after one has ended: let them end by themselves
        if _store.add("simclrseg/ended", 1) == world_size():
            _store.set("simclrseg/all", "")
        _store.wait(["simclrseg/all"], _FAREWELL)
    except RuntimeError:  # the store or another process is gone
        pass
    return first, code


def total(values: Tensor) -> Tensor:
    """The sum over all processes; one that lies in the RAM waits for no GPU."""
    if dist.is_initialized():
        values = values.clone()
        dist.all_reduce(values)
    return values


def count(number: int) -> int:
    """The sum over all processes."""
    return int(total(torch.tensor(number)))


def largest(number: int) -> int:
    """The largest over all processes."""
    values = torch.tensor(number)
    if dist.is_initialized():
        dist.all_reduce(values, op=dist.ReduceOp.MAX)
    return int(values)


def barrier() -> None:
    """Wait until all processes are here."""
    count(0)


@contextmanager
def main_first() -> Iterator[None]:
    """Let the first process go through the block before the others, as when a dataset is downloaded."""
    if not is_main():
        barrier()
    yield
    if is_main():
        barrier()


def from_main(make: Callable[[], T]) -> T:
    """Let the first process make something, and hand it to the others: what takes long is done once.

    Processes call it equally often, in the same order, also within ``main_first``.

    Args:
        make: its result can be pickled; what it raises ends all processes.
    """
    key = f"simclrseg/made/{next(_made)}"
    if _store is None:
        return make()
    if is_main():
        made = make()
        _store.set(key, base64.b64encode(pickle.dumps(made)).decode())
        barrier()
        return made
    barrier()
    theirs: T = pickle.loads(base64.b64decode(_store.get(key)))  # our own process wrote it
    return theirs


def union(texts: Iterable[str]) -> list[str]:
    """The different texts of all processes, sorted."""
    mine = list(texts)
    gathered: list[Any] = [mine]
    if dist.is_initialized():
        gathered = [None] * world_size()
        dist.all_gather_object(gathered, mine)
    return sorted({text for texts in gathered for text in texts})


def copy_from_main(tensors: Iterable[Tensor]) -> None:
    """Overwrite the tensors by those of the first process."""
    if dist.is_initialized():
        for tensor in tensors:
            dense = tensor.detach().contiguous()
            dist.broadcast(dense, 0)
            tensor.detach().copy_(dense)


def sum_in_place(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor by its sum over all processes, many in one message."""
    if not dist.is_initialized():
        return
    pending = []
    for bucket in _buckets(tensors):
        flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
        pending.append((bucket, flat, dist.all_reduce(flat, async_op=True)))
    for bucket, flat, work in pending:
        work.wait()
        for tensor, values in zip(bucket, flat.split([tensor.numel() for tensor in bucket]), strict=True):
            tensor.copy_(values.view(tensor.shape))


def _buckets(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """The tensors in order, those of one type together while they fit."""
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        if bucket and (size + tensor.nbytes > BUCKET or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += tensor.nbytes
    if bucket:
        yield bucket


def gather(rows: Tensor) -> Tensor:
    """The rows of all processes, (n, ...) -> (processes·n, ...) by rank; n is the same everywhere.

    It can be differentiated: each process gets the gradient of the sum of all losses.
    """
    if not dist.is_initialized():
        return rows
    gathered: Tensor = _Gather.apply(rows)
    return gathered


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous().clone()
        dist.all_reduce(gradient)
        return gradient.chunk(world_size())[rank()]
