"""An exported model, opened in ONNX Runtime on the device that was asked for. Never imports torch."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import tempfile
import threading
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from simclrseg.errors import DeviceError, ModelFileError, OutOfMemory, UsageError
from simclrseg.inference import tensorrt
from simclrseg.inference.graph import check_graph
from simclrseg.inference.signature import Describe, read_signature
from simclrseg.metadata import ModelMetadata
from simclrseg.system.checksum import DAMAGED, checked_meanwhile
from simclrseg.system.files import held_back, make_folder
from simclrseg.system.hardware import available_memory, nvidia_gpu_is_there
from simclrseg.system.identify import what_it_is, why_no_model, why_not_a_file

log = logging.getLogger(__name__)

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
# pictures come in many shapes; the default would time every algorithm for each of them
CUDA_OPTIONS = {"cudnn_conv_algo_search": "HEURISTIC"}
SILENT, ERRORS = 4, 3  # severities of ONNX Runtime's own log
_SLACK = 0.01  # by which rounding may leave [0, 1]
_OUT_OF_MEMORY = re.compile(r"allocat|out of memory|bad_alloc", re.IGNORECASE)


@dataclass(frozen=True)
class Model:
    """An open model: ``image`` in, ``probability`` and ``mask``, or ``label``, out (exporters/onnx.py)."""

    session: onnxruntime.InferenceSession
    metadata: ModelMetadata
    provider: str
    path: Path
    cause: str = ""
    """Why the GPU is not used, where that was to be expected."""
    _buffers: dict[tuple[int, ...], Buffers] = field(default_factory=dict, repr=False)
    _one_at_a_time: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def describe(self) -> str:
        """The first line of a command: ``ONNX Runtime 1.31.1 on CPU``."""
        return f"ONNX Runtime {onnxruntime.__version__} on {self.device}"

    @property
    def device(self) -> str:
        """Where it really computes: ``CPU``, ``CUDA``, ``Tensorrt``."""
        return self.provider.removesuffix("ExecutionProvider")

    @property
    def classifies(self) -> bool:
        """Tell whether it gives one label a picture rather than a mask."""
        return "label" in {output.name for output in self.session.get_outputs()}

    @property
    def dtype(self) -> np.dtype:
        """Type of the pixels that it takes."""
        kind: str = self.session.get_inputs()[0].type
        return np.dtype(kind.removeprefix("tensor(").removesuffix(")"))

    @property
    def fixed(self) -> tuple[int | None, int | None, int | None]:
        """(N, H, W) where it takes no other."""
        shape = self.session.get_inputs()[0].shape[:3]  # names stand where any size will do
        count, height, width = (size if isinstance(size, int) else None for size in shape)
        return count, height, width

    def run(self, batch: np.ndarray) -> np.ndarray:
        """Give the output ``probability`` for pictures (N, H, W, bands).

        A model of a fixed number of pictures gets them in parts of that number, the last one filled up; one of a fixed
        size gets smaller pictures with their edges repeated, and what it says of the added pixels is cut off.
        On a GPU the pictures go through buffers there that are kept for the next batch of the same shape.

        Raises:
            MemoryError: if there is not enough for this batch.
            ModelFileError: if the model fails on it otherwise.
        """
        count, height, width = len(batch), *batch.shape[1:3]
        part = self.fixed[0] or count
        below, right = (self.fixed[1] or height) - height, (self.fixed[2] or width) - width
        if (part, below, right) == (count, 0, 0):
            return self._run(batch)
        filled = np.pad(batch, ((0, -count % part), (0, below), (0, right), (0, 0)), "edge")
        found = np.concatenate([self._run(filled[first : first + part]) for first in range(0, len(filled), part)])
        return found[:count] if self.classifies else found[:count, ..., :height, :width]

    def _run(self, batch: np.ndarray) -> np.ndarray:
        probability = self._answer(batch)
        if reason := self._why_no_answer(batch, probability):
            raise ModelFileError(f"{self.path} {reason}", "`simclrseg export RUN` makes another", path=self.path)
        return probability

    def _why_no_answer(self, batch: np.ndarray, probability: np.ndarray) -> str:
        """What a model's answer has that no probabilities have; empty where it may be right."""
        (count, *size), shape = batch.shape[:3], probability.shape
        named = len(self.metadata.classes) or None
        if self.classifies:
            fits = len(shape) == 2 and shape[0] == count and named in (None, shape[1])
        elif len(shape) == 3:
            fits = shape == (count, *size) and named in (None, 2)
        else:
            fits = len(shape) == 4 and (shape[0], *shape[2:]) == (count, *size) and named in (None, shape[1])
        if not fits:
            pictures = " x ".join(map(str, batch.shape))
            return f"gives probability in the shape {shape} for pictures {pictures} and {named or 'its'} classes"
        if probability.size and not -_SLACK <= probability.min() <= probability.max() <= 1 + _SLACK:  # or one is NaN
            reach = f"from {probability.min():g} to {probability.max():g}"
            return f"gives probabilities {reach}, as no softmax or sigmoid does"
        return ""

    def _answer(self, batch: np.ndarray) -> np.ndarray:
        try:
            if self.provider == CPU:
                probability: np.ndarray = self.session.run(["probability"], {"image": batch})[0]
                return probability
            with self._one_at_a_time:
                if batch.shape not in self._buffers:
                    self._buffers.clear()
                    self._buffers[batch.shape] = Buffers(self.session, batch, "cuda")
                return self._buffers[batch.shape].run(batch)
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            if isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(str(error)):
                raise MemoryError(_first_line(str(error))) from error
            pictures = f"pictures {' x '.join(map(str, batch.shape))}"
            reason = f"{self.path} fails on {pictures} ({_first_line(str(error))})"
            raise ModelFileError(reason, path=self.path) from error


