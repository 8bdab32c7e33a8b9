"""ONNX Runtime on a GPU: the same answers as on a CPU, and one honest line where it cannot be used."""

from __future__ import annotations

import logging
from importlib.util import find_spec

import numpy as np
import onnxruntime
import pytest

from simclrseg.errors import DeviceError
from simclrseg.inference import tensorrt
from simclrseg.inference.session import CPU, CUDA, open_model
from simclrseg.system.hardware import nvidia_gpu_is_there

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not nvidia_gpu_is_there(), reason="the driver shows no NVIDIA GPU"),
]
PROVIDERS = onnxruntime.get_available_providers()
WITH_CUDA = pytest.mark.skipif(CUDA not in PROVIDERS, reason="this ONNX Runtime is built without CUDA")
WITH_TENSORRT = pytest.mark.skipif(
    tensorrt.PROVIDER not in PROVIDERS or find_spec("tensorrt_libs") is None,
    reason="this ONNX Runtime is built without TensorRT, or TensorRT is not installed",
)


def batches(*shapes):
    return [np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8) for shape in shapes]


def answers_of(path, device, images, **options):
    model = open_model(path, device, **options)
    return model, [model.run(batch) for batch in images]


@WITH_CUDA
@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_cuda_gives_what_a_cpu_gives_and_no_answer_changes_later(make_model, device):
    path = make_model()
    images = batches((2, 64, 96), (2, 64, 96), (1, 40, 40), (2, 64, 96))  # buffers kept, made anew, and again
    model, found = answers_of(path, device, images)
    assert model.provider == CUDA and model.cause == ""
    for answer, expected in zip(found, answers_of(path, "cpu", images)[1], strict=True):
        np.testing.assert_allclose(answer, expected, atol=1e-3)


@WITH_TENSORRT
@pytest.mark.slow
def test_tensorrt_gives_what_a_cpu_gives_and_keeps_its_engine(make_model, tmp_path):
    path, images = make_model(), batches((2, 64, 96), (1, 64, 96))
    options = {"largest": (2, 64, 96, 3), "cache": tmp_path}
    model, found = answers_of(path, "tensorrt", images, **options)
    assert model.provider == tensorrt.PROVIDER
    for answer, expected in zip(found, answers_of(path, "cpu", images)[1], strict=True):
        np.testing.assert_allclose(answer, expected, atol=1e-2)
    engines = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.engine")}
    assert engines
    answers_of(path, "tensorrt", images, **options)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.engine")} == engines


@pytest.mark.skipif(CUDA in PROVIDERS, reason="this ONNX Runtime has CUDA")
def test_a_gpu_beside_a_build_for_the_cpu_is_one_line_and_the_cpu_computes(make_model, caplog, capfd):
    with caplog.at_level(logging.WARNING):
        model = open_model(make_model(), "auto")
    assert model.provider == CPU
    assert [record.getMessage() for record in caplog.records] == [f"the NVIDIA GPU is not used: {model.cause}"]
    assert "built for the CPU only" in model.cause and "onnxruntime-gpu" in model.cause
    with pytest.raises(DeviceError, match="built for the CPU only") as caught:
        open_model(make_model(), "cuda")
    assert caught.value.exit_code == 3
    assert capfd.readouterr() == ("", "")
