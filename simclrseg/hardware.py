"""What the machine has, asked of the system and not of torch or ONNX Runtime."""

from __future__ import annotations

import os
import sys
from ctypes.util import find_library
from pathlib import Path


def nvidia_gpu_is_there() -> bool:
    """Whether the driver shows an NVIDIA GPU to this process; a hidden one does not count."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1"):
        return False
    if sys.platform == "win32":
        return find_library("nvcuda") is not None
    return any(Path("/dev").glob("nvidia[0-9]*")) or Path("/usr/lib/wsl/lib/libcuda.so.1").exists()
