"""Training state on the disk: whole or not at all, and exact."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from simclrseg import distributed
from simclrseg.errors import RunError, TrainingError
from simclrseg.files import replacing


@dataclass(frozen=True)
class TrainingState:
    """All that the next step depends on, besides the data.

    Random numbers have no state: those of a step follow from the seed and the step.
    """

    epoch: int
    """Epochs finished, with their validation; steps of the next one may have been taken."""
    step: int
    """Optimizer steps taken."""
    model: dict[str, Any]
    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    sums: dict[str, float]
    """Sums of the logs of the epoch under way, and over how many images each."""
    images: dict[str, int]
    history: list[dict[str, Any]]
    """The epoch records so far."""


class Checkpoints:
    """The last state and the best model of a run, in its ``checkpoints`` folder; of several processes the first writes.

    Raises:
        TrainingError: if a file cannot be written; the one before stands.
        RunError: if a file cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._last = folder / "last" / "state.pt"
        self._best = folder / "best" / "model.pt"

    def save_last(self, state: TrainingState) -> None:
        _save(self._last, {field.name: getattr(state, field.name) for field in fields(state)})

    def load_last(self) -> TrainingState | None:
        """The state to go on from, on the CPU; None when there is none."""
        return TrainingState(**_load(self._last)) if self._last.exists() else None

    def save_best(self, model: dict[str, Tensor], *, score: float, epoch: int) -> None:
        _save(self._best, {"model": model, "score": score, "epoch": epoch})

    def load_best(self) -> dict[str, Tensor]:
        """State of the best epoch's model, on the CPU."""
        model: dict[str, Tensor] = _load(self._best)["model"]
        return model


def _save(path: Path, content: dict[str, Any]) -> None:
    if not distributed.is_main():
        return
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            torch.save(content, temporary)


def _load(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a different class for each way in which a file can be broken
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise RunError(f"cannot read {path} ({reason}): start the run again, with --overwrite") from error
    return content


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError) as error:  # torch's writer wraps a full disk into a RuntimeError
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise TrainingError(
            f"{path} cannot be written ({reason}): the last checkpoint stands; free some space"
        ) from error
