"""Training state on the disk: whole or not at all, and exact."""

from __future__ import annotations

import math
import os
import pickle
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from simclrseg.engine.history import EpochRecord
from simclrseg.engine.stored import Misfit, kinds, require_fit, require_numbers
from simclrseg.errors import OutputError, RunError, TrainingError
from simclrseg.system import distributed
from simclrseg.system.files import replacing, writing
from simclrseg.system.identify import why_not_unpacked

FORMAT = 1
"""Format of the files, which say so; older ones do not, and are of this format too."""


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
    """Exponential moving average of the weights; empty where none is kept."""
    memory: dict[str, Any] = field(default_factory=dict)
    """What the task remembers beside the model."""


class Checkpoints:
    """The last state and the best model of a run, in its ``checkpoints`` folder; of several processes the first writes.

    Args:
        keep: how many last states stay: beside ``last/state.pt`` there is then a ``last/state-<step>.pt`` for each of
            them, the newest included; to go back to one, copy it over ``state.pt``.
        every_steps, every_minutes: how often a state is due in the middle of an epoch.
        anew: one of the files, if it is whole -> what to do where the run cannot go on; nothing may be lost by that.

    Raises:
        TrainingError: if a file cannot be written; the one before stands.
        RunError: if a file cannot be read, is damaged or holds something else; the message has the way back.
    """

    def __init__(
        self,
        folder: Path,
        *,
        keep: int = 1,
        every_steps: int | None = None,
        every_minutes: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        anew: Callable[[Path | None], str] = lambda whole: "start a new run",
    ) -> None:
        self.folder = folder
        self._keep = keep
        self._every_steps = every_steps
        self._every_minutes = every_minutes
        self._clock = clock
        self._anew = anew
        self._saved = clock()
        self._last = folder / "last" / "state.pt"
        self._best = folder / "best" / "model.pt"

    @property
    def exist(self) -> bool:
        """Tell whether there is a state to go on from."""
        return self._last.exists()

    def due(self, step: int) -> bool:
        """Tell whether the state is to be saved after this step, in the middle of an epoch."""
        if self._every_steps is not None and step % self._every_steps == 0:
            return True
        return self._every_minutes is not None and self._clock() - self._saved >= 60 * self._every_minutes

    def save_last(self, state: TrainingState) -> None:
        self._save(self._last, vars(state))
        self._saved = self._clock()
        if self._keep > 1 and distributed.is_main():
            self._keep_last(state.step)

    def load_last(self) -> TrainingState | None:
        """The state to go on from, on the CPU; None when there is none."""
        if not self.exist:
            return None
        with self._refusing(self._last, before=math.inf):
            return _load_state(self._last)

    def fitting(self) -> AbstractContextManager[None]:
        """Refuse the last state where the block, which uses it, raises Misfit."""
        return self._refusing(self._last, before=0)  # those that were kept are no other network's

    def gone_back(self, step: int) -> bool:
        """Tell whether the state of this step took the place of a later one, by hand: epochs will come again."""
        return any(kept > self._named(step) for kept in self._kept())

    def _named(self, step: int) -> Path:
        return self._last.with_name(f"state-{step:09d}.pt")

    def _kept(self) -> list[Path]:
        return sorted(self._last.parent.glob("state-*.pt"))

    def _keep_last(self, step: int) -> None:
        """Give the last state a name that stays, and delete the oldest; those of later steps were abandoned."""
        with self._writing(self._last):
            link = self._named(step)
            link.unlink(missing_ok=True)
            try:
                os.link(self._last, link)
            except OSError:  # a file system without links
                shutil.copyfile(self._last, link)
            kept = self._kept()
            past = [path for path in kept if path <= link]
            for path in set(kept) - set(past[-self._keep :]):
                path.unlink()

    def save_best(self, model: dict[str, Tensor], *, score: float, epoch: int) -> None:
        self._save(self._best, {"model": model, "score": score, "epoch": epoch})

    def load_best(self, own: Mapping[str, Tensor], *, epoch: int) -> dict[str, Tensor]:
        """State of the best epoch's model, on the CPU, to take the place of ``own``.

        Where its weights are lost, a state from before that epoch brings them again.
        """
        with self._refusing(self._best, before=epoch):
            content = _load(self._best)
            require_fit(content, {"model": dict, "score": int | float, "epoch": int}, "content")
            require_fit(content["model"], own, "model")
            if content["epoch"] != epoch:
                raise Misfit(f"it is of epoch {content['epoch']}, and the best is {epoch}")
            model: dict[str, Tensor] = content["model"]
        return model

    @contextmanager
    def _refusing(self, path: Path, *, before: float) -> Iterator[None]:
        """Say in one line that a file does not fit, and what to do.

        Args:
            before: epoch; the run could go on from a state that was kept if it had finished fewer.
        """
        try:
            yield
        except Misfit as misfit:
            back = ""
            for kept in reversed(self._kept()):
                with suppress(Misfit, RunError):
                    if (state := _load_state(kept)).epoch < before:
                        back = f"copy {kept} over {self._last.name} to go back to step {state.step}, or "
                        break
            raise RunError(
                f"{path} cannot be used ({misfit})",
                back + self._anew(next(filter(_is_whole, {self._last, self._best} - {path}), None)),
                path=path,
            ) from misfit

    def _save(self, path: Path, content: dict[str, Any]) -> None:
        if not distributed.is_main():
            return
        with self._writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.serialization.set_crc32_options(True)  # the default; whoever switched it off would lose the run
            with replacing(path) as temporary:
                torch.save({"format": FORMAT, **content}, temporary)

    @contextmanager
    def _writing(self, path: Path) -> Iterator[None]:
        try:
            with writing(path):
                yield
        except (OutputError, RuntimeError) as error:
            reason = error.cause if isinstance(error, OutputError) else str(error).splitlines()[0]
            raise TrainingError(f"{path} cannot be written ({reason})", "free some space", path=path) from error


