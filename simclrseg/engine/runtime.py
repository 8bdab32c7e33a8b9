"""Device and number format of a run."""

from __future__ import annotations

import logging
import platform
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from simclrseg.errors import DeviceError, TrainingError
from simclrseg.system import distributed
from simclrseg.system.hardware import nvidia_gpu_is_there
from simclrseg.system.memory import give_back_freed, glibc

log = logging.getLogger(__name__)

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # as in malloc.h
_LARGEST_DYNAMIC = 2**25  # bytes: to which glibc itself raises the second, and to twice that the first
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str = "auto") -> torch.device:
    """The device of that name, or a DeviceError with what would help; ``auto`` takes a GPU where torch can use one."""
    if name == "auto":
        mps = torch.backends.mps.is_available() and distributed.world_size() == 1
        name = "cuda" if _cuda() else "mps" if mps else "cpu"
        if name == "cpu" and nvidia_gpu_is_there():
            log.warning("there is an NVIDIA GPU that torch cannot use: %s", _cuda_remedy())
    elif name == "cuda" and not _cuda():
        problem = _cuda_remedy() if nvidia_gpu_is_there() else "there is no NVIDIA GPU here"
        raise DeviceError(f"--device cuda: {problem}", option="device")
    elif name == "mps" and not torch.backends.mps.is_available():
        raise DeviceError(
            "--device mps: there is no Apple GPU that this torch can use", "try --device auto", option="device"
        )
    if name == "cpu" or distributed.world_size() == 1:
        return torch.device(name)
    if name == "mps":
        raise DeviceError("--device mps: an Apple GPU serves one process", "leave out --devices", option="device")
    processes, gpus = distributed.local_world_size(), torch.cuda.device_count()
    if processes > gpus:
        raise DeviceError(f"{processes} processes need as many GPUs, and there are {gpus}", f"pass --devices {gpus}")
    torch.cuda.set_device(distributed.local_rank())
    return torch.device("cuda", distributed.local_rank())


def choose_precision(name: str, device: torch.device) -> str:
    """``fp32``, ``bf16`` or ``fp16``; ``auto`` takes bf16 where the hardware computes in it, and fp16 on older GPUs."""
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    features = _capabilities() if device.type == "cpu" else {}
    multiplies = features.get("avx512_bf16") or features.get("amx_bf16")  # else torch emulates it, slower than fp32
    return "bf16" if multiplies else "fp32"


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """The context in which forward passes run."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, _DTYPES[precision])


@contextmanager
def freed_memory_kept(device: torch.device) -> Iterator[None]:
    """On a CPU, let glibc keep what one training step frees for the next, and give it back after the block.

    It otherwise gives large blocks back at once, and each step gets them again page by page: a tenth of its time
    (``tests/benchmarks/train_step.py``). Other allocators are left as they are.
    """
    libc = glibc() if device.type == "cpu" else None
    if libc is None:
        yield
        return
    libc.mallopt(_M_MMAP_THRESHOLD, 2**30) or libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_DYNAMIC)  # old ones take no more
    libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    try:
        yield
    finally:
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_DYNAMIC)
        libc.mallopt(_M_TRIM_THRESHOLD, 2 * _LARGEST_DYNAMIC)
        give_back_freed()


@contextmanager
def compiled(model: nn.Module, *, enabled: bool = True) -> Iterator[None]:
    """Run the model through torch.compile inside the block; its keys stay. TrainingError where there is no compiler."""
    if not enabled:
        yield
        return
    from torch._dynamo.exc import TorchDynamoException  # a second to import
    from torch._inductor.exc import InductorError, InvalidCxxCompiler

    model.compile()
    try:
        yield
    except (TorchDynamoException, InductorError, InvalidCxxCompiler) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise TrainingError(
            f"--compile does not work here ({reason[:160]})",
            "leave it out, or install a C++ compiler such as g++",
            option="compile",
        ) from error
    finally:
        model._compiled_call_impl = None


def describe(device: torch.device, precision: str) -> str:
    """A command's first line: ``torch 2.15.0+cu132 on CPU (AMD EPYC, 4 threads), bf16``."""
    if device.type == "cuda":
        where = torch.cuda.get_device_name(device)
    else:
        where = str(_capabilities().get("cpu_name") or platform.processor() or platform.machine())
    if device.type == "cpu":
        where += f", {torch.get_num_threads()} threads"
    return f"torch {torch.__version__} on {device.type.upper()} ({where}), {precision}"


def _cuda() -> bool:
    with warnings.catch_warnings(action="ignore"):  # a driver that is too old is reported by us, in one line
        return torch.cuda.is_available()


def _cuda_remedy() -> str:
    if torch.version.cuda is not None:
        return f"torch {torch.__version__} needs a newer driver, or CUDA_VISIBLE_DEVICES hides the GPU; see nvidia-smi"
    remedy = "run: pip install --force-reinstall torch torchvision"
    if sys.platform == "win32":  # where pip's own builds have no CUDA
        remedy = "choose CUDA at pytorch.org/get-started and run the command it shows, with --force-reinstall"
    return f"torch {torch.__version__} is a build for the CPU; {remedy}"


def _capabilities() -> Mapping[str, Any]:
    """Features of the CPU; torch before 2.10 has no word for all of them."""
    if hasattr(torch.cpu, "get_capabilities"):
        found: Mapping[str, Any] = torch.cpu.get_capabilities()
        return found
    return {"avx512_bf16": torch.cpu._is_avx512_bf16_supported(), "amx_bf16": torch.cpu._is_amx_tile_supported()}
