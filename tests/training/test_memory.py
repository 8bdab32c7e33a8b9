"""The micro-batch that nobody names: resolved once, said, stored, and taken again on resume."""

from __future__ import annotations

import json
import logging
import signal
from pathlib import Path
from typing import Any

import pytest

from simclrseg.config.pretrain import PretrainConfig
from simclrseg.data.datasets.shapes import Shapes
from simclrseg.data.loader import Loader
from simclrseg.data.samples import MaskPairs
from simclrseg.errors import Interrupted, UsageError
from simclrseg.knobs.parsing import parse_config
from simclrseg.losses.segmentation import bce
from simclrseg.metadata import ModelMetadata
from simclrseg.models import SEGMENTERS
from simclrseg.models.backbones import build_backbone
from simclrseg.targets.segment.learner import Segmentation
from simclrseg.training import batches
from simclrseg.training.batches import check_last_batch
from tests.observers import stop_at
from tests.small import SMALL_PRETRAIN, changed, in_runs


def stored(run: str | Path) -> int:
    return json.loads((Path(run) / "environment.json").read_text())["micro_batch"]


def test_where_memory_is_plenty_the_batch_stays_whole(pipeline):
    assert stored(pipeline.pretrained.run) == 64
    assert stored(pipeline.finetuned.run) == 16


def test_little_memory_gives_a_micro_batch_that_a_resumed_run_keeps(tmp_path, monkeypatch, caplog):
    from simclrseg.commands.pretrain import pretrain

    caplog.set_level(logging.INFO, "simclrseg")
    config = changed(in_runs(SMALL_PRETRAIN, tmp_path), "training", epochs=2, batch_size=256)
    monkeypatch.setattr(batches, "free_memory", lambda device: 300_000_000)
    with pytest.raises(Interrupted):
        pretrain(PretrainConfig.model_validate(config), observers=[stop_at(epoch=1, by=signal.SIGTERM)])
    (line,) = [line for line in caplog.messages if line.startswith("micro-batch")]
    micro_batch = stored(tmp_path / "pretrain/shapes")
    assert micro_batch < 256
    assert 256 % micro_batch == 0
    assert line.startswith(f"micro-batch {micro_batch} of 256: about 1.79")
    assert line.endswith(" MB an image, 0.3 GB free")
    monkeypatch.setattr(batches, "free_memory", lambda device: pytest.fail("measured again"))
    result = pretrain(PretrainConfig.model_validate(changed(config, "run", resume="shapes")))
    assert stored(result.run) == micro_batch


@pytest.mark.parametrize("temperature", ["0.005", 0, -1.0])
def test_a_temperature_that_is_too_low_is_refused_with_the_reason(temperature):
    tree = {"data": {"dataset": "shapes"}, "simclr": {"temperature": temperature}}
    with pytest.raises(UsageError, match=rf"temperature: {temperature} is too low: cosines divided by less than 0.01"):
        parse_config(PretrainConfig, tree)


@pytest.mark.parametrize(("encoder", "decoder"), [("cnn", "unet"), ("tu-vit_tiny_patch16_224", "dpt")])
def test_a_last_batch_with_nothing_for_a_process_is_refused_where_the_network_needs_something(
    encoder: str, decoder: str
) -> None:
    facts = {"task": "segmentation", "encoder": encoder, "image_size": 32, "classes": ("a", "b"), "threshold": 0.5}
    model = SEGMENTERS[decoder](build_backbone(encoder), encoder, 1)
    task = Segmentation(model, ModelMetadata(**facts, mean=(0.5,) * 3, std=(0.25,) * 3), bce)

    def batches(photos: int, **options: Any) -> Loader:
        shared = {"batch_size": 12, "shuffle": True, "threads": 1, "world_size": 4, "drop_last": False}
        return Loader(MaskPairs(Shapes(photos), range(photos), image_size=32), **(shared | options))

    assert [batches(photos).most_processes for photos in (27, 36, 8)] == [3, 12, 8]
    assert batches(27, neighbours=2).most_processes == 2 and batches(27, drop_last=True).most_processes == 12
    check_last_batch(task, batches(28))
    if encoder == "cnn":
        check_last_batch(task, batches(27))
        return
    message = r"has photos for 3 of 4 processes, and this network cannot do without any: take --devices 3"
    with pytest.raises(UsageError, match=message):
        check_last_batch(task, batches(27))
