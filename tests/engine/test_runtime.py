"""Choosing device and number format."""

from __future__ import annotations

import logging
import os
import platform
import subprocess
import sys
import warnings

import pytest
import torch

from simclrseg.engine import runtime
from simclrseg.engine.runtime import compiled
from simclrseg.errors import DeviceError, TrainingError
from tests.engine.small import network

CPU = torch.device("cpu")


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(runtime, "nvidia_gpu_is_there", lambda: False)


@pytest.mark.usefixtures("no_gpu")
def test_auto_takes_the_cpu_where_there_is_nothing_else() -> None:
    assert runtime.choose_device("auto") == CPU


def test_auto_takes_cuda_before_mps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert runtime.choose_device("auto").type == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert runtime.choose_device("auto").type == "mps"


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_device_that_is_not_there_exits_3(name: str) -> None:
    with pytest.raises(DeviceError, match=f"--device {name}: there is no") as error:
        runtime.choose_device(name)
    assert error.value.exit_code == 3


@pytest.mark.usefixtures("no_gpu")
def test_a_gpu_beside_a_cpu_build_gets_the_command_that_helps(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(runtime, "nvidia_gpu_is_there", lambda: True)
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(DeviceError, match="pip install --force-reinstall torch"):
        runtime.choose_device("cuda")
    with caplog.at_level(logging.WARNING):
        assert runtime.choose_device("auto") == CPU
    assert "pip install --force-reinstall torch" in caplog.text
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    with pytest.raises(DeviceError, match="driver"):
        runtime.choose_device("cuda")


@pytest.mark.parametrize(
    ("capabilities", "expected"), [({}, "fp32"), ({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16")]
)
def test_bf16_is_the_default_only_where_the_cpu_multiplies_in_it(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], expected: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert runtime.choose_precision("auto", CPU) == expected


@pytest.mark.parametrize(("supported", "expected"), [(True, "bf16"), (False, "fp16")])
def test_older_gpus_get_fp16(monkeypatch: pytest.MonkeyPatch, supported: bool, expected: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: supported)
    assert runtime.choose_precision("auto", torch.device("cuda")) == expected


def test_a_precision_that_was_asked_for_is_taken() -> None:
    assert [runtime.choose_precision(name, CPU) for name in ("fp32", "bf16", "fp16")] == ["fp32", "bf16", "fp16"]


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_autocast_computes_in_the_chosen_format(precision: str, dtype: torch.dtype) -> None:
    with runtime.autocast(CPU, precision):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def test_the_first_line_names_torch_device_and_precision() -> None:
    line = runtime.describe(CPU, "fp32")
    assert line.startswith(f"torch {torch.__version__} on CPU (")
    assert line.endswith(f"{torch.get_num_threads()} threads), fp32")


def test_each_process_needs_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    assert runtime.choose_device("cpu") == torch.device("cpu")
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert runtime.choose_device("auto") == torch.device("cuda", 1)
    assert chosen == [1]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(DeviceError, match="4 processes need as many GPUs, and there are 2: pass --devices 2"):
        runtime.choose_device("cuda")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator than glibc's")
def test_what_a_training_step_frees_is_kept_for_the_next() -> None:
    program = """
import resource, torch
from simclrseg.engine.runtime import freed_memory_kept

model = torch.nn.Sequential(*(torch.nn.Conv2d(16, 16, 3, padding=1) for _ in range(5)))
images = torch.zeros(16, 16, 96, 96)

def new_pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(3):
        model(images).sum().backward()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(open("/proc/self/statm").read().split()[1])

with freed_memory_kept(torch.device("cpu")):
    steps, full = [new_pages() for _ in range(5)], resident()
print(min(steps), full - resident())
"""
    environment = {name: value for name, value in os.environ.items() if "MALLOC" not in name}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    new_pages, given_back = map(int, done.stdout.split())
    assert new_pages < 1000  # of 4 KB each, once the heap has its size; three steps alone have more than 30,000
    assert given_back > 5000


class TestCompiled:
    """torch.compile around a model whose keys stay."""

    @pytest.mark.slow
    def test_the_outputs_and_the_keys_stay(self) -> None:
        model = network()
        images = torch.randn(4, 3, 8, 8)
        model.eval()
        before, keys = model(images), list(model.state_dict())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's own
            with compiled(model):
                assert model._compiled_call_impl is not None
                assert torch.allclose(model(images), before, atol=1e-5)
                assert list(model.state_dict()) == keys
        assert model._compiled_call_impl is None

    def test_a_missing_compiler_is_one_line(self) -> None:
        from torch._inductor.exc import InvalidCxxCompiler

        model = network()
        says = r"--compile does not work here .*leave it out"
        with pytest.raises(TrainingError, match=says) as error, compiled(model):
            raise InvalidCxxCompiler
        assert "\n" not in str(error.value)
        assert model._compiled_call_impl is None

    def test_without_it_nothing_is_compiled(self) -> None:
        model = network()
        with compiled(model, enabled=False):
            assert model._compiled_call_impl is None
