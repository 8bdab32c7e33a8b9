"""Dense contrast as a task."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from simclrseg.data.augment import STRENGTHS
from simclrseg.data.datasets.shapes import Shapes
from simclrseg.data.loader import Loader, some_rows
from simclrseg.engine.loop import fit
from simclrseg.engine.optimizers import adamw, parameter_groups
from simclrseg.engine.task import Batch
from simclrseg.losses.nt_xent import chance_level, contrastive_top1, nt_xent
from simclrseg.losses.places import place_contrast
from simclrseg.methods.base import Views
from simclrseg.methods.dense.method import Dense, PlacedEncoder, look_up
from simclrseg.metrics.representation import effective_rank
from simclrseg.models.backbones import build_backbone, pooled_features
from simclrseg.models.heads import ProjectionHead
from simclrseg.models.normalize import Normalize
from simclrseg.models.segmenters import build_unet
from tests.engine.small import CPU
from tests.methods.small import make_method, make_task, one_batch

NORMALIZE = Normalize((0.5,) * 3, (0.25,) * 3)


def small_dense(**knobs: float) -> Dense:
    task = make_task("dense", projection_hidden=[16], projection_dim=8, **knobs)
    task.train(False)
    return task


def test_the_loss_is_that_of_images_and_of_places_by_their_weight() -> None:
    task = small_dense(dense_weight=0.3, temperature=0.2, dense_temperature=0.4, apart=0.2, negatives=50)
    batch = one_batch("dense")
    torch.manual_seed(1)
    loss, logs = task.batch_loss(task.embed(batch), 0)
    images = NORMALIZE(batch["image"].flatten(0, 1))
    with torch.no_grad():
        vectors = task.model(images, batch["places"].flatten(0, 1)).unflatten(0, (-1, 2))
    first, second = vectors[:, :, 0].unbind(1)
    torch.manual_seed(1)
    places = place_contrast(vectors[:, :, 1:], batch["where"], batch["matched"], 0.4, apart=0.2, negatives=50)
    expected = 0.7 * nt_xent(first, second, 0.2) + 0.3 * places.loss
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert logs["top1"] == contrastive_top1(first, second) and logs["dense_top1"] == places.top1
    assert float(logs["dense_loss"]) == pytest.approx(places.loss.item(), rel=1e-5)
    assert float(logs["chance"]) == pytest.approx(0.7 * chance_level(8) + 0.3 * places.chance.item())
    assert not any(torch.as_tensor(value).requires_grad for value in logs.values())


def test_embeddings_of_an_image_depend_on_it_alone_and_carry_where_its_places_lie() -> None:
    task, batch = small_dense(), one_batch("dense")
    embeddings = task.embed(batch)
    assert embeddings.shape == (8, 2, 33 * 11) and embeddings.dtype == torch.float32
    alone = task.embed({name: rows[2:3] for name, rows in batch.items()})
    torch.testing.assert_close(embeddings[2:3], alone)
    known = embeddings.unflatten(2, (33, 11))[..., -3:]
    for view in range(2):
        torch.testing.assert_close(known[:, view, 1:, :2], batch["where"])
        assert torch.equal(known[:, view, 1:, 2] > 0, batch["matched"][:, None].expand(-1, 32))
    assert not known[:, :, 0].any()


def test_projecting_what_is_looked_up_is_looking_up_what_is_projected() -> None:
    torch.manual_seed(0)
    maps, places = torch.randn(3, 16, 12, 12), torch.rand(3, 5, 2)
    layer = nn.Linear(16, 7)
    before = F.conv2d(maps, layer.weight[:, :, None, None], layer.bias)
    torch.testing.assert_close(layer(look_up(maps, places)), look_up(before, places))


def test_places_are_looked_up_as_torch_samples_a_grid() -> None:
    torch.manual_seed(0)
    maps, places = torch.randn(3, 5, 9, 13, dtype=torch.float64), torch.rand(3, 40, 2, dtype=torch.float64)
    grid = 2 * places[:, None] - 1
    expected = F.grid_sample(maps, grid, padding_mode="border", align_corners=False)[:, :, 0].transpose(1, 2)
    torch.testing.assert_close(look_up(maps, places), expected)
    lone = torch.randn(3, 5, 1, 1, dtype=torch.float64)
    torch.testing.assert_close(look_up(lone, places), lone[:, :, :, 0].transpose(1, 2).expand(-1, 40, -1))


def test_what_is_looked_up_lies_between_the_centres_of_pixels() -> None:
    side = 8
    y, x = torch.meshgrid(*[(torch.arange(side) + 0.5) / side] * 2, indexing="ij")
    maps = torch.stack([x, y])[None]
    places = torch.tensor([[[0.0625, 0.0625], [0.5, 0.3], [0.9, 0.77], [0.0, 1.0]]])
    found = look_up(maps, places)
    torch.testing.assert_close(found[0, :3], places[0, :3])
    torch.testing.assert_close(found[0, 3], torch.tensor([0.0625, 0.9375]))  # beyond the last centres there is no more
    with torch.autocast("cpu", torch.bfloat16):
        half = look_up(maps.bfloat16(), places)
    assert half.dtype == torch.float32 and (half - found).abs().max() < 0.01


def test_a_batch_without_matched_places_is_trained_by_whole_images_alone() -> None:
    task, batch = small_dense(), one_batch("dense")
    batch["matched"][:] = False
    loss, logs = task.batch_loss(task.embed(batch), 0)
    first, second = task.embed(batch).unflatten(2, (33, 11))[:, :, 0, :-3].unbind(1)
    assert loss.item() == pytest.approx(0.5 * nt_xent(first, second, 0.1).item(), rel=1e-5)
    assert logs["dense_loss"] == logs["dense_top1"] == 0
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in task.model.named_parameters()}
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    assert not any(gradient.any() for name, gradient in gradients.items() if name.startswith(("decoder", "place_head")))
    assert gradients["projection_head.layers.0.weight"].any()


def test_the_effective_rank_and_knn_are_those_of_the_encoders_pooled_features() -> None:
    task, batch = small_dense(), one_batch("dense")
    task.embed(batch)
    features = pooled_features(task.model.encoder, NORMALIZE(batch["image"].flatten(0, 1)))
    assert float(task.measure()["effective_rank"]) == pytest.approx(float(effective_rank(features)), rel=1e-4)
    images, labels = batch["image"][:, 0].repeat(2, 1, 1, 1), torch.arange(16) % 2
    scores = task.evaluate([{"image": images, "label": labels}])
    assert list(scores) == ["knn"] and 0 <= scores["knn"] <= 1


@pytest.mark.parametrize("side", [64, 50])
def test_a_real_unet_is_trained_whole_whatever_the_side(side: int) -> None:
    torch.manual_seed(0)
    network = build_unet(build_backbone("resnet18"), "resnet18", 1)
    model = PlacedEncoder(network, ProjectionHead(512, [32], 16), ProjectionHead(16, [32], 16))
    task = Dense(model, NORMALIZE, places=4)
    views = Views(Shapes(4), side, STRENGTHS["seed"], seed=0, strict=True, threads=1)
    rows = some_rows(make_method("dense", places=4).make_samples(views, range(4)), 4)
    batch: Batch = {name: torch.from_numpy(values) for name, values in rows.items()}
    loss, _ = task.batch_loss(task.embed(batch), 0)
    loss.backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


def test_a_forward_pass_is_made_of_shapes_alone() -> None:
    task, batch = small_dense(), one_batch("dense")
    shapes = {name: rows.to("meta") for name, rows in batch.items()}
    task.model.to("meta")
    assert task.embed(shapes).shape == (8, 2, 33 * 11)


CROPS = replace(STRENGTHS["whole"], crop_scale=(0.4, 1.0), jitter_probability=0.0)


@pytest.mark.slow
def test_places_are_found_again_far_above_chance_after_a_short_training() -> None:
    views = Views(Shapes(16), 32, CROPS, seed=0, strict=True, threads=1)
    samples = make_method("dense").make_samples(views, range(16))
    task = make_task("dense", temperature=0.5)
    history = fit(
        task,
        Loader(samples, batch_size=16, shuffle=True, drop_last=True, threads=1),
        optimizer=adamw(parameter_groups(task.model, 0.0), learning_rate=3e-3),
        schedule=lambda step: 3e-3,
        epochs=12,
        device=CPU,
    ).history
    first, last = history[0].train, history[-1].train
    assert {"top1", "alignment", "uniformity", "effective_rank"} <= last.keys()
    assert last["loss"] < 0.9 * last["chance"] and last["dense_loss"] < 0.9 * last["dense_loss_chance"]
    assert first["dense_top1"] < 5 * last["dense_top1_chance"] and last["dense_top1"] > 25 * last["dense_top1_chance"]


def test_the_places_are_marked_in_the_same_colours_in_both_views() -> None:
    pictures = np.full((2, 2, 64, 64, 3), 128, np.uint8)
    places = np.array([[[[0.25, 0.5], [0.75, 0.5]], [[0.5, 0.25], [0.5, 0.75]]]] * 2, np.float32)
    make_method("dense").mark(pictures, {"places": places, "matched": np.array([True, False])})
    first, second = pictures[0]
    assert (first[32, 16] == second[16, 32]).all() and (first[32, 48] == second[48, 32]).all()
    assert (first[32, 16] != first[32, 48]).any() and (first[32, 16] != 128).any()
    assert (pictures[1] == 128).all()
