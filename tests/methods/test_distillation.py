"""Distillation: its losses, its queue and its teacher, small and with real weights and photos."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from simclrseg.commands.prepare_pretrain import strengths_of
from simclrseg.commands.pretrain import pretrain
from simclrseg.config.pretrain import PretrainConfig
from simclrseg.data.loader import some_rows
from simclrseg.engine.loop import fit
from simclrseg.engine.optimizers import adamw, parameter_groups
from simclrseg.errors import Interrupted, UsageError, WeightsError
from simclrseg.knobs.parsing import parse_config
from simclrseg.losses.distillation import divergence, places, similarities
from simclrseg.metadata import IMAGENET_MEAN, IMAGENET_STD, ModelMetadata
from simclrseg.methods.base import method_of
from simclrseg.methods.distillation.knobs import Knobs
from simclrseg.methods.distillation.method import (
    Distillation,
    DistillationMethod,
    Teacher,
    enlargement,
    gathered,
    mixed,
)
from simclrseg.models.backbones import build_backbone, feature_size, last_maps, pooled_and_maps, pooled_features
from simclrseg.models.normalize import Normalize
from simclrseg.models.weights import read_metadata, save_weights
from simclrseg.system import distributed
from tests.engine.small import CPU
from tests.methods.small import Encoder, make_loader, one_batch
from tests.observers import stop_at
from tests.processes import together
from tests.small import SMALL_PRETRAIN, in_runs

NORMALIZE = Normalize((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
IMAGENET = Normalize(IMAGENET_MEAN, IMAGENET_STD)
PATCH_14 = "tu-vit_small_patch14_reg4_dinov2"


def distillation(teacher: str = "cnn", backbone: nn.Module | None = None, **options: Any) -> Distillation:
    torch.manual_seed(0)
    student = Encoder() if backbone is None else backbone
    return Distillation(student, build_backbone(teacher), NORMALIZE, IMAGENET, **options)


def cosine(one: Tensor, other: Tensor) -> float:
    dot = sum(a * b for a, b in zip(one.tolist(), other.tolist(), strict=True))
    return dot / math.sqrt(sum(a * a for a in one.tolist()) * sum(b * b for b in other.tolist()))


def softmax(values: list[float]) -> list[float]:
    total = sum(map(math.exp, values))
    return [math.exp(value) / total for value in values]


def kullback_leibler(teacher: list[float], student: list[float]) -> float:
    """Of the softmax of two rows of logits."""
    pairs = zip(softmax(teacher), softmax(student), strict=True)
    return sum(p * (math.log(p) - math.log(q)) for p, q in pairs)


def slow(taught: Tensor, learned: Tensor, anchors: Tensor, anchors_learned: Tensor, temperature: float) -> float:
    """The divergence of similarities with anchors, vector by vector."""
    rows = []
    for teacher, student in zip(taught, learned, strict=True):
        first = [cosine(teacher, anchor) / temperature for anchor in anchors]
        second = [cosine(student, anchor) / temperature for anchor in anchors_learned]
        rows.append(kullback_leibler(first, second))
    return sum(rows) / len(rows)


def test_the_divergence_of_similarities_equals_its_definition() -> None:
    torch.manual_seed(1)
    taught, learned, anchors = (torch.randn(number, 3, dtype=torch.float64) for number in (4, 4, 5))
    found = divergence(similarities(taught, anchors, 0.2), similarities(learned, anchors, 0.2))
    assert found.item() == pytest.approx(slow(taught, learned, anchors, anchors, 0.2), rel=1e-9)
    assert divergence(similarities(taught, anchors, 0.2), similarities(3 * taught, anchors, 0.2)).item() < 1e-12


def test_similarities_are_those_of_float32_under_autocast() -> None:
    torch.manual_seed(1)
    vectors, anchors = torch.randn(4, 16), torch.randn(5, 16)
    with torch.autocast("cpu", torch.bfloat16):
        found = similarities(vectors, anchors, 0.07)
    assert found.dtype == torch.float32 and torch.equal(found, similarities(vectors, anchors, 0.07))


def test_places_are_those_of_the_teachers_grid_row_by_row() -> None:
    features = torch.arange(2 * 3 * 2 * 4).float().view(2, 3, 2, 4)
    assert torch.equal(places(features, (2, 4))[1, 5], features[1, :, 1, 1])
    assert torch.equal(places(features, (1, 2)), F.interpolate(features, (1, 2), mode="bilinear").flatten(2).mT)


def test_each_photo_is_mixed_with_its_neighbour_and_an_odd_last_one_with_none() -> None:
    images = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0]).view(5, 1, 1, 1)
    shares = torch.tensor([1.0, 0.25, 0.5, 0.0, 0.3])
    assert mixed(images, shares).flatten().tolist() == pytest.approx([1.0, 1.25, 6.0, 4.0, 16.0])


def test_the_loss_is_that_over_photos_and_over_places_of_both_maps_term_by_term() -> None:
    task = distillation(queue=6, temperature=0.2, place_weight=0.7, finer=0.4)
    batch = one_batch("distillation", 4)
    model = task.model
    loss, logs = task.training_loss(batch)
    of_photos, of_places = [], []
    images = batch["image"].float() / 255
    mixes = []
    for place, share in enumerate(batch["mix"].tolist()):
        mixes.append(share * images[place] + (1 - share) * images[place ^ 1])
    mixture = torch.stack(mixes)
    seen, shown = (
        ((mixture - torch.tensor(normalize.mean)) / torch.tensor(normalize.std)).permute(0, 3, 1, 2)
        for normalize in (NORMALIZE, IMAGENET)
    )
    with torch.no_grad():
        shown = F.interpolate(shown, (64, 64), mode="bilinear")  # the cnn's stride is 32
        map_taught = model.teacher(shown)[-1]
        assert map_taught.shape[2:] == (2, 2)
        maps = [head(features) for head, features in zip(model.place_heads, model.backbone(seen)[:3:-1], strict=True)]
        photos = model.photo_head(model.backbone(seen)[-1].mean((2, 3)))
        taught = map_taught.mean((2, 3))
        of_photos = slow(taught, photos, model.queue, model.queue, 0.2)
        for features, weight in zip(maps, (1.0, 0.4), strict=True):
            features = F.interpolate(features, (2, 2), mode="bilinear")
            pairs = [(a.flatten(1).T, b.flatten(1).T) for a, b in zip(map_taught, features, strict=True)]
            of_places.append(weight * sum(slow(a, b, a, b, 0.2) for a, b in pairs) / len(pairs))
    assert logs["photos"].item() == pytest.approx(of_photos, rel=1e-4)
    assert logs["places"].item() == pytest.approx(sum(of_places), rel=1e-4)
    assert loss.item() == pytest.approx(of_photos + 0.7 * sum(of_places), rel=1e-4)
    alike = [slow(taught, torch.ones_like(taught), model.queue, torch.ones_like(model.queue), 0.2)]
    same = [(a.flatten(1).T, torch.ones(4, 1)) for a in map_taught]
    alike += [sum(slow(a, b, a, b, 0.2) for a, b in same) / len(same)]
    assert logs["chance"].item() == pytest.approx(alike[0] + 0.7 * 1.4 * alike[1], rel=1e-4)


@pytest.mark.parametrize(("backbone", "maps"), [("resnet18", 2), ("tu-test_vit", 1)])
def test_a_student_that_sees_all_alike_has_the_loss_of_chance(backbone: str, maps: int) -> None:
    task = distillation(backbone=build_backbone(backbone), queue=6, place_weight=0.7, finer=0.4)
    assert len(task.model.place_heads) == maps
    for layer in (task.model.photo_head, *task.model.place_heads):
        nn.init.zeros_(layer.weight)
    loss, logs = task.training_loss(one_batch("distillation", 4))
    assert loss.item() == pytest.approx(logs["chance"].item(), rel=1e-5)


def test_the_loss_has_the_knobs_that_were_asked_for() -> None:
    knobs = Knobs(teacher="imagenet", similarity_temperature=0.2, place_weight=0.7, finer=0.4, queue=6)
    method = DistillationMethod(knobs)
    method.known = Teacher("imagenet", "cnn", 3, "imagenet", IMAGENET_MEAN, IMAGENET_STD)
    method.network = build_backbone("cnn")
    task = method.make_task(build_backbone("cnn"), "cnn", Normalize(NORMALIZE.mean, NORMALIZE.std, 10_000))
    assert (task.temperature, task.place_weight, task.finer, len(task.model.queue)) == (0.2, 0.7, 0.4, 6)
    assert task.teacher_normalize.mean == IMAGENET_MEAN != task.normalize.mean
    assert task.teacher_normalize.full_scale == task.normalize.full_scale == 10_000


def test_the_teacher_stays_as_it_is_and_the_queue_holds_what_it_saw_last() -> None:
    task = distillation(queue=12)
    state = {key: value.clone() for key, value in task.teacher.state_dict().items()}
    first = task.model.queue.clone()
    data = make_loader("distillation", images=16, batch_size=8)
    options = {"schedule": lambda step: 1e-3, "device": CPU}
    optimizer = adamw(parameter_groups(task.model, 0.0), learning_rate=1e-3)
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    assert not held & {id(parameter) for parameter in task.teacher.parameters()}
    fit(task, data, optimizer=optimizer, epochs=1, **options)
    assert not any(module.training for module in task.teacher.modules())
    assert all(torch.equal(value, task.teacher.state_dict()[key]) for key, value in state.items())
    expected = first.clone()
    for step, batch in enumerate(data.epoch(0)):
        shown = F.interpolate(mixed(IMAGENET(batch["image"]), batch["mix"]), (64, 64), mode="bilinear")
        with torch.inference_mode():
            rows = F.normalize(pooled_features(task.teacher, shown), dim=1)
        for place, row in enumerate(rows):
            expected[(8 * step + place) % 12] = row
    torch.testing.assert_close(task.model.queue, expected)
    assert torch.allclose(first.norm(dim=1), torch.ones(12))


def test_of_a_batch_larger_than_the_queue_the_last_photos_are_kept() -> None:
    task = distillation(queue=3)
    task.training_loss(batch := one_batch("distillation", 8))
    with torch.no_grad():
        task.after_step(5, 10)
    shown = F.interpolate(mixed(IMAGENET(batch["image"]), batch["mix"]), (64, 64), mode="bilinear")
    with torch.inference_mode():
        rows = F.normalize(pooled_features(task.teacher, shown), dim=1)[-3:]
    assert sorted(task.model.queue[:, 0].tolist()) == pytest.approx(sorted(rows[:, 0].tolist()), abs=1e-6)


def gather_some(folder: Path) -> None:
    """Gather one row of the first process and two of the second."""
    distributed.start(CPU)
    rank = distributed.rank()
    torch.save(gathered(torch.arange(rank + 1.0)[:, None] + 10 * rank), folder / f"{rank}.pt")
    distributed.dismiss()


def test_processes_whose_photos_differ_in_number_have_the_same_rows(tmp_path: Path) -> None:
    together(gather_some, tmp_path)
    for rank in range(2):
        assert torch.load(tmp_path / f"{rank}.pt").flatten().tolist() == [0.0, 10.0, 11.0]


def train_on_unequal_shares(folder: Path) -> None:
    """Train on batches of 6, of which the first process has 2 and the second 4, a pair at a time."""
    torch.set_num_threads(1)
    distributed.start(CPU)
    task = distillation(queue=8)
    data = make_loader("distillation", images=12, batch_size=6)
    data.neighbours = task.neighbours
    options = {"schedule": lambda step: 1e-3, "device": CPU, "micro_batch": 2}
    optimizer = adamw(parameter_groups(task.model, 0.0), learning_rate=1e-3)
    found = fit(task, data, optimizer=optimizer, epochs=1, **options)
    torch.save({"logs": found.last, "model": task.model.state_dict()}, folder / f"{distributed.rank()}.pt")
    distributed.dismiss()


def test_a_process_that_runs_out_of_photos_before_the_others_measures_nothing_and_trains_on(tmp_path: Path) -> None:
    together(train_on_unequal_shares, tmp_path)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert math.isfinite(first["logs"]["loss"]) and first["logs"]["loss"] == second["logs"]["loss"]
    assert "effective_rank" not in first["logs"] and second["logs"]["effective_rank"] > 1
    assert all(torch.equal(value, second["model"][key]) for key, value in first["model"].items())


@pytest.mark.parametrize("name", ["resnet18", "tu-vit_tiny_patch16_224", PATCH_14, "tu-vit_small_patch16_dinov3"])
def test_features_and_maps_come_of_one_pass_as_they_would_alone(name: str) -> None:
    backbone = build_backbone(name).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        pooled, maps = pooled_and_maps(backbone, images)
        torch.testing.assert_close(pooled, pooled_features(backbone, images))
        assert [features.shape[1] for features in maps] == last_maps(backbone)
        if name == "resnet18":
            assert all(torch.equal(*pair) for pair in zip(maps, backbone(images)[:3:-1], strict=True))
        else:
            patches = backbone.model.forward_intermediates(
                F.interpolate(images, (56, 56), mode="bilinear") if name == PATCH_14 else images,
                indices=1,
                norm=True,
                intermediates_only=True,
            )[-1]
            torch.testing.assert_close(maps[0], patches)


@pytest.mark.parametrize(
    ("name", "times"),
    [("cnn", 2), ("resnet18", 2), ("tu-tf_efficientnet_lite0", 2), ("tu-vit_tiny_patch16_224", 1), (PATCH_14, 1)],
)
def test_a_teacher_is_shown_pictures_so_large_that_its_places_are_of_16_pixels(name: str, times: int) -> None:
    assert enlargement(build_backbone(name), 3) == times


def test_a_transformer_of_patches_of_14_teaches_a_resnet() -> None:
    task = distillation(PATCH_14, build_backbone("resnet18"), queue=8)
    loss, _ = task.training_loss(one_batch("distillation", 4))
    loss.backward()
    size = feature_size(task.teacher)
    assert size == 384 and task.model.queue.shape == (8, size)
    assert all(parameter.grad is not None for parameter in task.model.backbone.parameters())
    assert all(parameter.grad is None for parameter in task.teacher.parameters())


def saved_teacher(folder: Path, encoder: str = "cnn", **facts: Any) -> Path:
    torch.manual_seed(2)
    backbone = build_backbone(encoder, in_channels=facts.get("in_channels", 3))
    metadata = ModelMetadata(task="backbone", encoder=encoder, image_size=32, **facts)
    save_weights(folder / "expert.safetensors", backbone.state_dict(), metadata)
    return folder / "expert.safetensors"


def small(folder: Path, *, image_size: int = 32, run: dict[str, Any] | None = None, **knobs: Any) -> PretrainConfig:
    tree = in_runs(SMALL_PRETRAIN, folder / "runs") | {"training": {"epochs": 2, "batch_size": 8}}
    tree["data"] = {**tree["data"], "max_images": 16, "image_size": image_size}
    tree["model"] = {"method": "distillation", "backbone": "cnn"}
    return parse_config(PretrainConfig, tree | {"distillation": knobs, "run": {"knn_every": 0, **(run or {})}})


@pytest.mark.parametrize(
    ("data", "scale"),
    [({}, 0.14), ({"augmentation": "whole"}, 1.0), ({"augmentation": "paper", "crop_scale": 0.5}, 0.5)],
)
def test_an_augmentation_that_is_asked_for_keeps_its_own_crops(data: dict[str, Any], scale: float) -> None:
    tree = {"data": {"dataset": ["shapes"], **data}, "model": {"method": "distillation"}}
    config = parse_config(PretrainConfig, tree | {"distillation": {"teacher": "imagenet"}})
    assert strengths_of(config.data).crop_scale == (scale, 1.0)


def test_a_run_keeps_the_student_alone_and_names_its_teacher_and_the_licence(tmp_path: Path) -> None:
    facts = {"terms": ("dinov3-license (timm/x)",), "mean": (0.1, 0.2, 0.3), "std": (1.0, 1.0, 1.0)}
    result = pretrain(small(tmp_path, teacher=str(saved_teacher(tmp_path, **facts))))
    assert set(load_file(result.backbone)) == set(build_backbone("cnn").state_dict())
    metadata = read_metadata(result.backbone)
    assert (metadata.method, metadata.teacher, metadata.terms) == ("distillation", "expert", facts["terms"])
    assert metadata.mean == IMAGENET_MEAN  # the student's own, not the teacher's
    card = (result.run / "README.md").read_text()
    assert "| distilled from | expert |" in card and "made of: dinov3-license (timm/x)." in card
    assert result.metrics["loss"] < result.metrics["chance"]


def test_weights_without_metadata_teach_too(tmp_path: Path) -> None:
    save_file(load_file(saved_teacher(tmp_path)), tmp_path / "plain.safetensors")
    result = pretrain(small(tmp_path, teacher=str(tmp_path / "plain.safetensors"), teacher_backbone="cnn"))
    assert read_metadata(result.backbone).teacher == "plain"
    assert result.metrics["loss"] < result.metrics["chance"]


def test_a_run_that_goes_on_needs_the_teachers_file_no_more_and_ends_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    file = saved_teacher(tmp_path, mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0))
    whole = pretrain(small(tmp_path / "whole", teacher=str(file), queue=6))
    with pytest.raises(Interrupted):
        pretrain(small(tmp_path / "parts", teacher=str(file), queue=6), observers=[stop_at(step=3)])
    file.unlink()
    again = small(tmp_path / "parts", teacher=str(file), queue=6, run={"resume": "shapes-distillation"})
    parts = pretrain(again)
    first, second = load_file(whole.backbone), load_file(parts.backbone)
    assert all(torch.equal(first[key], second[key]) for key in first)
    states = [torch.load(run / "checkpoints/last/state.pt")["model"] for run in (whole.run, parts.run)]
    assert torch.equal(states[0]["queue"], states[1]["queue"])
    assert read_metadata(parts.backbone).teacher == "expert"


def test_the_queue_holds_half_of_the_photos_at_most_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    method = method_of(small(tmp_path, teacher="imagenet").distillation)
    with caplog.at_level(logging.INFO, logger="simclrseg"):
        assert method.fit_to(90, begun={}) == {"distillation_queue": 45}
    assert "the queue holds 45 past photos, half of those there are, instead of 1,024 (--set" in caplog.text
    assert method.fit_to(5_000, begun={}) == {"distillation_queue": 1024}
    assert method.fit_to(80, begun={"distillation_queue": 45}) == {"distillation_queue": 45}  # as in its state
    assert method.fit_to(1, begun={}) == {"distillation_queue": 2}


def test_what_cannot_teach_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"teacher is not given.*name one, as dinov2 or imagenet"):
        small(tmp_path, teacher="none")
    file = saved_teacher(tmp_path)
    reason = "teacher_backbone=resnet18 contradicts --teacher expert, which is a cnn: take .*teacher_backbone=cnn, or"
    with pytest.raises(UsageError, match=reason):
        pretrain(small(tmp_path, teacher=str(file), teacher_backbone="resnet18"))
    twelve = tmp_path / "twelve"
    twelve.mkdir()
    other = saved_teacher(twelve, in_channels=12, bands=tuple(map(str, range(12))), mean=(0.5,) * 12, std=(0.5,) * 12)
    with pytest.raises(UsageError, match="expert sees pictures of 12 bands, and the photos have 3: name one"):
        pretrain(small(tmp_path, teacher=str(other)))
    save_weights(
        tmp_path / "x.safetensors",
        {"weight": torch.zeros(1)},
        ModelMetadata(task="backbone", encoder="cnn", image_size=32),
    )
    with pytest.raises(WeightsError, match="does not fit"):
        pretrain(small(tmp_path, teacher=str(tmp_path / "x.safetensors")))
    vit = saved_teacher(twelve, "tu-vit_tiny_patch16_224")
    with pytest.raises(UsageError, match="--image-size 40: tu-vit_tiny_patch16_224 cuts pictures into patches of 16"):
        pretrain(small(tmp_path, image_size=40, teacher=str(vit)))
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_resnet_learns_from_lite0_on_real_photos(real_data: Path) -> None:
    from simclrseg.data.augment import STRENGTHS
    from simclrseg.data.datasets.locate import open_dataset
    from simclrseg.data.samples import MixedViews
    from simclrseg.models.weights import load_backbone

    teacher = build_backbone("tu-tf_efficientnet_lite0")
    report = load_backbone(teacher, real_data / "weights" / "tf_efficientnet_lite0.safetensors")
    assert report.loaded == report.total
    photos = open_dataset(str(real_data / "cats_vs_dogs"))
    samples = MixedViews(photos, range(16), image_size=64, strengths=STRENGTHS["seed"])
    batch = {name: torch.from_numpy(rows) for name, rows in some_rows(samples, 16).items()}
    torch.manual_seed(0)
    task = Distillation(build_backbone("resnet18"), teacher, IMAGENET, IMAGENET, queue=64)
    optimizer = adamw(parameter_groups(task.model, 0.0), learning_rate=1e-3)
    losses = []
    for _ in range(8):
        loss, _ = task.training_loss(batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
