"""Training on a GPU is training on a CPU: the same weights and losses, and what a GPU alone can do wrong."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from simclrseg.engine import OPTIMIZERS
from simclrseg.engine.footprint import free_memory, largest_micro_batch, measure_footprint
from simclrseg.engine.gradients import Passes, accumulate_gradient
from simclrseg.engine.loop import fit, to_device
from simclrseg.engine.meter import STEPS_ON_A_GPU
from simclrseg.engine.optimizers import parameter_groups, sgd
from simclrseg.engine.runtime import compiled
from simclrseg.engine.task import Batch
from simclrseg.errors import Interrupted, OutOfMemory, TrainingError
from tests.engine.small import CPU, Classification, Contrast, Images, group_norm, network, relative, train
from tests.gpu import EACH_DEVICE, ON_A_GPU, only_free
from tests.methods.simclr import simclr, small_simclr
from tests.observers import Watcher, stop_at

GB = 10**9


def weights(model: torch.nn.Module) -> Tensor:
    """Parameters and batch norm's statistics."""
    return torch.cat([value.detach().flatten().float().cpu() for value in model.state_dict().values()])


def new(folder: Path) -> Path:
    folder.mkdir()
    return folder


@EACH_DEVICE
@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
def test_training_ends_with_the_weights_and_scores_of_a_cpu(
    tmp_path: Path, device: torch.device, optimizer: str
) -> None:
    options: dict[str, Any] = {
        "optimizer": OPTIMIZERS[optimizer],
        "learning_rate": 1e-3,
        "validation": Images(2),
        "micro_batch": 4,
        "clip": 1.0,
        "average": 0.5,
    }
    task, other = Classification(network()), Classification(network())
    expected, _ = train(new(tmp_path / "cpu"), task=task, **options)
    found, _ = train(new(tmp_path / "device"), task=other, device=device, **options)
    assert relative(weights(other.model), weights(task.model)) < 1e-4
    assert other.model[0].weight.device.type == device.type
    for record, reference in zip(found.history, expected.history, strict=True):
        assert record.train == pytest.approx(reference.train, rel=1e-3)
        assert record.validation == pytest.approx(reference.validation, abs=0.1)  # of 12 images one may change sides


@EACH_DEVICE
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_learns_what_float32_does(tmp_path: Path, device: torch.device, precision: str) -> None:
    task, other = Classification(network()), Classification(network())
    expected, _ = train(new(tmp_path / "fp32"), task=task)
    found, state = train(new(tmp_path / "half"), task=other, device=device, precision=precision)
    assert found.last["loss"] == pytest.approx(expected.last["loss"], rel=0.05)
    assert 0 < relative(weights(other.model), weights(task.model)) < 0.05
    assert other.model[0].weight.dtype == torch.float32
    assert bool(state.scaler) == (precision == "fp16")


@EACH_DEVICE
def test_simclr_logs_what_it_does_on_a_cpu(tmp_path: Path, device: torch.device) -> None:
    def logged(name: str, device: torch.device) -> dict[str, float]:
        options: dict[str, Any] = {"data": Images(4, 8, views=2), "validation": Images(3, 20), "device": device}
        result, _ = train(new(tmp_path / name), task=small_simclr(), epochs=2, **options)
        return result.last | result.history[-1].validation

    expected = logged("cpu", CPU)
    assert {"loss", "top1", "alignment", "uniformity", "effective_rank", "knn"} <= set(expected)
    assert logged("device", device) == pytest.approx(expected, rel=1e-3)


@EACH_DEVICE
def test_an_interrupted_run_goes_on_to_the_same_weights(tmp_path: Path, device: torch.device) -> None:
    options: dict[str, Any] = {"device": device, "precision": "bf16", "data": Images(4, 6, views=2), "micro_batch": 3}
    whole, again = (Contrast(network(dropout=0.3, out=8)) for _ in range(2))
    _, expected = train(new(tmp_path / "whole"), task=whole, **options)
    stopped = Contrast(network(dropout=0.3, out=8))
    with pytest.raises(Interrupted):
        train(new(tmp_path / "parts"), task=stopped, observers=(stop_at(step=6),), **options)
    watcher = Watcher()
    _, state = train(tmp_path / "parts", task=again, observers=(watcher,), **options)
    assert 0 < len(watcher.steps) < expected.step == state.step
    assert relative(weights(again.model), weights(whole.model)) < 1e-4
    lines = [(tmp_path / folder / "metrics.jsonl").read_text().count("\n") for folder in ("whole", "parts")]
    assert lines[0] == lines[1]


@EACH_DEVICE
def test_losses_are_read_late_on_a_gpu_and_each_is_told_once(tmp_path: Path, device: torch.device) -> None:
    taken = []

    class Counted(Images):
        def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
            for batch in super().epoch(epoch, start_step):
                taken.append(1)
                yield batch

    class Late(Watcher):
        def on_step(self, record: Any) -> None:
            super().on_step(record)
            when.append(len(taken))

    when: list[int] = []
    watcher, steps = Late(), STEPS_ON_A_GPU + 2
    train(tmp_path, task=Classification(network()), data=Counted(steps), epochs=1, observers=(watcher,), device=device)
    assert [record.step for record in watcher.steps] == list(range(1, steps + 1))
    late = [STEPS_ON_A_GPU] * STEPS_ON_A_GPU + [steps] * 2
    assert when == (late if device.type == "cuda" else list(range(1, steps + 1)))
    reference = Watcher()
    train(new(tmp_path / "cpu"), task=Classification(network()), data=Images(steps), epochs=1, observers=(reference,))
    for record, other in zip(watcher.steps, reference.steps, strict=True):
        assert record.logs == pytest.approx(other.logs, rel=1e-3)


