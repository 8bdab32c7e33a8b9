"""Training state on the disk: whole or not at all, and exact."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from simclrseg import distributed
from simclrseg.errors import OutputError, RunError, TrainingError
from simclrseg.files import replacing, writing


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
    average: dict[str, Any] = field(default_factory=dict)
    """Of the weights; empty where none is kept."""


class Checkpoints:
    """The last state and the best model of a run, in its ``checkpoints`` folder; of several processes the first writes.

    Args:
        keep: how many last states stay: beside ``last/state.pt`` there is then a ``last/state-<step>.pt`` for each of
            them, the newest included; to go back to one, copy it over ``state.pt``.
        every_steps, every_minutes: how often a state is due in the middle of an epoch.

    Raises:
        TrainingError: if a file cannot be written; the one before stands.
        RunError: if a file cannot be read.
    """

    def __init__(
        self,
        folder: Path,
        *,
        keep: int = 1,
        every_steps: int | None = None,
        every_minutes: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder = folder
        self._keep = keep
        self._every_steps = every_steps
        self._every_minutes = every_minutes
        self._clock = clock
        self._saved = clock()
        self._last = folder / "last" / "state.pt"
        self._best = folder / "best" / "model.pt"

    @property
    def exist(self) -> bool:
        """Whether there is a state to go on from."""
        return self._last.exists()

    def due(self, step: int) -> bool:
        """Whether the state is to be saved after this step, in the middle of an epoch."""
        if self._every_steps is not None and step % self._every_steps == 0:
            return True
        return self._every_minutes is not None and self._clock() - self._saved >= 60 * self._every_minutes

    def save_last(self, state: TrainingState) -> None:
        self._save(self._last, {part.name: getattr(state, part.name) for part in fields(state)})
        self._saved = self._clock()
        if self._keep > 1 and distributed.is_main():
            self._keep_last(state.step)

    def load_last(self) -> TrainingState | None:
        """The state to go on from, on the CPU; None when there is none."""
        return TrainingState(**_load(self._last)) if self.exist else None

    def _keep_last(self, step: int) -> None:
        """Give the last state a name that stays, and delete the oldest; those of later steps were abandoned."""
        with self._writing(self._last):
            link = self._last.with_name(f"state-{step:09d}.pt")
            link.unlink(missing_ok=True)
            try:
                os.link(self._last, link)
            except OSError:  # a file system without links
                shutil.copyfile(self._last, link)
            kept = sorted(self._last.parent.glob("state-*.pt"))
            past = [path for path in kept if path <= link]
            for path in set(kept) - set(past[-self._keep :]):
                path.unlink()

    def save_best(self, model: dict[str, Tensor], *, score: float, epoch: int) -> None:
        self._save(self._best, {"model": model, "score": score, "epoch": epoch})

    def load_best(self) -> dict[str, Tensor]:
        """State of the best epoch's model, on the CPU."""
        model: dict[str, Tensor] = _load(self._best)["model"]
        return model

    def _save(self, path: Path, content: dict[str, Any]) -> None:
        if not distributed.is_main():
            return
        with self._writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary:
                torch.save(content, temporary)

    @contextmanager
    def _writing(self, path: Path) -> Iterator[None]:
        try:
            with writing(path):
                yield
        except (OutputError, RuntimeError) as error:
            reason = error.reason if isinstance(error, OutputError) else str(error).splitlines()[0]
            raise TrainingError(f"{path} cannot be written ({reason}): free some space") from error


def _load(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a different class for each way in which a file can be broken
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise RunError(f"cannot read {path} ({reason}): start the run again, with --overwrite") from error
    return content
