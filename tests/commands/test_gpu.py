"""The commands on a GPU, as users run them; on a CPU tests/commands/test_pipeline.py does the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from simclrseg.commands.finetune import finetune
from simclrseg.commands.pretrain import pretrain
from simclrseg.config.files import find_preset
from simclrseg.config.finetune import FinetuneConfig
from simclrseg.config.pretrain import PretrainConfig
from simclrseg.data.datasets.shapes import Shapes
from simclrseg.inference.session import open_model
from simclrseg.knobs.parsing import read_config_file
from simclrseg.runs.run import Run
from simclrseg.training.dry_run import DryRun
from tests.gpu import ON_A_GPU, only_free
from tests.small import SMALL_FINETUNE, SMALL_PRETRAIN, changed, evaluated, in_runs

GB = 10**9


@ON_A_GPU
@pytest.mark.slow
@pytest.mark.parametrize("precision", ["auto", "fp16"])
def test_images_become_a_model_on_a_gpu_that_a_cpu_runs(tmp_path: Path, device: torch.device, precision: str) -> None:
    hardware = {"device": "auto", "precision": precision, "workers": 2}
    tree = {**in_runs(SMALL_PRETRAIN, tmp_path), "hardware": hardware}
    pretrained = pretrain(PretrainConfig.model_validate(tree))
    environment = Run(pretrained.run).environment
    assert environment["device"].startswith("cuda") and environment["micro_batch"] == 64
    assert environment["precision"] == ("bf16" if precision == "auto" else precision)
    result = finetune(FinetuneConfig.model_validate({**in_runs(SMALL_FINETUNE, tmp_path), "hardware": hardware}))
    test = json.loads((result.run / "test.json").read_text())
    again = evaluated(tmp_path, result.run.name)  # in PyTorch on the CPU
    assert again["metrics"]["iou"] == pytest.approx(test.get("original", test)["metrics"]["iou"], abs=0.02)
    images = np.stack([Shapes(4).image(index) for index in range(4)])
    found, expected = (open_model(result.onnx, name).run(images) for name in ("auto", "cpu"))
    np.testing.assert_allclose(found, expected, atol=0.01)


@ON_A_GPU
@pytest.mark.slow
@pytest.mark.parametrize(("preset", "limit"), [("simclr_pets", 6 * GB), ("pets_segmentation", 4 * GB)])
def test_the_cards_own_commands_fit_a_small_gpu(tmp_path: Path, device: torch.device, preset: str, limit: int) -> None:
    kind: Any = PretrainConfig if preset == "simclr_pets" else FinetuneConfig
    command = pretrain if kind is PretrainConfig else finetune
    tree = read_config_file(find_preset(preset), "pretrain" if kind is PretrainConfig else "finetune")
    tree = changed(tree, "data", dataset=["shapes"] if kind is PretrainConfig else "shapes")
    tree = changed(in_runs(tree, tmp_path), "run", dry_run=True)
    if kind is FinetuneConfig:
        tree = changed(tree, "model", pretrained="none")
    with only_free(limit, device) as taken:
        result = command(kind.model_validate(tree))
        assert isinstance(result, DryRun)
        assert 0 < torch.cuda.max_memory_reserved(device) - taken <= limit
    assert result.micro_batch >= 20