class Buffers:
    """Memory on the device for batches of one shape."""

    def __init__(self, session: onnxruntime.InferenceSession, batch: np.ndarray, device: str) -> None:
        self._session = session
        self._image = onnxruntime.OrtValue.ortvalue_from_shape_and_type(batch.shape, batch.dtype.type, device, 0)
        self._binding = session.io_binding()
        self._binding.bind_ortvalue_input("image", self._image)
        self._binding.bind_output("probability", device)

    def run(self, batch: np.ndarray) -> np.ndarray:
        self._image.update_inplace(batch)
        self._session.run_with_iobinding(self._binding)
        probability: np.ndarray = self._binding.copy_outputs_to_cpu()[0]
        return probability


def open_model(
    path: Path,
    device: str = "auto",
    *,
    threads: int | None = None,
    once: bool = False,
    largest: tuple[int, int, int] | None = None,
    cache: Path | None = None,
    describe: Describe | None = None,
) -> Model:
    """Open an exported model, and see which device it really got.

    ``auto`` takes the GPU when there is an NVIDIA one; if it cannot be used, one warning says why and the CPU is taken.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``tensorrt``.
        threads: that compute one batch on the CPU; ONNX Runtime's own choice by default.
        once: for one batch only, so that on the CPU less is prepared: 20 ms sooner open, and 10 ms longer a batch
            (ResNet-18 at 256 px).
        largest: (N, H, W) of the batches that will come, for ``tensorrt``; by default 8 of the training size.
        cache: folder below which ``tensorrt`` keeps its engines.
        describe: gives the metadata of a file that has none.

    Raises:
        ModelFileError: if the file cannot be read, is damaged or was not exported by this tool; NoMetadata if it does
            not say so.
        DeviceError: if the device was asked for and cannot be used; UsageError if there is no such device.
    """
    if device == "mps":
        raise DeviceError("ONNX Runtime has no device mps", "use --device cpu, or auto")
    if device not in ("auto", "cpu", "cuda", "tensorrt"):
        remedy = "choose from auto, cpu, cuda, tensorrt"
        raise UsageError(f"unknown device {device!r}", remedy, option="device", value=device)
    if reason := why_not_a_file(path):
        raise ModelFileError(f"{path}: {reason}", path=path)
    check_graph(path)
    onnxruntime.set_default_logger_severity(SILENT)
    session, cause = None, ""
    remedy = "export it again with `simclrseg export RUN`, or fetch it again"
    with checked_meanwhile(path, ModelFileError(f"{path} {DAMAGED}", remedy, path=path)):
        if device == "tensorrt":
            session, cause = _open_on_gpu(path, [_tensorrt(path, largest, cache), (CUDA, CUDA_OPTIONS)])
        elif device == "cuda" or (device == "auto" and nvidia_gpu_is_there()):
            session, cause = _open_on_gpu(path, [(CUDA, CUDA_OPTIONS)])
        if session is None and device in ("cuda", "tensorrt"):
            reason = f"--device {device} cannot be used by ONNX Runtime: {cause}"
            raise DeviceError(reason, "use --device cpu, or auto", option="device", value=device)
        if session is None:
            session = _open_on_cpu(path, threads=threads, once=once)
        metadata = read_signature(session, path, describe)
    if cause:
        log.warning("the NVIDIA GPU is not used: %s", cause)
    return Model(session, metadata, session.get_providers()[0], path, cause)


