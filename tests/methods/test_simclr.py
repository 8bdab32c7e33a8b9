"""SimCLR as a task."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from simclrseg.engine.loop import evaluate
from simclrseg.engine.task import Batch, Logs
from simclrseg.losses.nt_xent import nt_xent
from simclrseg.methods.simclr.method import SimCLR
from simclrseg.metrics.representation import alignment, effective_rank, knn_predictions, uniformity
from simclrseg.models.backbones import build_backbone, pooled_features
from simclrseg.models.normalize import Normalize
from tests.engine.small import CPU, Images, train
from tests.methods.simclr import HALF, small_simclr


def batch(size: int = 6) -> Batch:
    return next(Images(1, size, views=2).epoch(0))


def loss_of(simclr: SimCLR, data: Batch) -> tuple[torch.Tensor, Logs]:
    return simclr.batch_loss(simclr.embed(data), 0)


def test_the_loss_is_nt_xent_of_both_views_in_one_forward_pass() -> None:
    simclr, data = small_simclr(temperature=0.2), batch()
    views = data["image"].permute(1, 0, 4, 2, 3).float() / 127.5 - 1  # (2, N, 3, S, S)
    reference = small_simclr(temperature=0.2)
    z1, z2 = reference.model(torch.cat(list(views))).chunk(2)
    loss, logs = loss_of(simclr, data)
    assert loss.item() == pytest.approx(nt_xent(z1, z2, 0.2).item(), rel=1e-4)
    assert logs["chance"] == math.log(11)
    assert 0 <= float(logs["top1"]) <= 1
    assert simclr.model.projection_head.layers[1].num_batches_tracked == 1


def test_embeddings_keep_the_views_of_a_photo_together() -> None:
    simclr, data = small_simclr(), batch()
    simclr.model.eval()
    embeddings = simclr.embed(data)
    assert embeddings.shape == (6, 2, 8)
    alone = simclr.embed({"image": data["image"][2:3]})
    torch.testing.assert_close(embeddings[2], alone[0])


class Colours(Images):
    """Photos of one colour each, whose views differ by noise."""

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        for batch in super().epoch(epoch, start_step):
            noise = batch["image"] // 4
            colours = batch["image"][:, :1, :1, :1] // 4 * 3
            yield {"image": colours + noise}


def test_training_takes_the_loss_below_chance_and_finds_views_again(tmp_path: Path) -> None:
    data = Colours(4, 8, views=2)
    result, _ = train(tmp_path, task=small_simclr(temperature=0.5), data=data, epochs=8, learning_rate=0.05)
    first, last = result.history[0].train, result.last
    assert list(last) == ["loss", "top1", "chance", "alignment", "uniformity", "effective_rank"]
    assert last["alignment"] < first["alignment"]
    assert last["loss"] < first["loss"]
    assert last["loss"] < 0.8 * last["chance"]
    assert last["chance"] == pytest.approx(math.log(15))
    assert last["top1"] > 0.5


def test_a_real_encoder_is_trained_through_its_head() -> None:
    torch.manual_seed(0)
    backbone = build_backbone("resnet18")
    simclr = SimCLR(backbone, Normalize(HALF, HALF))
    image = torch.randint(0, 256, (4, 2, 32, 32, 3), dtype=torch.uint8)
    loss, _ = loss_of(simclr, {"image": image})
    loss.backward()
    assert all(parameter.grad is not None for parameter in simclr.model.parameters())
    assert backbone.conv1.weight.grad.abs().sum() > 0


def test_alignment_and_uniformity_are_those_of_the_projections() -> None:
    simclr, data = small_simclr(), batch()
    simclr.model.eval()
    z1, z2 = simclr.embed(data).unbind(1)
    _, logs = simclr.batch_loss(torch.stack([z1, z2], dim=1), 0)
    assert float(logs["alignment"]) == pytest.approx(float(alignment(z1, z2)))
    assert float(logs["uniformity"]) == pytest.approx(float(uniformity(z1) + uniformity(z2)) / 2)


def test_effective_rank_is_that_of_the_backbones_features() -> None:
    simclr, data = small_simclr(), batch()
    simclr.embed(data)
    same = small_simclr()
    features = pooled_features(same.model.backbone, same.normalize(data["image"].flatten(0, 1)))
    assert float(simclr.measure()["effective_rank"]) == pytest.approx(float(effective_rank(features)), rel=1e-4)
    assert not simclr.model.features.requires_grad


def test_features_that_are_all_the_same_are_seen_though_the_head_spreads_them() -> None:
    simclr = small_simclr()
    for parameter in simclr.model.backbone.parameters():
        torch.nn.init.zeros_(parameter)
    torch.nn.init.ones_(simclr.model.backbone.stage[1].bias)
    loss, _ = loss_of(simclr, batch())
    assert loss.isfinite()
    assert float(simclr.measure()["effective_rank"]) == pytest.approx(1, abs=1e-3)


def test_knn_lets_every_fifth_photo_ask_the_others_and_leaves_the_model_as_it_was() -> None:
    simclr, data = small_simclr(), Images(5, 7)
    before = {name: value.clone() for name, value in simclr.model.state_dict().items()}
    scores = evaluate(simclr, data, device=CPU)
    assert simclr.model.training
    assert all(torch.equal(value, before[name]) for name, value in simclr.model.state_dict().items())
    simclr.model.eval()
    batches = list(data.epoch(0))
    images, labels = (torch.cat([each[name] for each in batches]) for name in ("image", "label"))
    features = pooled_features(simclr.model.backbone, simclr.normalize(images)).detach()
    bank = [place for place in range(35) if place % 5]
    expected = float((knn_predictions(features[bank], labels[bank], features[::5]) == labels[::5]).double().mean())
    assert scores == {"knn": pytest.approx(expected)}
    assert expected > 0.6  # brightness is the label, and a random network sees it
