"""TensorRT for ONNX Runtime: its libraries, fixed shapes and a folder for engines."""

from __future__ import annotations

import ctypes
import re
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import onnxruntime

from simclrseg.errors import DeviceError
from simclrseg.system.files import sha256_of

PROVIDER = "TensorrtExecutionProvider"
_REMEDY = "`pip install 'simclrseg[tensorrt]'` brings it, or use --device cuda"

Shape = tuple[int, int, int, int]
"""(N, H, W, bands) of the largest batch."""


def load_libraries() -> None:
    """Load TensorRT from its package, so that ONNX Runtime finds it.

    Raises:
        DeviceError: if it is not installed or cannot be loaded.
    """
    spec = find_spec("tensorrt_libs")  # the extra [tensorrt] brings it
    if spec is None or not spec.submodule_search_locations:
        raise DeviceError(f"--device tensorrt needs TensorRT, which is not installed: {_REMEDY}", option="device")
    folder = Path(next(iter(spec.submodule_search_locations)))
    pattern = r"(lib)?nv(infer|onnxparser)(_10\.dll|\.so\.10)"
    found = sorted(file for file in folder.iterdir() if re.fullmatch(pattern, file.name))
    if len(found) < 2:
        raise DeviceError(
            f"--device tensorrt needs TensorRT 10, which {folder} does not hold: {_REMEDY}", option="device"
        )
    for library in sorted(found, key=lambda file: "parser" in file.name):  # the parser needs the other
        try:
            ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            raise DeviceError(
                f"--device tensorrt: {library.name} cannot be loaded ({error}): {_REMEDY}", option="device"
            ) from error


def options(model: Path, shape: Shape, cache: Path) -> dict[str, str]:
    """The provider's options: engines and timings are kept below ``cache``, and serve for every batch up to ``shape``.

    Building an engine takes minutes, so it is done once for each model, GPU and version.
    """
    folder = cache / "tensorrt" / engine_key(model)
    one, most = ("x".join(map(str, (count, *shape[1:]))) for count in (1, shape[0]))
    return {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(folder),
        # all three, or every new shape builds an engine again
        "trt_profile_min_shapes": f"image:{one}",
        "trt_profile_opt_shapes": f"image:{most}",
        "trt_profile_max_shapes": f"image:{most}",
    }


def engine_key(model: Path) -> str:
    """The name of the folder of a model's engines: by its contents, the GPU and the versions of what built them."""
    try:
        libraries = version("tensorrt-cu13-libs")
    except PackageNotFoundError:
        libraries = "-unknown"
    parts = (sha256_of(model)[:16], gpu_name(), f"trt{libraries}", f"ort{onnxruntime.__version__}")
    return "-".join(re.sub(r"[^A-Za-z0-9.]+", "_", part) for part in parts)


def gpu_name() -> str:
    """Name of the first GPU that this process sees, as the driver has it."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return "no-gpu"
    name, device = ctypes.create_string_buffer(128), ctypes.c_int()
    failed = driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), 0)
    failed = failed or driver.cuDeviceGetName(name, len(name), device)
    return "unknown-gpu" if failed else name.value.decode(errors="replace")
