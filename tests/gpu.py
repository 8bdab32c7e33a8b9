"""Tests that run alike on a CPU and on a GPU, and such as need a GPU; ``.ci/gpu`` runs those marked ``gpu``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

MARKS = (
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no NVIDIA GPU that it can use"),
)
CUDA = pytest.param(torch.device("cuda"), marks=MARKS, id="cuda")
EACH_DEVICE = pytest.mark.parametrize("device", [pytest.param(torch.device("cpu"), id="cpu"), CUDA])
ON_A_GPU = pytest.mark.parametrize("device", [CUDA])


@contextmanager
def only_free(amount: int, device: torch.device) -> Iterator[int]:
    """Leave so many bytes of the GPU's memory free while the block runs, and give those that torch has by then."""
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(device)
    ballast = torch.empty(max(0, free - amount), dtype=torch.uint8, device=device)
    torch.cuda.reset_peak_memory_stats(device)
    try:
        yield torch.cuda.memory_reserved(device)
    finally:
        del ballast
        torch.cuda.empty_cache()
