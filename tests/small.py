"""Small runs of the commands on the CPU, and what goes into their configurations."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from simclrseg.commands import finetune
from simclrseg.commands.evaluate import evaluate
from simclrseg.commands.finetune import FinetuneResult
from simclrseg.commands.pretrain import PretrainResult
from simclrseg.config.evaluate import EvaluateConfig
from simclrseg.config.finetune import FinetuneConfig
from simclrseg.evaluation.probed import Probed, ProbedSeveral
from simclrseg.evaluation.results import Report
from simclrseg.knobs.parsing import parse_config
from simclrseg.training.machine import Machine

HARDWARE: dict[str, Any] = {"device": "cpu", "precision": "fp32", "workers": 2}
MACHINE = Machine(torch.device("cpu"), "fp32", 1)
SMALL_PRETRAIN: dict[str, Any] = {
    "data": {"dataset": ["shapes"], "image_size": 32, "max_images": 256},
    "model": {"backbone": "cnn"},
    "training": {"epochs": 2, "batch_size": 64},
    "hardware": HARDWARE,
}
SMALL_FINETUNE: dict[str, Any] = {
    "data": {"dataset": "shapes", "image_size": 32, "data_ratio": 0.5},
    "model": {"pretrained": "shapes"},
    "training": {"epochs": 2, "batch_size": 16, "learning_rate": 1e-3},
    "hardware": HARDWARE,
}


@dataclass(frozen=True)
class Pipeline:
    """What the commands gave for a pretraining and a fine-tuning of it, and the folder of both runs."""

    runs: Path
    pretrained: PretrainResult
    finetuned: FinetuneResult


def in_runs(config: dict[str, Any], runs: Path) -> dict[str, Any]:
    return {**config, "console": {"runs": str(runs)}}


def changed(config: dict[str, Any], section: str, **values: Any) -> dict[str, Any]:
    config = copy.deepcopy(config)
    config.setdefault(section, {}).update(values)
    return config


def classifying(runs: Path, *, data: dict[str, Any], training: dict[str, Any], **model: Any) -> FinetuneConfig:
    tree = {
        "data": {"image_size": 32, **data},
        "model": {"task": "classify", "backbone": "cnn", **model},
        "training": {"epochs": 2, "batch_size": 8, "learning_rate": 1e-3, **training},
        "hardware": HARDWARE,
        "console": {"runs": str(runs)},
    }
    return parse_config(FinetuneConfig, tree)


def evaluated(runs: Path, *models: object, **knobs: Any) -> dict[str, Any]:
    """What `evaluate --json` prints of models, with knobs as ``evaluation`` takes them."""
    return evaluation(runs, *models, **knobs).facts()


def evaluation(
    runs: Path, *models: object, sections: dict[str, Any] | None = None, **data: Any
) -> Report | Probed | ProbedSeveral:
    """What `evaluate` finds of models, with knobs of its section ``data`` and of others."""
    tree = {
        **(sections or {}),
        "data": {"models": list(map(str, models)), **data},
        "hardware": {"device": "cpu", "workers": 1},
        "console": {"runs": str(runs)},
    }
    return evaluate(parse_config(EvaluateConfig, tree))


def export_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let fine-tuning write a file of no use for model.onnx, whose export takes longer than all else."""
    monkeypatch.setattr(finetune, "export_onnx", lambda model, path, metadata, **_: path.write_bytes(b"onnx"))
