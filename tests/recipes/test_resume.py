"""What a resumed run takes over, and what it refuses."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from simclrseg.config.pretrain import PretrainConfig
from simclrseg.errors import DataError, Interrupted
from simclrseg.recipes import pretrain as recipe
from simclrseg.recipes.pretrain import pretrain
from tests.recipes.conftest import SMALL_PRETRAIN, in_runs
from tests.recipes.test_pipeline import changed


class StopAfterTheFirstEpoch:
    def __getattr__(self, name: str) -> Any:
        return lambda record=None: None

    def on_epoch(self, record: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture(scope="module", autouse=True)
def few_photos() -> Any:
    full = recipe.photos_to_learn_from
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe, "photos_to_learn_from", lambda *a, **k: (full(*a, **k)[0], list(range(64))))
        yield patch


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory, few_photos: Any) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    with pytest.raises(Interrupted):
        pretrain(small(runs), observers=[StopAfterTheFirstEpoch()])
    return runs


@pytest.fixture
def begun(interrupted: Path, tmp_path: Path) -> Path:
    """A run that was interrupted, in a folder of runs of its own."""
    return shutil.copytree(interrupted, tmp_path / "runs")


def small(runs: Path, *, run: dict[str, Any] | None = None, **training: Any) -> PretrainConfig:
    config = changed(in_runs(SMALL_PRETRAIN, runs), "training", batch_size=32, micro_batch=16, **training)
    return PretrainConfig.model_validate(config | {"run": {"knn_every": 0, **(run or {})}})


def environment(runs: Path) -> Path:
    return runs / "pretrain" / "shapes" / "environment.json"


@pytest.mark.parametrize("photos", [range(1, 65), range(40), range(80)])
def test_other_photos_are_refused(begun: Path, monkeypatch: pytest.MonkeyPatch, photos: range) -> None:
    found = recipe.photos_to_learn_from
    monkeypatch.setattr(recipe, "photos_to_learn_from", lambda *a, **k: (found(*a, **k)[0], list(photos)))
    before = {path: path.read_bytes() for path in begun.rglob("*.*") if path.is_file()}
    says = rf"--resume shapes: the photos are not those that the run began with \(64, now {len(photos)}\)"
    with pytest.raises(DataError, match=says):
        pretrain(small(begun, run={"resume": "shapes"}))
    assert {path: path.read_bytes() for path in begun.rglob("*.*") if path.is_file()} == before


def test_a_run_out_of_memory_goes_on_with_a_smaller_micro_batch(begun: Path) -> None:
    config = small(begun, run={"resume": "shapes"})
    config = config.model_copy(update={"training": config.training.model_copy(update={"micro_batch": 8})})
    pretrain(config)
    facts = json.loads(environment(begun).read_text())
    assert facts["finished"] and facts["micro_batch"] == 8


def test_it_goes_on_in_the_number_format_in_which_it_began(begun: Path, caplog: pytest.LogCaptureFixture) -> None:
    facts = json.loads(environment(begun).read_text())
    assert facts["precision"] == "fp32"
    environment(begun).write_text(json.dumps({**facts, "precision": "bf16"}))  # as on a machine where auto is that
    config = small(begun, run={"resume": "shapes"})
    with caplog.at_level(logging.WARNING):
        pretrain(config)
    assert "going on in bf16, as the run began; auto is fp32 here" in caplog.messages
    assert json.loads(environment(begun).read_text())["precision"] == "bf16"


@pytest.mark.usefixtures("short_dry_runs")
@pytest.mark.parametrize(("micro_batch", "warned"), [(4, True), (8, False)])
def test_a_micro_batch_that_batch_norm_makes_useless_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, micro_batch: int, warned: bool
) -> None:
    config = small(tmp_path / "runs", run={"dry_run": True})
    config = config.model_copy(update={"training": config.training.model_copy(update={"micro_batch": micro_batch})})
    with caplog.at_level(logging.WARNING):
        assert pretrain(config)["micro_batch"] == micro_batch
    assert any("the two views of one come out as opposites" in line for line in caplog.messages) is warned
