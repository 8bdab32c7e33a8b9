"""Whether a pretraining learns: k-NN where there are labels, and the warning where features collapsed."""

from __future__ import annotations

import csv
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from simclrseg.commands import pretrain
from simclrseg.config.pretrain import PretrainConfig
from simclrseg.data.datasets.dataset import Dataset
from simclrseg.data.datasets.derived import join
from simclrseg.data.datasets.shapes import Shapes
from simclrseg.engine.history import EpochRecord, Plan
from simclrseg.methods.simclr import method as simclr
from simclrseg.methods.simclr.method import SimCLRMethod
from simclrseg.metrics.representation import knn_among
from simclrseg.models.backbones import pooled_features
from simclrseg.models.weights import read_metadata
from simclrseg.runs.run import Run
from simclrseg.training import evaluators
from simclrseg.training.evaluators import CollapseWarning, knn_batches, lowest_rank
from simclrseg.training.session import Session
from simclrseg.training.train import Trainer
from tests.engine.small import Images, train
from tests.methods.simclr import small_simclr
from tests.observers import stop_at
from tests.small import MACHINE, SMALL_PRETRAIN, changed, in_runs


def small(**run) -> PretrainConfig:
    return PretrainConfig.model_validate(changed(SMALL_PRETRAIN, "run", **run))


def unlabelled(count: int) -> Dataset:
    class Plain(Dataset):
        def image(self, index: int) -> np.ndarray:
            return np.zeros((8, 8, 3), np.uint8)

    return Plain("plain", [str(i) for i in range(count)])


def test_knn_looks_at_labelled_photos_that_are_learned_from_and_at_no_others():
    dataset = join([unlabelled(30), Shapes(40)])
    probe = knn_batches(dataset, [*range(0, 30, 2), *range(30, 70, 2)], image_size=32, strict=False, threads=1)
    batches = list(probe.epoch(0))
    index = torch.cat([batch["index"] for batch in batches])
    assert sorted(index.tolist()) == list(range(30, 70, 2))
    assert index.tolist() != sorted(index.tolist())  # classes are mixed among those who ask
    assert [dataset.labels[i] for i in index] == torch.cat([batch["label"] for batch in batches]).tolist()
    assert batches[0]["image"].shape[1:] == (32, 32, 3)


def test_the_probe_is_the_same_for_every_seed_and_bounded(monkeypatch):
    monkeypatch.setattr(evaluators, "PROBED", 50)
    configs = [small(seed=seed) for seed in (0, 1)]
    every = [
        config.model_copy(update={"data": config.data.model_copy(update={"max_images": None})}) for config in configs
    ]
    probes = [pretrain.prepare(Session("pretrain", config, MACHINE)).validation for config in every]
    first, second = (probe.samples.indices.tolist() for probe in probes)
    assert first == second
    assert len(set(first)) == 50


def test_there_is_no_knn_where_it_is_switched_off():
    assert pretrain.prepare(Session("pretrain", small(knn_every=0), MACHINE)).validation is None


@pytest.mark.parametrize("dataset", [unlabelled(40), Shapes(4)], ids=["no labels", "too few"])
def test_there_is_no_knn_where_it_means_nothing(dataset):
    assert knn_batches(dataset, range(len(dataset)), image_size=32, strict=False, threads=1) is None


def test_the_chance_level_of_knn_is_told(caplog):
    with caplog.at_level(logging.INFO, logger="simclrseg"):
        knn_batches(Shapes(100), range(100), image_size=32, strict=False, threads=1)
    assert caplog.messages == ["k-NN accuracy on 20 photos among 80 others, 4 classes, the most frequent 25.0%"]


class Wide(nn.Module):
    out_channels = (3, 2048)


@pytest.mark.parametrize(("photos", "lowest"), [(120, 0.02 * 240), (4096, 0.02 * 256), (8, 1.5)])
def test_the_lowest_rank_is_two_per_cent_of_what_can_be_measured(photos, lowest):
    assert lowest_rank(Wide(), photos) == pytest.approx(lowest)


def watched(ranks: list[float | None], *, warmup: float = 2.0) -> None:
    watcher = CollapseWarning(5.0, warmup=warmup, advice=SimCLRMethod.COLLAPSE)
    watcher.on_start(Plan(9, 1, 0, (), 8))
    for epoch, rank in enumerate(ranks, start=1):
        logs = {} if rank is None else {"effective_rank": rank}
        watcher.on_epoch(EpochRecord(epoch, epoch, {"loss": 1.0, **logs}, {}, 1.0))
    watcher.on_end()


def test_a_collapse_after_warm_up_is_told_once_with_what_to_try(caplog):
    watched([1.0, 1.0, 40.0, 4.9, 1.0])
    (message,) = caplog.messages
    assert "in epoch 4 the features have effective rank 4.9, below 5.0" in message
    assert "--learning-rate" in message and "--warmup-epochs" in message


def test_no_collapse_no_warning(caplog):
    watched([1.0, 1.0, 5.0, None, 80.0])
    assert not caplog.messages


def test_dead_features_are_told_of_in_training(tmp_path, caplog):
    simclr = small_simclr()
    for parameter in simclr.model.backbone.parameters():
        parameter.requires_grad_(False).zero_()
    simclr.model.backbone.stage[1].bias.fill_(1)
    watcher = CollapseWarning(lowest_rank(simclr.model.backbone, 6), warmup=1, advice="rest")
    result, _ = train(tmp_path, task=simclr, data=Images(views=2), epochs=3, observers=(watcher,))
    assert result.last["effective_rank"] == pytest.approx(1, abs=1e-3)
    assert len(caplog.messages) == 1


