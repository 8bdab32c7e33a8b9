"""An exported model, opened in ONNX Runtime on the device that was asked for. Never imports torch."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnxruntime

from simclrseg.errors import DeviceError, ModelFileError, UsageError
from simclrseg.hardware import nvidia_gpu_is_there
from simclrseg.metadata import ONNX_PREFIX, ModelMetadata

log = logging.getLogger(__name__)

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
# pictures come in many shapes; the default would time every algorithm for each of them
CUDA_OPTIONS = {"cudnn_conv_algo_search": "HEURISTIC"}
SILENT, ERRORS = 4, 3  # severities of ONNX Runtime's own log


@dataclass(frozen=True)
class Model:
    """An open model: ``session`` takes ``image`` and gives ``probability`` and ``mask`` (exporters/onnx.py)."""

    session: onnxruntime.InferenceSession
    metadata: ModelMetadata
    provider: str
    path: Path

    def describe(self) -> str:
        """The first line of a command: ``ONNX Runtime 1.31.1 on CPU``."""
        device = "CPU" if self.provider == CPU else self.provider.removesuffix("ExecutionProvider")
        return f"ONNX Runtime {onnxruntime.__version__} on {device}"


def open_model(path: Path, device: str = "auto") -> Model:
    """Open an exported model, and see which device it really got.

    ``auto`` takes the GPU when there is an NVIDIA one; if it cannot be used, one warning says why and the CPU is taken.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        ModelFileError: if the file cannot be read or was not exported by this tool.
        DeviceError: if ``cuda`` was asked for and cannot be used, or ``mps``, which ONNX Runtime does not have.
        UsageError: if there is no such device.
    """
    if device == "mps":
        raise DeviceError("ONNX Runtime has no device mps: use --device cpu, or auto")
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"unknown device {device!r}: choose from auto, cpu, cuda")
    if not path.is_file():
        raise ModelFileError(f"{path} is a folder, not a model" if path.is_dir() else f"{path}: no such file")
    onnxruntime.set_default_logger_severity(SILENT)
    session, cause = None, ""
    if device == "cuda" or (device == "auto" and nvidia_gpu_is_there()):
        session, cause = _open_on_cuda(path)
    if session is None and device == "cuda":
        raise DeviceError(f"--device cuda cannot be used by ONNX Runtime: {cause}; use --device cpu, or auto")
    if session is None:
        session = _open_on_cpu(path)
    metadata = _metadata(session, path)
    if cause:
        log.warning("the NVIDIA GPU is not used: %s", cause)
    return Model(session, metadata, session.get_providers()[0], path)


def _open_on_cuda(path: Path) -> tuple[onnxruntime.InferenceSession | None, str]:
    """A session on the GPU, or None and the cause."""
    if CUDA not in onnxruntime.get_available_providers():
        return None, (
            f"this ONNX Runtime ({onnxruntime.__version__}) is built for the CPU only; "
            "`pip uninstall onnxruntime`, then `pip install --force-reinstall 'onnxruntime-gpu[cuda,cudnn]'`"
        )
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does not find
        onnxruntime.preload_dlls()
    with _stderr_of_process() as said:
        onnxruntime.set_default_logger_severity(ERRORS)
        try:
            session = onnxruntime.InferenceSession(path, _options(ERRORS), providers=[(CUDA, CUDA_OPTIONS), CPU])
        except Exception as error:  # ONNX Runtime's exceptions have no common base; a bad file fails again on the CPU
            return None, _first_line(str(error))
        finally:
            onnxruntime.set_default_logger_severity(SILENT)
    if session.get_providers()[0] == CUDA:
        return session, ""
    return None, _cause("".join(said))


def _open_on_cpu(path: Path) -> onnxruntime.InferenceSession:
    try:
        return onnxruntime.InferenceSession(path, _options(SILENT), providers=[CPU])
    except Exception as error:  # as above
        reason = _first_line(str(error))
        raise ModelFileError(f"{path} is no ONNX model that can be read ({reason}): export it again") from error


def _options(severity: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = severity
    return options


def _metadata(session: onnxruntime.InferenceSession, path: Path) -> ModelMetadata:
    header: dict[str, str] = session.get_modelmeta().custom_metadata_map
    try:
        metadata = ModelMetadata.from_strings(header, ONNX_PREFIX)
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from error
    names = {tensor.name for tensor in (*session.get_inputs(), *session.get_outputs())}
    if metadata is None or not names >= {"image", "probability", "mask"}:
        raise ModelFileError(f"{path} was not exported by simclrseg: `simclrseg export RUN` makes a model it can use")
    return metadata


@contextlib.contextmanager
def _stderr_of_process() -> Iterator[list[str]]:
    """Keep what C++ writes to stderr meanwhile: the only place where ONNX Runtime says why it left the GPU."""
    said: list[str] = []
    with tempfile.TemporaryFile() as file:
        original = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield said
        finally:
            os.dup2(original, 2)
            os.close(original)
            file.seek(0)
            said.append(file.read().decode(errors="replace"))


def _cause(said: str) -> str:
    """One line out of ONNX Runtime's log on why it did not take the GPU."""
    library = re.search(r"with error: (.+)", said)
    if library is None:
        return _first_line(said) or "ONNX Runtime does not say why"
    reason = library[1].strip()
    if "libcuda.so" in reason or "nvcuda" in reason:
        return f"its driver is not installed, or not visible here ({reason})"
    return f"a library is missing ({reason}); `pip install 'onnxruntime-gpu[cuda,cudnn]'` brings it"


def _first_line(text: str) -> str:
    """The first line without colours, and without what precedes the words meant for people."""
    line = re.sub(r"\x1b\[[0-9;]*m", "", text).strip().partition("\n")[0]
    return re.sub(r"^.*\[ONNXRuntimeError\] : \d+ : \w+ : ", "", line)[:300]
