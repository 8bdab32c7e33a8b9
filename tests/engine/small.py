"""A small network, its task and its data, for tests of the engine."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from simclrseg.engine.checkpoints import Checkpoints, TrainingState
from simclrseg.engine.history import EpochRecord, FileHistory, Observer
from simclrseg.engine.loop import FitResult, fit
from simclrseg.engine.optimizers import adamw, parameter_groups
from simclrseg.engine.task import Batch, CoupledTask, Logs, SeparableTask

CPU = torch.device("cpu")


class Images:
    """A loader without state: a batch is a function of epoch and step."""

    def __init__(self, steps: int = 4, batch_size: int = 6, *, views: int = 1) -> None:
        self.steps, self.batch_size, self.views = steps, batch_size, views

    def __len__(self) -> int:
        return self.steps

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        for step in range(start_step, self.steps):
            generator = torch.Generator().manual_seed(1000 * epoch + step)
            shape = (self.batch_size, 2, 8, 8, 3) if self.views == 2 else (self.batch_size, 8, 8, 3)
            label = torch.randint(0, 2, (self.batch_size,), generator=generator)
            image = torch.randint(0, 200, shape, generator=generator, dtype=torch.uint8)
            image += 50 * label.to(torch.uint8).view(-1, *[1] * (image.ndim - 1))  # the brighter ones
            yield {"image": image, "label": label}


def network(norm: Callable[[int], nn.Module] = nn.BatchNorm2d, *, out: int = 2, dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1),
        norm(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(8, out),
    )


def group_norm(channels: int) -> nn.Module:
    return nn.GroupNorm(2, channels)


def pixels(batch: Batch) -> Tensor:
    return batch["image"].flatten(0, -4).permute(0, 3, 1, 2).float() / 255 - 0.5


class Classification(SeparableTask):
    """An ordinary task: its loss is a mean over samples."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def training_loss(self, batch: Batch) -> tuple[Tensor, Logs]:
        logits = self.model(pixels(batch))
        return F.cross_entropy(logits.float(), batch["label"]), {"accuracy": accuracy(logits, batch)}

    def evaluate(self, batches: Iterable[Batch]) -> dict[str, float]:
        scores = [accuracy(self.model(pixels(batch)), batch).item() for batch in batches]
        return {"accuracy": sum(scores) / len(scores)}


class Scored(Classification):
    """Scores that are given; a second one says otherwise."""

    def __init__(self, scores: list[float]) -> None:
        super().__init__(network())
        self.scores = iter(scores)
        self.seen: list[Tensor] = []

    def evaluate(self, batches: Iterable[Batch]) -> dict[str, float]:
        assert not self.model.training
        assert len(list(batches)) == 2
        self.seen.append(self.model[0].weight.detach().clone())
        score = next(self.scores)
        return {"iou": score, "loss": -score}


class Contrast(CoupledTask):
    """A task whose loss couples samples."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def embed(self, batch: Batch) -> Tensor:
        return self.model(pixels(batch)).unflatten(0, (-1, 2))

    def batch_loss(self, embeddings: Tensor, step: int) -> tuple[Tensor, Logs]:
        z1, z2 = F.normalize(embeddings, dim=2).unbind(1)
        similarity = z1 @ z2.T / 0.1
        places = torch.arange(len(z1), device=z1.device)
        return F.cross_entropy(similarity, places), {"rows": float(len(z1))}


def accuracy(logits: Tensor, batch: Batch) -> Tensor:
    return (logits.argmax(1) == batch["label"]).float().mean()


def train(
    folder: Path,
    *,
    task: Classification | Contrast | None = None,
    data: Images | None = None,
    validation: Images | None = None,
    optimizer: Callable[..., torch.optim.Optimizer] = adamw,
    learning_rate: float = 0.01,
    epochs: int = 3,
    observers: tuple[Observer, ...] = (),
    every_steps: int | None = None,
    keep_states: int = 1,
    device: torch.device = CPU,
    **options: object,
) -> tuple[FitResult, TrainingState]:
    """Train in a folder, from its last checkpoint where it has one; the result and the last state on the disk."""
    task = task or Classification(network(dropout=0.3))
    checkpoints = Checkpoints(folder / "checkpoints", keep=keep_states, every_steps=every_steps)
    result = fit(
        task,
        data or Images(),
        validation,
        optimizer=optimizer(parameter_groups(task.model, 0.01), learning_rate=learning_rate, weight_decay=0.01),
        schedule=lambda step: learning_rate / (1 + step),
        epochs=epochs,
        device=device,
        observers=(FileHistory(folder), *observers),
        checkpoints=checkpoints,
        start=checkpoints.load_last(),
        **options,
    )
    state = checkpoints.load_last()
    assert state is not None
    return result, state


def flat(value: object, name: str = "") -> dict[str, object]:
    """Leaves of nested dicts and lists by their path."""
    if isinstance(value, dict):
        return {k: v for key, item in value.items() for k, v in flat(item, f"{name}/{key}").items()}
    if isinstance(value, list | tuple):
        return {k: v for key, item in enumerate(value) for k, v in flat(item, f"{name}/{key}").items()}
    return {name: value}


def same(a: object, b: object) -> bool:
    """Equality to the bit of nested states."""
    left, right = flat(a), flat(b)
    return left.keys() == right.keys() and all(
        torch.equal(left[key], right[key]) if isinstance(left[key], Tensor) else left[key] == right[key] for key in left
    )


def without_times(records: list[EpochRecord]) -> list[EpochRecord]:
    return [dataclasses.replace(record, seconds=0.0) for record in records]


def assert_same_run(a: Path, b: Path) -> None:
    first, second = (Checkpoints(folder / "checkpoints").load_last() for folder in (a, b))
    assert first is not None
    assert second is not None
    for part in ("epoch", "step", "model", "optimizer", "scaler", "sums", "images"):
        assert same(getattr(first, part), getattr(second, part)), part
    for name in ("metrics.csv", "metrics.jsonl"):
        assert (a / name).read_bytes() == (b / name).read_bytes()


def relative(a: Tensor, b: Tensor) -> float:
    """The distance from the second, as a share of its length."""
    return float((a - b).norm() / b.norm())