@EACH_DEVICE
def test_a_loss_that_is_not_finite_leaves_the_last_good_checkpoint(tmp_path: Path, device: torch.device) -> None:
    class Broken(Classification):
        steps = 0

        def training_loss(self, batch: Batch) -> Any:
            self.steps += 1
            loss, logs = super().training_loss(batch)
            return loss * (float("nan") if self.steps == 6 else 1.0), logs

    with pytest.raises(TrainingError, match=r"nan at step 6 .*; the last checkpoint stands$"):
        train(tmp_path, task=Broken(network()), device=device)
    good = Classification(network())
    _, state = train(tmp_path, task=good, device=device)  # goes on from it
    assert state.step == 12 and weights(good.model).isfinite().all()


@ON_A_GPU
def test_a_batch_is_copied_while_the_gpu_computes(device: torch.device) -> None:
    batch = {"image": torch.randint(0, 256, (64, 2, 224, 224, 3), dtype=torch.uint8), "index": torch.arange(64)}
    to_device(batch, device)  # gets pinned memory, which is then kept
    torch.cuda.synchronize()
    busy = torch.cuda.Event()
    torch.cuda._sleep(2 * 10**9)  # cycles: about a second
    busy.record()
    began = time.perf_counter()
    copied = to_device(batch, device)
    assert time.perf_counter() - began < 0.3
    assert not busy.query(), "the copy was to be asked for while the GPU computes"
    for name, tensor in copied.items():
        assert torch.equal(tensor.cpu(), batch[name])


@ON_A_GPU
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_micro_batch_that_is_measured_fits_and_is_most_of_what_would(device: torch.device, precision: str) -> None:
    batch_size = 3001  # a prime number: any size can come of it
    task, passes = simclr(), Passes(device, precision, seed=0)
    task.model.to(device)

    def step(size: int) -> None:
        images = torch.zeros((size, 2, 64, 64, 3), dtype=torch.uint8, device=device)
        scaler = torch.amp.GradScaler(device.type, enabled=False)
        try:
            accumulate_gradient(task, {"image": images}, step=0, micro_batch=None, passes=passes, scaler=scaler)
        finally:
            task.model.zero_grad()
            del images

    step(8)  # libraries take their own memory the first time
    with only_free(4 * GB, device):
        fields = {"image": ((2, 64, 64, 3), np.uint8)}
        footprint = measure_footprint(task, fields, batch_size=batch_size, passes=passes)
        free = free_memory(device)
        assert free is not None and free < 4.5 * GB
        micro_batch = largest_micro_batch(batch_size, footprint, free)
        torch.cuda.empty_cache()
        gradients = sum(parameter.nbytes for parameter in task.model.parameters())  # which a step has by itself
        rest = torch.empty(footprint.fixed - gradients, dtype=torch.uint8, device=device)
        step(micro_batch)
        torch.cuda.empty_cache()
        with pytest.raises(torch.OutOfMemoryError):
            step(round(micro_batch / 0.8))
        del rest


@ON_A_GPU
def test_out_of_memory_is_one_line_and_a_smaller_micro_batch_goes_on_to_the_same_weights(
    tmp_path: Path, device: torch.device
) -> None:
    class Large(Contrast):
        def embed(self, batch: Batch) -> Tensor:
            taken = torch.ones(len(batch["image"]) * 10**8, dtype=torch.uint8, device=device)  # 0.1 GB an image
            return super().embed(batch) + 0 * taken[0]

    def task() -> Large:
        return Large(network(group_norm, out=8))

    class Tenant(Watcher):
        """Takes most of the memory after an epoch."""

        def on_epoch(self, record: Any) -> None:
            taken.enter_context(only_free(GB, device))

    options: dict[str, Any] = {"data": Images(4, 12, views=2), "device": device}
    whole, parts = task(), task()
    train(new(tmp_path / "whole"), task=whole, micro_batch=12, **options)
    says = "^out of memory in training with micro-batch 12: try --micro-batch 6; the last checkpoint stands$"
    with ExitStack() as taken:
        with pytest.raises(OutOfMemory, match=says) as caught:
            train(new(tmp_path / "parts"), task=task(), micro_batch=12, observers=(Tenant(),), **options)
        assert caught.value.exit_code == 1
        train(tmp_path / "parts", task=parts, micro_batch=6, **options)  # beside the other tenant
    assert relative(weights(parts.model), weights(whole.model)) < 1e-3


@ON_A_GPU
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of torch's own
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_compiled_training_learns_the_same(device: torch.device, precision: str) -> None:
    def trained(*, enabled: bool) -> Tensor:
        task = Classification(network())
        with compiled(task.model, enabled=enabled):
            fit(
                task,
                Images(4),
                optimizer=sgd(parameter_groups(task.model, 0.0), learning_rate=0.01),
                schedule=lambda step: 0.01,
                epochs=2,
                device=device,
                precision=precision,
            )
        return weights(task.model)

    assert relative(trained(enabled=True), trained(enabled=False)) < (1e-3 if precision == "fp32" else 0.02)
