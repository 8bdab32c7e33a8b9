"""What fits the memory: the measurement, the arithmetic, and the line when it was wrong."""

from __future__ import annotations

import math
import subprocess
import sys
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from simclrseg.engine import footprint as module
from simclrseg.engine.footprint import (
    Footprint,
    largest_micro_batch,
    least_micro_batch,
    least_together,
    measure_footprint,
    smaller_micro_batch,
)
from simclrseg.engine.gradients import Passes
from simclrseg.engine.task import SeparableTask
from simclrseg.errors import OutOfMemory
from simclrseg.losses.segmentation import bce
from simclrseg.metadata import ModelMetadata
from simclrseg.metrics.representation import alignment
from simclrseg.models import SEGMENTERS
from simclrseg.models.backbones import build_backbone
from simclrseg.system.hardware import explained_shortage
from simclrseg.targets.segment.learner import Segmentation
from tests.engine.small import CPU, Classification, Contrast, Images, group_norm, network, same, train
from tests.methods.simclr import simclr

GB = 10**9
MB = 10**6


def fields(size: int, views: int = 2) -> dict:
    return {"index": ((), np.int64), "image": ((views, size, size, 3), np.uint8)}


def test_the_count_is_that_of_a_network_known_by_hand() -> None:
    class Task(SeparableTask):
        model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1, bias=False), torch.nn.Sigmoid())

        def training_loss(self, batch):
            return self.model(batch["image"].permute(0, 3, 1, 2).float()).mean(), {}

    measured = measure_footprint(
        Task(), {"image": ((16, 16, 3), np.uint8)}, batch_size=10, passes=Passes(CPU, "fp32", 0)
    )
    kept = 4 * 16 * 16 * (3 + 8)  # the convolution's input and the sigmoid's output
    assert measured.image == math.ceil(module.BACKWARD * kept)
    assert measured.fixed == 3 * 4 * 8 * 27 + 2 * 10 * 16 * 16 * 3


def test_measuring_takes_no_arithmetic_and_leaves_the_task_as_it_was() -> None:
    task = simclr()
    task.model.eval()
    before = {name: value.clone() for name, value in task.model.state_dict().items()}
    small = measure_footprint(task, fields(64), batch_size=8, passes=Passes(CPU, "fp32", 0))
    large = measure_footprint(task, fields(128), batch_size=8, passes=Passes(CPU, "fp32", 0))
    assert same(task.model.state_dict(), before)
    assert not task.model.training
    assert all(parameter.grad is None for parameter in task.model.parameters())
    assert large.image == pytest.approx(4 * small.image, rel=0.01)
    assert 3 * MB < small.image < 6 * MB


def test_a_batch_as_small_as_those_measured_is_computed_in_earnest() -> None:
    task = simclr()
    measure_footprint(task, fields(32), batch_size=2, passes=Passes(CPU, "fp32", 0))
    assert task.embed({"image": torch.zeros((2, 2, 32, 32, 3), dtype=torch.uint8)}).isfinite().all().item()


def test_half_precision_halves_the_activations() -> None:
    full, half = (
        measure_footprint(simclr(), fields(64), batch_size=8, passes=Passes(CPU, precision, 0)).image
        for precision in ("fp32", "bf16")
    )
    assert 0.45 < half / full < 0.65