def rows(run: Path) -> list[dict[str, str]]:
    with open(run / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_pretraining_tells_whether_it_learns(pipeline):
    table = rows(pipeline.pretrained.run)
    names = {"loss", "top1", "chance", "alignment", "uniformity", "effective_rank"}
    assert set(table[-1]) == {"epoch", "step", "val_knn", *(f"train_{name}" for name in names)}
    assert [bool(row["val_knn"]) for row in table] == [False, True]  # every fifth epoch, and the last
    assert 0 < float(table[-1]["val_knn"]) <= 1
    assert pipeline.pretrained.metrics["knn"] == float(table[-1]["val_knn"])


def test_the_network_is_scored_before_its_first_step_too(pipeline):
    result, run = pipeline.pretrained, Run(pipeline.pretrained.run)
    prepared = pretrain.prepare(Session("pretrain", PretrainConfig.model_validate(SMALL_PRETRAIN), MACHINE))
    backbone, found = prepared.backbone.eval(), []
    with torch.no_grad():
        for batch in prepared.validation.epoch(0):
            found.append(pooled_features(backbone, prepared.task.normalize(batch["image"])))
    labels = torch.cat([batch["label"] for batch in prepared.validation.epoch(0)])
    before = {"knn": pytest.approx(knn_among(torch.cat(found), labels))}
    assert result.without_learning == run.environment["without_learning"] == before
    metadata = read_metadata(result.backbone)
    assert metadata.without_learning == before and set(metadata.metrics) == {*result.metrics}
    line = f"- knn: {result.metrics['knn']:.4g} ({result.without_learning['knn']:.4g} before pretraining)"
    assert line in (run.folder / "README.md").read_text()


def test_a_pretraining_that_learns_nothing_says_so(tmp_path, monkeypatch, caplog):
    from simclrseg.commands.pretrain import pretrain

    monkeypatch.setattr(Trainer, "score", lambda trainer: {"knn": 1.0})
    monkeypatch.setattr(simclr, "chance_level", lambda n: 0.1)
    config = changed(in_runs(SMALL_PRETRAIN, tmp_path), "training", epochs=1)
    result = pretrain(PretrainConfig.model_validate(changed(config, "data", max_images=64)))
    doubts = read_metadata(result.backbone).doubts
    assert [line.split(" ", 2)[:2] for line in doubts] == [["the", "loss"], ["knn", f"{result.metrics['knn']:.4f}"]]
    card = (result.run / "README.md").read_text()
    assert all(f"**Doubt:** {line}" in card and line in caplog.messages for line in doubts)


def test_pretraining_keeps_its_last_weights(pipeline):
    assert not (pipeline.pretrained.run / "checkpoints" / "best").exists()


def test_a_resumed_pretraining_writes_the_same_metrics_and_weights(tmp_path, monkeypatch):
    from simclrseg.commands.pretrain import pretrain
    from simclrseg.errors import Interrupted

    config = changed(in_runs(SMALL_PRETRAIN, tmp_path), "training", batch_size=64)
    config = changed(changed(config, "data", max_images=128), "run", knn_every=1)
    scored = []
    monkeypatch.setattr(Trainer, "score", lambda trainer: scored.append(trainer) or {"knn": len(scored) / 8})
    whole = pretrain(PretrainConfig.model_validate(config)).run
    parts = changed(config, "run", name="parts")
    with pytest.raises(Interrupted):
        pretrain(PretrainConfig.model_validate(parts), observers=[stop_at(step=3)])
    pytest.importorskip("tensorboard")  # logging may differ when a run goes on
    resumed = changed(parts, "run", resume="parts", log=["tensorboard", "tensorboard"])
    result = pretrain(PretrainConfig.model_validate(resumed))
    assert result.without_learning == {"knn": 2 / 8} and len(scored) == 2  # stored, not measured again
    again = Run(tmp_path / "pretrain" / "parts").folder
    assert len(list((again / "tensorboard").iterdir())) == 1
    for name in ("metrics.csv", "metrics.jsonl"):
        assert (whole / name).read_bytes() == (again / name).read_bytes()
    from simclrseg.models.weights import read_weights

    first, second = (read_weights(folder / "backbone.safetensors")[0] for folder in (whole, again))
    assert all(torch.equal(first[key], second[key]) for key in first)
    without = changed(config, "run", name="without", knn_every=0)  # looking on changes nothing
    other = pretrain(PretrainConfig.model_validate(without)).run
    third, _ = read_weights(other / "backbone.safetensors")
    assert all(torch.equal(first[key], third[key]) for key in first)


def test_a_logger_that_is_not_installed_stops_before_anything_is_made(tmp_path, monkeypatch):
    from simclrseg.commands.pretrain import pretrain
    from simclrseg.engine import loggers
    from simclrseg.errors import UsageError

    monkeypatch.setattr(loggers, "find_spec", lambda package: None)
    config = changed(in_runs(SMALL_PRETRAIN, tmp_path / "runs"), "run", log=["wandb"])
    with pytest.raises(UsageError, match=r"simclrseg\[wandb\]"):
        pretrain(PretrainConfig.model_validate(config))
    assert not (tmp_path / "runs").exists()
