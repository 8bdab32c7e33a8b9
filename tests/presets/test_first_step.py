"""Every preset takes its first steps, at a reduced size."""

from __future__ import annotations

from typing import Any

import pytest

from simclrseg.config import FinetuneConfig, PretrainConfig
from simclrseg.knobs import parse_config
from simclrseg.presets import PRESETS, load_preset
from simclrseg.recipes.finetune import finetune
from simclrseg.recipes.pretrain import pretrain

COMMANDS: dict[str, Any] = {"pretrain": (PretrainConfig, pretrain), "finetune": (FinetuneConfig, finetune)}
REDUCED: dict[str, dict[str, dict[str, Any]]] = {
    "pretrain": {"data": {"dataset": ["shapes"]}, "model": {"init": "none"}},
    "finetune": {"data": {"dataset": "shapes", "data_ratio": 0.1}, "model": {"pretrained": "none"}},
}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_takes_its_first_steps(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = PRESETS[name].read_text().partition("\ncommand: ")[2].partition("\n")[0]
    model, recipe = COMMANDS[command]
    tree = load_preset(name, command)
    for section, values in REDUCED[command].items():
        tree.setdefault(section, {}).update(values)
    tree["data"]["image_size"] = 32
    tree["training"].update(epochs=1, batch_size=4, micro_batch=4)
    tree |= {"hardware": {"device": "cpu", "precision": "fp32", "workers": 1}, "run": {"dry_run": True}}
    assert recipe(parse_config(model, tree))
    assert not list(tmp_path.iterdir())
