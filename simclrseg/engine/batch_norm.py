"""Batch norm over several processes, which see one micro-batch together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from simclrseg.system import distributed

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d


@contextmanager
def synchronized(model: nn.Module, teacher: nn.Module | None = None) -> Iterator[None]:
    """Let batch norm see the micro-batches of all processes while the block runs.

    Parameters and buffers stay the same tensors under the same keys; a teacher, which computes as in evaluation, stays
    as it is.
    """
    if distributed.world_size() == 1:
        yield
        return
    apart = set() if teacher is None else set(teacher.modules())
    layers = [
        (module, name, layer, SynchronizedBatchNorm(layer))
        for module in model.modules()
        for name, layer in module.named_children()
        if isinstance(layer, BatchNorm) and layer not in apart
    ]
    for module, name, _, twin in layers:
        setattr(module, name, twin)
    try:
        yield
    finally:
        for module, name, layer, twin in layers:
            layer.train(twin.training)
            setattr(module, name, layer)


class SynchronizedBatchNorm(nn.SyncBatchNorm):
    """torch's on a GPU, and the same from ordinary operations elsewhere, where torch has none.

    Args:
        layer: the batch norm whose parameters and buffers it shares. timm's carries on with dropout and activation.
    """

    def __init__(self, layer: BatchNorm) -> None:
        super().__init__(
            layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats, device="meta"
        )
        self.weight, self.bias = layer.weight, layer.bias
        for name, buffer in layer.named_buffers(recurse=False):
            setattr(self, name, buffer)
        self.rest = [part for part in (getattr(layer, "drop", None), getattr(layer, "act", None)) if part is not None]
        self.train(layer.training)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ...) -> the same; N may differ between processes, and be 0."""
        x = self._normalized(x) if self.training and not x.is_cuda else super().forward(x)
        for part in self.rest:
            x = part(x)
        return x

    def _normalized(self, x: Tensor) -> Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        axes = [axis for axis in range(x.ndim) if axis != 1]
        number = x.numel() // x.shape[1]
        mean = wide.sum(axes) / max(number, 1)  # (C,)
        squares = (wide - self._along(mean, x)).square().sum(axes)  # about this process's own mean
        own = torch.stack([torch.full_like(mean, number), mean, squares])
        numbers, means, squares = distributed.gather(own[None]).unbind(1)  # each (processes, C)
        everyone = numbers.sum(0)
        mean = (numbers * means).sum(0) / everyone
        squares = (squares + numbers * (means - mean).square()).sum(0)
        self._track(mean, squares / (everyone - 1).clamp(min=1))
        scale = torch.rsqrt(squares / everyone + self.eps)
        shift = -mean * scale
        if self.affine:
            scale, shift = scale * self.weight, shift * self.weight + self.bias
        return (wide * self._along(scale, x) + self._along(shift, x)).to(x.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        if not self.track_running_stats:
            return
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = self.momentum if self.momentum is not None else 1 / self.num_batches_tracked.item()
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(variance.to(self.running_var.dtype), share)

    @staticmethod
    def _along(values: Tensor, x: Tensor) -> Tensor:
        """(C,) -> (C, 1, ...), to go with x."""
        return values.view(-1, *[1] * (x.ndim - 2))