def _tensorrt(path: Path, largest: tuple[int, int, int] | None, cache: Path | None) -> tuple[str, dict[str, str]]:
    """TensorRT's provider and its options, its libraries loaded and its folder made."""
    tensorrt.load_libraries()
    metadata = read_signature(_open_on_cpu(path, threads=1), path)
    count, height, width = largest or (8, metadata.image_size, metadata.image_size)
    cache = cache or Path(tempfile.gettempdir())
    options = tensorrt.options(path, (count, height, width, metadata.in_channels), cache)
    folder = Path(options["trt_engine_cache_path"])
    make_folder(folder)
    if not any(folder.glob("*.engine")):
        log.info("TensorRT builds an engine for this model and GPU, once: it can take minutes")
    return tensorrt.PROVIDER, options


def _open_on_gpu(
    path: Path, providers: list[tuple[str, dict[str, str]]]
) -> tuple[onnxruntime.InferenceSession | None, str]:
    """A session on the first of the providers, or None and the cause."""
    first = providers[0][0]
    if first not in onnxruntime.get_available_providers():
        return None, (
            f"this ONNX Runtime ({onnxruntime.__version__}) is built for the CPU only; "
            "`pip uninstall onnxruntime`, then `pip install --force-reinstall 'onnxruntime-gpu[cuda,cudnn]'`"
        )
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does not find
        onnxruntime.preload_dlls()
    with held_back(2) as said:  # the only place where ONNX Runtime says why it left the GPU
        onnxruntime.set_default_logger_severity(ERRORS)
        try:
            session = _session(path, [*providers, CPU], severity=ERRORS)
        except Exception as error:  # ONNX Runtime's exceptions have no common base; a bad file fails again on the CPU
            return None, _cause(str(error))
        finally:
            onnxruntime.set_default_logger_severity(SILENT)
    if session.get_providers()[0] == first:
        return session, ""
    return None, _cause("".join(said))


def _open_on_cpu(path: Path, *, threads: int | None, once: bool = False) -> onnxruntime.InferenceSession:
    try:
        return _session(path, [CPU], severity=SILENT, threads=threads, once=once)
    except Exception as error:  # as above
        if "bad_alloc" in str(error):
            raise OutOfMemory(f"out of memory when {path} was opened", "free some memory", path=path) from error
        if what := what_it_is(path):
            raise ModelFileError(f"{path} {what}", path=path) from error
        reason = f"{path} is no ONNX model that can be read ({_first_line(str(error))})"
        raise ModelFileError(reason, "export it again", path=path) from error


def _session(
    path: Path, providers: list[Any], *, severity: int, threads: int | None = None, once: bool = False
) -> onnxruntime.InferenceSession:
    """A session that fails here if at all: not later, and not with a banner on stdout, where only data may go."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = severity
    options.enable_mem_pattern = False  # one block for all that a batch needs is larger, and not faster
    options.intra_op_num_threads = threads or 0  # 0 leaves it to ONNX Runtime
    if _memory_is_bounded():
        options.add_session_config_entry("session.use_env_allocators", "1")
    if once:  # the weights are not laid out anew for this CPU; quantized layers are fused, as basic ones are not
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    session = onnxruntime.InferenceSession(readable(path), options, providers=providers, enable_fallback=0)
    _ = session.get_modelmeta().custom_metadata_map  # texts are decoded when they are read, and may be damaged
    for tensor in (*session.get_inputs(), *session.get_outputs()):
        _ = tensor.name, tensor.shape
    return session


@cache
def _memory_is_bounded() -> bool:
    """Give the sessions of this process an allocator that fails before the machine does: graphs ask for what they like.

    Once: ONNX Runtime takes no other afterwards.
    """
    if (most := available_memory()) is None:
        return False
    cpu = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    try:
        onnxruntime.create_and_register_allocator(cpu, onnxruntime.OrtArenaCfg({"max_mem": most}))
    except Exception:  # a program that calls us has given it one; ONNX Runtime's exceptions have no common base
        return False
    return True


def readable(path: Path) -> Path | bytes:
    """A model as ONNX Runtime takes it: its content where the names of folders around it are no UTF-8."""
    return path.read_bytes() if why_no_model(path.absolute()) else path


def _cause(said: str) -> str:
    """One line out of ONNX Runtime's log on why it did not take the GPU."""
    if failure := re.search(r"CUDA failure \d+: ([^;\n]+)", said):
        return f"its driver does not fit, or is not there ({failure[1].strip()})"
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
