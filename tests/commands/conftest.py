"""One small pipeline on the built-in shapes, run once and looked at by many tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from simclrseg.config.finetune import FinetuneConfig
from simclrseg.config.pretrain import PretrainConfig

SMALL_PRETRAIN: dict[str, Any] = {
    "data": {"dataset": ["shapes"], "image_size": 32, "max_images": 256},
    "model": {"backbone": "cnn"},
    "training": {"epochs": 2, "batch_size": 64},
    "hardware": {"device": "cpu", "precision": "fp32", "workers": 2},
}
SMALL_FINETUNE: dict[str, Any] = {
    "data": {"dataset": "shapes", "image_size": 32, "data_ratio": 0.25},
    "model": {"pretrained": "shapes"},
    "training": {"epochs": 2, "batch_size": 16, "learning_rate": 1e-3},
    "hardware": {"device": "cpu", "precision": "fp32", "workers": 2},
}


@dataclass(frozen=True)
class Pipeline:
    runs: Path
    pretrained: dict[str, Any]
    finetuned: dict[str, Any]


def in_runs(config: dict[str, Any], runs: Path) -> dict[str, Any]:
    return {**config, "console": {"runs": str(runs)}}


@pytest.fixture(scope="session")
def pipeline(tmp_path_factory) -> Pipeline:
    from simclrseg.commands.finetune import finetune
    from simclrseg.commands.pretrain import pretrain

    runs = tmp_path_factory.mktemp("pipeline") / "runs"
    data = {**SMALL_FINETUNE["data"], "dataset": None}  # which belongs to what was pretrained on: shapes again
    return Pipeline(
        runs,
        pretrain(PretrainConfig.model_validate(in_runs(SMALL_PRETRAIN, runs))),
        finetune(FinetuneConfig.model_validate(in_runs({**SMALL_FINETUNE, "data": data}, runs))),
    )


@pytest.fixture
def unexported(monkeypatch) -> None:
    """Fine-tuning writes a file of no use for model.onnx, whose export takes longer than all else."""
    export_nothing(monkeypatch)


def export_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from simclrseg.commands import finetune

    monkeypatch.setattr(finetune, "export_onnx", lambda model, path, metadata, **_: path.write_bytes(b"onnx"))


@pytest.fixture
def short_dry_runs(monkeypatch) -> None:
    """Dry runs that take a single step."""
    from simclrseg.training import forecast, train

    monkeypatch.setattr(train, "DRY_STEPS", {"cpu": 1})
    monkeypatch.setattr(forecast, "WARM_UP", 0)
