"""Consistency: its loss against a slow reference, its gradient from micro-batches, its teacher and its ramp."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from simclrseg.engine.average import WeightAverage
from simclrseg.engine.gradients import Passes, accumulate_gradient
from simclrseg.engine.task import Batch
from simclrseg.losses.segmentation import bce, ce
from simclrseg.metadata import ModelMetadata
from simclrseg.targets.segment.balance import BINS
from simclrseg.targets.segment.consistency import Consistency
from simclrseg.targets.segment.learner import Segmentation
from tests.processes import together

SIDE = 6
HALF = (0.5, 0.5, 0.5)
CPU = Passes(torch.device("cpu"), "fp32", seed=0)


def make_task(classes: int = 2, *, norm: bool = False, threshold: float = 0.6, averaged: bool = True) -> Consistency:
    torch.manual_seed(0)
    channels = 1 if classes == 2 else classes
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8) if norm else nn.GroupNorm(2, 8), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Conv2d(8, channels, 1))
    names = tuple(f"class {number}" for number in range(classes))
    common = {"task": "segmentation", "encoder": "cnn", "image_size": SIDE, "mean": HALF, "std": HALF}
    metadata = ModelMetadata(**common, classes=names, threshold=0.5 if classes == 2 else None)
    task = Consistency(Segmentation(model, metadata, bce if classes == 2 else ce), threshold=threshold, weight=2.0)
    if averaged:
        task.average = WeightAverage(model, 0.5)
        with torch.no_grad():  # the student is no longer its teacher
            for parameter in model.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
    task.before_step(0)
    return task


def one_batch(size: int, classes: int = 2) -> Batch:
    generator = torch.Generator().manual_seed(1)

    def pixels(*shape: int) -> torch.Tensor:
        return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)

    corners = torch.randint(0, SIDE + 1, (size, 2, 2, 2), generator=generator).sort(2).values  # (n, view, end, axis)
    mask = torch.randint(0, classes, (size, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    mask[:, 0] = 255
    return {
        "image": pixels(size, SIDE, SIDE, 3),
        "mask": mask,
        "unlabelled_image": pixels(size, SIDE, SIDE, 3),
        "unlabelled_strong": pixels(size, 2, SIDE, SIDE, 3),
        "unlabelled_pasted": corners.flatten(2).to(torch.int32),
    }


def spelled_out(task: Consistency, batch: Batch, classes: int) -> tuple[float, float]:
    """The consistency loss and the share of confident pixels, pixel by pixel."""
    learner, average, size = task.learner, task.average, len(batch["image"])
    assert average is not None
    with torch.no_grad():
        own = {name: value.clone() for name, value in task.model.state_dict().items()}
        task.model.load_state_dict(own | average.state_dict())
        weak = learner.probabilities(batch["unlabelled_image"]).tolist()
        task.model.load_state_dict(own)
    shown = batch.get("unlabelled_shown", torch.ones(size, SIDE, SIDE, dtype=torch.bool)).tolist()
    answers, confident = [], 0.0
    for image in range(size):
        held = sum(map(sum, shown[image]))
        for y in range(SIDE):
            for x in range(SIDE):
                p = [1 - weak[image][y][x], weak[image][y][x]] if classes == 2 else [c[y][x] for c in weak[image]]
                answers.append(p.index(max(p)) if max(p) >= task.threshold and shown[image][y][x] else None)
                confident += (answers[-1] is not None) / held / size
    total = 0.0
    for view in range(2):
        mixed, truths, counted = [], [], []
        for image in range(size):
            other = image ^ 1 if image ^ 1 < size else image
            top, left, bottom, right = batch["unlabelled_pasted"][image, view].tolist()
            pixels, held = batch["unlabelled_strong"][image, view].clone(), 0
            for y in range(SIDE):
                for x in range(SIDE):
                    source = other if top <= y < bottom and left <= x < right else image
                    pixels[y, x] = batch["unlabelled_strong"][source, view, y, x]
                    truths.append(answers[(source * SIDE + y) * SIDE + x])
                    held += shown[source][y][x]
            mixed.append(pixels)
            counted.append(held)
        with torch.no_grad():
            seen = learner.probabilities(torch.stack(mixed)).tolist()
        for number, truth in enumerate(truths):
            image, y, x = number // SIDE**2, number // SIDE % SIDE, number % SIDE
            if truth is None:
                continue
            p = seen[image][y][x] if classes == 2 else seen[image][truth][y][x]
            total -= math.log(1 - p if classes == 2 and truth == 0 else p) / counted[image] / size / 2
    return total, confident


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(("classes", "size"), [(2, 4), (2, 5), (3, 4), (3, 1)])
def test_the_loss_is_its_definition_term_by_term(classes: int, size: int, whole: bool) -> None:
    task, batch = make_task(classes, threshold=0.55 if classes == 2 else 0.4), one_batch(size, classes)
    if not whole:  # the more of an image is hidden, the later it comes
        shown = torch.arange(SIDE**2).view(SIDE, SIDE) % (2 + torch.arange(size)[:, None, None])
        batch["unlabelled_shown"] = shown < 2
    consistency, confident = spelled_out(task, batch, classes)
    assert 0 < confident < 1
    supervised = task.learner.training_loss(batch)[0].item()
    loss, logs = task.training_loss(batch)
    assert float(logs["supervised"]) == pytest.approx(supervised, rel=1e-5)
    assert float(logs["consistency"]) == pytest.approx(consistency, rel=1e-5)
    assert float(logs["confident"]) == pytest.approx(confident, rel=1e-6)
    assert loss.item() == pytest.approx(supervised + 2.0 * consistency, rel=1e-5)


def gradient(task: Consistency, batch: Batch, micro_batch: int | None) -> torch.Tensor:
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    accumulate_gradient(task, batch, step=0, micro_batch=micro_batch, passes=CPU, scaler=scaler)
    found = torch.cat([parameter.grad.flatten() for parameter in task.model.parameters() if parameter.grad is not None])
    task.model.zero_grad()
    return found


@pytest.mark.parametrize("size", [8, 7, 10])
@pytest.mark.parametrize("micro_batch", [1, 2, 3, 4, 5])
def test_micro_batches_have_the_gradient_of_the_whole_batch(size: int, micro_batch: int) -> None:
    task, batch = make_task(), one_batch(size)
    whole = gradient(task, batch, None)
    torch.testing.assert_close(gradient(task, batch, micro_batch), whole, rtol=1e-5, atol=1e-7)
    batch["unlabelled_pasted"][:] = 0
    assert not torch.allclose(gradient(task, batch, None), whole, rtol=1e-3), "nothing was pasted"


@pytest.mark.parametrize("classes", [2, 3])
def test_what_holds_nothing_teaches_nothing_whatever_stands_there(classes: int) -> None:
    """The network sees a pixel at a time, so that others do not change with it."""
    found = []
    for value in (0, 255):
        task, batch = make_task(classes, threshold=0.4), one_batch(4, classes)
        task.model[0].weight.data[:, :, torch.arange(3) != 1] = 0
        task.model[0].weight.data[:, :, :, torch.arange(3) != 1] = 0
        assert task.average is not None
        task.model[1] = nn.Identity()
        task.average = WeightAverage(task.model, 0.5)
        shown = torch.ones(4, SIDE, SIDE, dtype=torch.bool)
        shown[:, 2:4], shown[1] = False, False  # of the second image there is nothing at all
        batch["unlabelled_shown"] = shown
        batch["unlabelled_image"][~shown] = value
        batch["unlabelled_strong"].masked_fill_(~shown[:, None, :, :, None], value)
        loss, logs = task.training_loss(batch)
        loss.backward()
        assert torch.isfinite(loss) and 0 < float(logs["confident"]) < 1
        found.append([one.grad for one in (task.model[0].bias, *task.model[3].parameters())])  # of no neighbours
    torch.testing.assert_close(found[0], found[1])
    assert found[0][0].abs().max() > 1e-3


def test_the_teacher_changes_nothing_in_the_network_and_answers_as_in_evaluation() -> None:
    task, batch = make_task(norm=True), one_batch(4)
    task.train()
    task.model[0].eval()  # as a frozen part
    for _ in range(2):
        before = int(task.model[1].num_batches_tracked)
        task.training_loss(batch)
        assert int(task.model[1].num_batches_tracked) == before + 1  # the student's pass alone
    assert [module.training for module in task.model] == [False, True, True, True]


def test_before_there_is_an_average_the_network_is_its_own_teacher_without_a_gradient() -> None:
    task, batch = make_task(averaged=False), one_batch(4)
    batch["unlabelled_strong"] = batch["unlabelled_image"][:, None].expand(-1, 2, -1, -1, -1).contiguous()
    batch["unlabelled_pasted"][:] = 0
    loss, logs = task.training_loss(batch)
    loss.backward()
    assert 0 < float(logs["confident"]) < 1
    assert all(parameter.grad is not None for parameter in task.model.parameters())


def test_the_weight_grows_along_its_ramp() -> None:
    task, batch = make_task(), one_batch(4)
    task.ramp = (4, 8)
    found = []
    for step in (0, 4, 6, 8, 100):
        task.before_step(step)
        loss, logs = task.training_loss(batch)
        found.append((loss.item() - float(logs["supervised"])) / float(logs["consistency"]))
    assert found == pytest.approx([0, 0, 1, 2, 2], abs=1e-5)


def remember(task: Consistency) -> None:
    """Shares of earlier steps in which the last class was sure far too often, by any degree."""
    task.memory["labelled"].copy_(torch.tensor([0.8, 0.2]))
    task.memory["sure"].copy_(torch.tensor([[0.1], [0.6]]).expand(-1, BINS) / BINS)
    task.before_step(1)


def test_what_is_seen_too_often_teaches_by_its_surest_pixels() -> None:
    task, batch = make_task(threshold=0.5), one_batch(4)
    plain = float(task.training_loss(batch)[1]["confident"])
    remember(task)
    kept = float(task.training_loss(batch)[1]["confident"])
    loose = make_task(threshold=0.5)
    assert plain == 1.0
    assert 0 < kept < 1
    loose.average = task.average
    with torch.no_grad():
        seen = loose.learner.normalize(batch["unlabelled_image"])
        loose.model.load_state_dict(loose.model.state_dict() | task.average.state_dict())  # type: ignore[union-attr]
        foreground = loose.model(seen).sigmoid()
    assert 1 - kept <= float((foreground >= 0.5).float().mean())  # background teaches as before


@pytest.mark.parametrize("micro_batch", [1, 3])
def test_micro_batches_choose_and_remember_what_the_whole_batch_does(micro_batch: int) -> None:
    one, other = make_task(threshold=0.5), make_task(threshold=0.5)
    found = []
    for task, size in (one, None), (other, micro_batch):
        remember(task)
        found.append(gradient(task, one_batch(7), size))
        task.after_step(1, 9)
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-7)
    assert {name: value.tolist() for name, value in one.memory.items()} == {
        name: value.tolist() for name, value in other.memory.items()
    }


def test_a_step_takes_up_the_share_of_what_photos_hold() -> None:
    task, batch = make_task(threshold=0.5), one_batch(4)  # which is sure of all
    batch["unlabelled_shown"] = (torch.arange(SIDE) < 2).expand(4, SIDE, SIDE)
    task.training_loss(batch)
    task.after_step(0, 9)
    assert float(task.memory["sure"].sum()) == pytest.approx(1)
    assert task.memory["labelled"].tolist() == pytest.approx(
        [(batch["mask"] == label).sum().item() / (batch["mask"] != 255).sum().item() for label in (0, 1)]
    )


def in_a_process(folder: Path) -> None:
    from simclrseg.system import distributed

    distributed.start(torch.device("cpu"))
    rank = distributed.rank()
    share = {name: tensor[(0, 4)[rank] : (4, 7)[rank]] for name, tensor in one_batch(7).items()}
    task = make_task(threshold=0.5)
    remember(task)
    found = gradient(task, share, 2)
    task.after_step(1, 9)
    torch.save({"gradient": found, **task.memory}, folder / f"{rank}.pt")
    distributed.dismiss()


def test_two_processes_have_the_gradient_and_the_memory_of_one(tmp_path: Path) -> None:
    together(in_a_process, tmp_path)
    task = make_task(threshold=0.5)
    remember(task)
    expected = {"gradient": gradient(task, one_batch(7), None)}
    task.after_step(1, 9)
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt")
        torch.testing.assert_close(found, expected | dict(task.memory), rtol=1e-5, atol=1e-7)