def test_a_network_whose_shapes_depend_on_its_data_is_measured_in_earnest() -> None:
    class Task(Classification):
        def training_loss(self, batch):
            assert batch["image"].float().sum().item() == 0  # shapes alone cannot answer this
            return self.model(batch["image"].permute(0, 3, 1, 2).float()).sum(), {}

    measured = measure_footprint(
        Task(network()), {"image": ((8, 8, 3), np.uint8)}, batch_size=4, passes=Passes(CPU, "fp32", 0)
    )
    assert measured.image > 4 * 8 * 8 * 3


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_a_real_step_takes_what_was_measured() -> None:
    program = """
import torch
from tests.methods.simclr import simclr
task = simclr()
task.model.train()
for n in (8, 72):
    images = torch.randint(0, 256, (n, 2, 64, 64, 3), dtype=torch.uint8)
    task.embed({"image": images}).sum().backward()
    print(next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1e3)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    few, many = map(float, done.stdout.split())
    measured = measure_footprint(simclr(), fields(64), batch_size=8, passes=Passes(CPU, "fp32", 0))
    assert (many - few) / 64 == pytest.approx(measured.image / MB, rel=0.3)


@pytest.mark.parametrize(
    ("batch", "image", "free", "micro_batch"),
    [
        (120, 215 * MB, 8 * GB, 30),  # the card's own command on a machine with 8 GB
        (120, 215 * MB, 40 * GB, 120),
        (4096, 215 * MB, 80 * GB, 256),
        (127, 215 * MB, 8 * GB, 26),  # a prime number: five parts
        (120, 215 * MB, 100 * MB, 1),
        (100, 10 * MB, 1530 * MB, 100),  # 0.85 of what is free: 1300 MB of 1529.4
        (100, 10 * MB, 1529 * MB, 50),
    ],
)
def test_the_micro_batch_is_the_largest_divisor_that_fits(batch: int, image: int, free: int, micro_batch: int) -> None:
    assert largest_micro_batch(batch, Footprint(300 * MB, image), free) == micro_batch


def test_any_batch_is_split_into_parts_that_fit_and_are_not_too_small() -> None:
    for batch in range(1, 300):
        for fitting in (0, 1, 3, 8, 9, 30, 1000):
            free = math.ceil((fitting + 0.5) * MB / module.SHARE)
            for least in (1, 8):
                taken = largest_micro_batch(batch, Footprint(0, MB), free, least=least)
                parts = math.ceil(batch / taken)
                assert min(batch, least) <= taken <= max(fitting, 2 * least - 1)
                assert batch // parts >= min(batch, least, max(1, fitting // 2))  # the smallest part
                assert parts <= 2 * math.ceil(batch / max(fitting, least)) + 1


@pytest.mark.parametrize(("photos", "low", "high"), [(1, 3.9, 4.1), (2, 0.5, 2.0), (8, 0.0, 0.2)])
def test_batch_norm_tears_two_equal_views_apart_where_it_sees_few_photos(photos: int, low: float, high: float) -> None:
    torch.manual_seed(0)
    task, rng = simclr(), np.random.default_rng(0)
    first = rng.integers(0, 255, (photos, 1, 64, 64, 3))
    views = (first + rng.integers(0, 2, (photos, 2, 64, 64, 3))).astype(np.uint8)  # which differ by a grey level
    with torch.no_grad():
        z1, z2 = task.embed({"image": torch.from_numpy(views)}).unbind(1)
    assert low <= alignment(z1, z2).item() <= high


def test_contrast_through_batch_norm_needs_several_photos_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert least_micro_batch(simclr()) == 8
    assert least_micro_batch(Contrast(network(group_norm, out=8))) == 1
    assert least_micro_batch(Classification(network())) == 1
    monkeypatch.setattr(module, "world_size", lambda: 3)
    assert least_micro_batch(simclr()) == 3  # of each process, and batch norm sees all


def segmentation(decoder: str = "unet") -> Segmentation:
    backbone = build_backbone("resnet18")
    model = SEGMENTERS[decoder](backbone, "resnet18", 1)
    metadata = ModelMetadata(task="segmentation", encoder="resnet18", image_size=32, classes=("a", "b"), threshold=0.5)
    return Segmentation(model, metadata, bce)


@pytest.mark.parametrize(("decoder", "size", "together"), [("unet", 32, 2), ("unet", 64, 1), ("deeplabv3plus", 64, 2)])
def test_batch_norm_over_maps_of_one_pixel_needs_two_images(decoder: str, size: int, together: int) -> None:
    task = segmentation(decoder)
    pair = {"image": ((size, size, 3), np.uint8), "mask": ((size, size), np.uint8)}
    before = {name: value.clone() for name, value in task.model.state_dict().items()}
    assert least_together(task, pair) == together
    assert least_micro_batch(task, together) == together
    assert same(task.model.state_dict(), before) and task.model.training
    assert not any(layer._forward_pre_hooks for layer in task.model.modules())
    lone = {name: torch.zeros((1, *shape), dtype=torch.uint8) for name, (shape, _) in pair.items()}
    with nullcontext() if together == 1 else pytest.raises(ValueError, match="more than 1 value per channel"):
        task.training_loss(lone)


def test_a_frozen_batch_norm_and_two_views_can_do_with_one_image() -> None:
    task = segmentation()
    task.model.encoder.requires_grad_(False)  # whose last maps have one pixel
    assert least_together(task, {"image": ((32, 32, 3), np.uint8), "mask": ((32, 32), np.uint8)}) == 1
    assert least_together(simclr(), fields(32)) == 1
    assert least_together(Contrast(network(group_norm, out=8)), fields(8)) == 1


@pytest.mark.parametrize(("free", "share"), [(9 * GB, 3 * GB), (None, None)])
def test_processes_of_one_machine_share_its_free_memory(
    free: int | None, share: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "available_memory", lambda: free)
    assert module.free_memory(CPU) == free
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    monkeypatch.setenv("WORLD_SIZE", "12")  # the others are on other machines
    assert module.free_memory(CPU) == share


def test_the_cards_own_command_fits_a_machine_with_8_gb() -> None:
    measured = measure_footprint(simclr("resnet50"), fields(224), batch_size=120, passes=Passes(CPU, "fp32", 0))
    assert measured.fixed + 120 * measured.image > 20 * GB
    micro_batch = largest_micro_batch(120, measured, 8 * GB)
    assert micro_batch >= 20
    assert measured.fixed + micro_batch * measured.image < 7 * GB


class Full(Contrast):
    """Runs out of memory at one micro-batch, from 1."""

    def __init__(self, at: int, error: Exception) -> None:
        super().__init__(network(group_norm, out=8))
        self.at, self.error, self.passes = at, error, 0

    def embed(self, batch):
        self.passes += 1
        if self.passes == self.at:
            raise self.error
        return super().embed(batch)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee documentation"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
)
def test_out_of_memory_is_one_line_and_the_last_checkpoint_stands(tmp_path, error: Exception) -> None:
    task = Full(5 * 2 * 2 + 1, error)  # in the sixth step, each of two micro-batches in two passes
    says = "out of memory in training with micro-batch 6: try --micro-batch 3; the last checkpoint stands$"
    with pytest.raises(OutOfMemory, match=says) as caught:
        train(tmp_path, task=task, data=Images(4, 12, views=2), micro_batch=6)
    assert caught.value.exit_code == 1
    assert "\n" not in str(caught.value)
    assert (tmp_path / "checkpoints/last/state.pt").exists()
    again, _ = train(tmp_path, task=Contrast(network(group_norm, out=8)), data=Images(4, 12, views=2), micro_batch=6)
    assert [record.epoch for record in again.history] == [1, 2, 3]


def test_where_no_fewer_images_will_do_the_image_is_to_be_smaller(tmp_path) -> None:
    task, says = (
        Full(1, MemoryError()),
        "with micro-batch 1: try a smaller --image-size or --backbone; nothing is saved",
    )
    with pytest.raises(OutOfMemory, match=says):
        train(tmp_path, task=task, data=Images(1, 2, views=2), micro_batch=1)


@pytest.mark.parametrize(
    ("micro", "batch", "least", "smaller"),
    [(120, 120, 1, 60), (40, 120, 1, 20), (7, 7, 1, 1), (5, 12, 1, 2), (1, 8, 1, None), (15, 30, 8, None)],
)
def test_the_next_micro_batch_is_a_divisor_of_at_most_half(
    micro: int, batch: int, least: int, smaller: int | None
) -> None:
    assert smaller_micro_batch(micro, batch, least=least) == smaller


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="shapes"), explained_shortage("in training", "buy some"):
        raise RuntimeError("shapes do not match")
