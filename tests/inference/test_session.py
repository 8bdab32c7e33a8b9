"""Opening exported models: files, devices, and what is not imported on the way."""

from __future__ import annotations

import logging
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest

from simclrseg.errors import DeviceError, ModelFileError, UsageError
from simclrseg.inference import session, tensorrt
from simclrseg.inference.session import CPU, CUDA, open_model
from tests.inference.models import write_segmenter

CACHE = "trt_engine_cache_path"
HEAVY = ("torch", "torchvision", "segmentation_models_pytorch", "timm", "onnx", "matplotlib")


@pytest.mark.parametrize(
    "module", ["session", "tiling", "outputs", "predictor", "pipeline", "inputs", "jobs", "signature"]
)
def test_importing_inference_never_imports_torch(module):
    code = f"import sys, simclrseg.inference.{module}; print(*(m for m in {HEAVY} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_predicting_never_imports_torch_and_says_nothing(make_model):
    code = f"""
import sys, numpy as np
from pathlib import Path
from simclrseg.inference.session import open_model
from simclrseg.inference.predictor import Predictor
list(Predictor(open_model(Path({str(make_model())!r}))).predict([np.zeros((20, 30, 3), np.uint8)])[0])
assert not [m for m in {HEAVY} if m in sys.modules]
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_first_line_names_the_device_that_the_session_got(make_model):
    model = open_model(make_model(), "cpu")
    assert model.describe() == f"ONNX Runtime {onnxruntime.__version__} on CPU"
    assert model.metadata.classes == ("background", "cat")


def test_auto_without_a_gpu_takes_the_cpu_without_a_word(make_model, monkeypatch, caplog, capfd):
    monkeypatch.setattr(session, "nvidia_gpu_is_there", lambda: False)
    assert open_model(make_model(), "auto").provider == CPU
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


def refuse_the_gpu(monkeypatch, reason):
    """Let ONNX Runtime, whatever its build, fail on a GPU with this reason."""
    original = onnxruntime.InferenceSession

    def on_the_cpu_only(path, options, providers, **rest):
        if CUDA in [provider[0] for provider in providers]:
            raise RuntimeError(reason)
        return original(path, options, providers=providers, **rest)

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(onnxruntime, "InferenceSession", on_the_cpu_only)


def test_auto_that_cannot_use_a_gpu_says_so_once_with_the_cause(make_model, monkeypatch, caplog, capfd):
    monkeypatch.setattr(session, "nvidia_gpu_is_there", lambda: True)
    refuse_the_gpu(monkeypatch, "libcudnn.so.9 is missing")
    assert open_model(make_model(), "auto").provider == CPU
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == "the NVIDIA GPU is not used: libcudnn.so.9 is missing"
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(session.nvidia_gpu_is_there(), reason="there is a GPU")
def test_cuda_that_is_not_there_is_a_device_error_with_the_reason(make_model, capfd):
    with pytest.raises(DeviceError, match=r"--device cuda .*(libcuda|nvcuda|driver|CPU only).*--device cpu") as caught:
        open_model(make_model(), "cuda")
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", ""), "ONNX Runtime's own log must not reach the terminal"


def test_a_cpu_build_of_onnxruntime_is_named_with_its_remedy(make_model, monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CPU])
    with pytest.raises(DeviceError, match=r"built for the CPU only.*pip install.*onnxruntime-gpu"):
        open_model(make_model(), "cuda")


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        (
            "\x1b[1;31m2026 [E:onnxruntime:Default, x.cc:1 f()] /y.cc:2 Get() [ONNXRuntimeError] : 1 : FAIL : Failed"
            " to load library /a/b.so with error: libcudnn.so.9: cannot open shared object file\n\x1b[m\n2026 [W] more",
            "a library is missing (libcudnn.so.9: cannot open shared object file); "
            "`pip install 'onnxruntime-gpu[cuda,cudnn]'` brings it",
        ),
        (
            "2026 [E] [ONNXRuntimeError] : 1 : FAIL : CUDA failure 100: no device ; GPU=-1\nmore",
            "its driver does not fit, or is not there (no device)",
        ),
        ("", "ONNX Runtime does not say why"),
    ],
)
def test_the_cause_is_one_line_out_of_the_runtimes_log(make_model, monkeypatch, said, cause):
    refuse_the_gpu(monkeypatch, said)
    with pytest.raises(DeviceError) as caught:
        open_model(make_model(), "cuda")
    assert str(caught.value) == f"--device cuda cannot be used by ONNX Runtime: {cause}; use --device cpu, or auto"


def test_a_hidden_gpu_does_not_count(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not session.nvidia_gpu_is_there()


def test_buffers_that_are_kept_give_what_a_plain_run_gives(make_model):
    model = open_model(make_model(), "cpu")
    batches = np.random.default_rng(0).integers(0, 256, (3, 2, 20, 30, 3)).astype(np.uint8)
    buffers = session.Buffers(model.session, batches[0], "cpu")
    for batch in batches:
        np.testing.assert_array_equal(buffers.run(batch), model.run(batch))


def test_a_model_that_fails_on_a_picture_is_named(make_model):
    path = make_model()
    with pytest.raises(ModelFileError, match=r"model\.onnx fails on pictures 1 x 8 x 8 x 4 \("):
        open_model(path, "cpu").run(np.zeros((1, 8, 8, 4), np.uint8))


def test_tensorrt_that_is_not_installed_is_a_device_error_with_the_remedy(make_model):
    with pytest.raises(DeviceError, match=r"TensorRT, which is not installed: `pip install 'simclrseg\[tensorrt\]'`"):
        open_model(make_model(), "tensorrt")


def test_engines_are_kept_by_model_gpu_and_version(make_model, tmp_path, monkeypatch):
    monkeypatch.setattr(tensorrt, "gpu_name", lambda: "NVIDIA H100 80GB")
    path = make_model()
    options = tensorrt.options(path, (8, 512, 512, 3), tmp_path)
    assert options["trt_profile_min_shapes"] == "image:1x512x512x3"
    assert options["trt_profile_max_shapes"] == "image:8x512x512x3"
    key = tensorrt.engine_key(path)
    assert options["trt_engine_cache_path"] == str(tmp_path / "tensorrt" / key)
    assert "NVIDIA_H100_80GB" in key and onnxruntime.__version__ in key
    path.write_bytes(path.read_bytes() + b"\0")
    assert tensorrt.engine_key(path) != key


def test_engines_are_built_for_the_bands_of_the_model(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(tensorrt, "load_libraries", lambda: None)
    monkeypatch.setattr(tensorrt, "options", lambda path, shape, cache: asked.append(shape) or {CACHE: str(tmp_path)})
    model = write_segmenter(tmp_path / "a.onnx", bands=("red", "green", "blue", "nir"))
    for largest in (None, (8, 512, 512)):
        with pytest.raises(DeviceError):  # there is no TensorRT
            open_model(model, "tensorrt", largest=largest)
    assert asked == [(8, 16, 16, 4), (8, 512, 512, 4)]


def test_a_classifier_is_told_from_a_segmentation_model(make_model, make_classifier):
    assert [open_model(path, "cpu").classifies for path in (make_model(), make_classifier())] == [False, True]


def test_mps_is_no_device_of_onnxruntime(make_model):
    with pytest.raises(DeviceError, match="no device mps"):
        open_model(make_model(), "mps")


def test_an_unknown_device_is_refused(make_model):
    with pytest.raises(UsageError, match="'gpu': choose from auto, cpu, cuda, tensorrt"):
        open_model(make_model(), "gpu")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"hello world", r"is text \(hello world\)"),
        (b"\x08\x0a\x12", "is no ONNX model that can be read"),
    ],
)
def test_a_file_that_is_no_onnx_model_is_refused(tmp_path, content, what, capfd):
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=rf"broken\.onnx {what}") as caught:
        open_model(path)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(ModelFileError, match=r"none\.onnx: no such file"):
        open_model(tmp_path / "none.onnx")
    with pytest.raises(ModelFileError, match="is a folder"):
        open_model(tmp_path)


def test_a_model_of_another_tool_is_refused(make_model):
    with pytest.raises(ModelFileError, match="does not say what it is of"):
        open_model(make_model(ours=False))