def _load_state(path: Path) -> TrainingState:
    content = _load(path)
    if isinstance(content, dict):
        for name in ("average", "memory"):  # which older ones lack
            content.setdefault(name, {})
    require_fit(content, kinds(TrainingState), "state")
    state = TrainingState(**content)
    require_numbers(state.sums, "sums")
    require_fit(state.images, dict.fromkeys(state.sums, int), "images")
    for record in state.history:
        require_fit(record, kinds(EpochRecord), "history")
        require_numbers(record["train"], "history.train")
        require_numbers(record["validation"], "history.validation")
    return state


def _load(path: Path) -> Any:
    """Read a file and test its checksums, which torch itself does not.

    Raises:
        Misfit: if it is not whole.
        RunError: if it may be, but cannot be read here.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if what := why_not_unpacked(archive):
                raise Misfit(f"it {what}")
            folders = [entry.filename for entry in archive.infolist() if entry.external_attr]
            if damaged := archive.testzip() or next(iter(folders), None):  # torch reads nothing of a folder
                raise Misfit(f"its {damaged.partition('/')[2]} is damaged")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Misfit:
        raise
    except (MemoryError, PermissionError) as error:
        raise RunError(f"{path} cannot be read ({_reason(error)})", "mend that, and try again", path=path) from error
    except pickle.UnpicklingError as error:  # which torch says at length, and how to read it all the same
        raise Misfit("it holds more than tensors and numbers") from error
    except Exception as error:  # zipfile and torch raise a different class for each way in which a file can be broken
        raise Misfit(_reason(error)) from error
    written = content.pop("format", FORMAT) if isinstance(content, dict) else FORMAT
    if written != FORMAT:
        raise RunError(f"{path} has format {written}, and this version reads {FORMAT}", "update simclrseg", path=path)
    return content


def _is_whole(path: Path) -> bool:
    try:
        _load(path)
    except (Misfit, RunError):
        return False
    return True


def _reason(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) else str(error)
    return (text or type(error).__name__).splitlines()[0]
