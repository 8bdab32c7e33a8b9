"""Reconstruction as a task."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from simclrseg.engine.gradients import Passes, accumulate_gradient
from simclrseg.engine.task import Batch
from simclrseg.methods.reconstruction.method import Reconstruction
from simclrseg.metrics.representation import knn_predictions
from simclrseg.models.backbones import build_backbone
from simclrseg.models.normalize import Normalize
from simclrseg.models.segmenters import build_unet
from tests.engine.small import CPU

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


class Encoder(nn.Module):
    """An encoder in miniature."""

    out_channels = (3, 4)

    def __init__(self) -> None:
        super().__init__()
        self.stage = nn.Conv2d(3, 4, 3, 2, 1)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [x, self.stage(x)]


class Painter(nn.Module):
    """Paints what it is told, or what it sees through one convolution; and keeps what it saw."""

    def __init__(self, answer: torch.Tensor | None = None) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.layer = nn.Conv2d(3, 3, 3, padding=1)
        self.answer = answer

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen = images
        return self.layer(images) if self.answer is None else self.answer + 0 * self.layer(images)


def task(*, cut_only: bool = False, answer: torch.Tensor | None = None) -> Reconstruction:
    torch.manual_seed(0)
    return Reconstruction(Painter(answer), Normalize(MEAN, STD), cut_only=cut_only)


def batch(size: int = 6) -> Batch:
    generator = torch.Generator().manual_seed(1)
    image = torch.randint(0, 256, (size, 8, 8, 3), generator=generator, dtype=torch.uint8)
    cut = torch.rand((size, 8, 8, 3), generator=generator) < torch.linspace(0.2, 0.8, size).view(-1, 1, 1, 1)
    return {"image": image, "cut": cut}


def normalised(image: torch.Tensor) -> torch.Tensor:
    return (image.double().permute(0, 3, 1, 2) / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(
        3, 1, 1
    )


def test_what_is_cut_is_filled_with_the_mean_and_the_rest_is_seen():
    reconstruction, data = task(), batch()
    reconstruction.training_loss(data)
    seen, cut = reconstruction.model.seen, data["cut"].permute(0, 3, 1, 2)
    assert (seen[cut] == 0).all()
    torch.testing.assert_close(seen[~cut], normalised(data["image"])[~cut].float())


@pytest.mark.parametrize("cut_only", [False, True])
def test_the_loss_is_its_definition_pixel_by_pixel(cut_only):
    reconstruction, data = task(cut_only=cut_only), batch(3)
    loss, logs = reconstruction.training_loss(data)
    target = normalised(data["image"])
    with torch.no_grad():
        painted = reconstruction.model(target.float().masked_fill(data["cut"].permute(0, 3, 1, 2), 0)).double()
    losses, fills = [], []
    for n in range(3):
        places = [(c, y, x) for c in range(3) for y in range(8) for x in range(8)]
        if cut_only:
            places = [(c, y, x) for c, y, x in places if data["cut"][n, y, x, c]]
        losses.append(sum((painted[n][place] - target[n][place]) ** 2 for place in places) / len(places))
        fills.append(sum(target[n][place] ** 2 for place in places) / len(places))
    assert loss.item() == pytest.approx(float(sum(losses)) / 3, rel=1e-5)
    assert float(logs["mean_fill"]) == pytest.approx(float(sum(fills)) / 3, rel=1e-5)


def test_painting_the_mean_has_the_loss_that_is_logged_for_it():
    loss, logs = task(answer=torch.zeros(6, 3, 8, 8)).training_loss(batch())
    assert loss.item() == pytest.approx(float(logs["mean_fill"]))


def test_a_loss_over_the_cut_pixels_ignores_what_is_painted_elsewhere():
    data = batch()
    cut = data["cut"].permute(0, 3, 1, 2)
    answer = normalised(data["image"]).float().masked_fill(~cut, 7.0)
    assert task(cut_only=True, answer=answer).training_loss(data)[0].item() == pytest.approx(0, abs=1e-10)
    assert task(cut_only=False, answer=answer).training_loss(data)[0].item() > 1


@pytest.mark.parametrize("cut_only", [False, True])
def test_micro_batches_add_up_to_the_whole_gradient_though_photos_are_cut_unequally(cut_only):
    def gradient(micro_batch: int) -> torch.Tensor:
        reconstruction = task(cut_only=cut_only)
        scaler = torch.amp.GradScaler("cpu", enabled=False)
        passes = Passes(CPU, "fp32", 0)
        accumulate_gradient(reconstruction, batch(), step=0, micro_batch=micro_batch, passes=passes, scaler=scaler)
        return reconstruction.model.layer.weight.grad

    torch.testing.assert_close(gradient(2), gradient(6))


def test_a_photo_without_a_cut_has_a_loss_all_the_same():
    data = batch(2)
    data["cut"][:] = False
    assert task(cut_only=True).training_loss(data)[0].item() == 0


def test_psnr_is_that_of_the_cut_pixels_in_their_own_range():
    data = batch(4)
    cut = data["cut"].permute(0, 3, 1, 2)
    off = torch.where(data["image"].permute(0, 3, 1, 2) < 128, 0.1, -0.1)  # of the whole range; never leaves it
    answer = normalised(data["image"]).float() + off / torch.tensor(STD).view(3, 1, 1)
    scores = task(answer=answer.masked_fill(~cut, 7.0)).evaluate([data])
    assert scores["psnr"] == pytest.approx(20, abs=1e-3)  # -10 log10 0.1²
    assert list(scores) == ["psnr", "loss"]


def test_scores_are_over_photos_not_batches():
    data = batch(6)
    parts = [{name: values[place] for name, values in data.items()} for place in (slice(0, 1), slice(1, 6))]
    whole, apart = task(cut_only=True).evaluate([data]), task(cut_only=True).evaluate(parts)
    assert apart == pytest.approx(whole)


def test_a_perfect_painting_has_a_finite_psnr():
    data = batch(2)
    assert 90 < task(answer=normalised(data["image"]).float()).evaluate([data])["psnr"] <= 100


def test_features_are_compared_with_labels_where_there_are_any():
    image = batch(20)["image"]
    labels = torch.arange(20) % 2
    image[labels == 1] //= 8
    reconstruction = task()
    scores = reconstruction.evaluate([batch(4), {"image": image[:7], "label": labels[:7]},
                                      {"image": image[7:], "label": labels[7:]}])  # fmt: skip
    features = reconstruction.model.encoder(normalised(image).float())[-1].mean((2, 3))
    bank = [place for place in range(20) if place % 5]
    expected = float((knn_predictions(features[bank], labels[bank], features[::5]) == labels[::5]).double().mean())
    assert list(scores) == ["psnr", "loss", "knn"]
    assert scores["knn"] == expected == 1


def test_the_pictures_are_what_the_network_gets_and_gives():
    data = batch(2)
    reconstruction = task(answer=normalised(data["image"]).float() * 2)  # some leave the range
    given, painted = reconstruction.paint(data["image"], data["cut"])
    mean = torch.tensor([round(255 * value) for value in MEAN], dtype=torch.uint8).expand(given.shape)
    assert torch.equal(given, torch.where(data["cut"], mean, data["image"]))
    doubled = 2 * data["image"].double() / 255 - torch.tensor(MEAN, dtype=torch.float64)
    expected = doubled.clamp(0, 1).mul(255)
    assert (painted.double() - expected).abs().max() <= 0.501


def test_pictures_of_16_bits_keep_their_scale():
    image = torch.randint(0, 10_001, (2, 8, 8, 2)).to(torch.uint16)
    reconstruction = Reconstruction(torch.nn.Identity(), Normalize((0.1, 0.2), (0.05, 0.3), 10_000))
    given, painted = reconstruction.paint(image, torch.zeros(image.shape, dtype=torch.bool))
    assert given.dtype == painted.dtype == torch.uint16
    assert torch.equal(given.int(), image.int()) and torch.equal(painted.int(), image.int())


def test_a_real_unet_learns_to_paint():
    torch.manual_seed(0)
    reconstruction = Reconstruction(build_unet(build_backbone("resnet18"), "resnet18", 3), Normalize(MEAN, STD))
    optimizer = torch.optim.Adam(reconstruction.model.parameters(), 3e-3)
    colours = torch.randint(0, 256, (4, 1, 1, 3), dtype=torch.uint8).expand(4, 32, 32, 3).contiguous()
    data = {"image": colours, "cut": torch.rand(4, 32, 32, 3) < 0.5}
    for _ in range(12):
        optimizer.zero_grad()
        loss, logs = reconstruction.training_loss(data)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.5 * float(logs["mean_fill"])
    assert all(parameter.grad is not None for parameter in reconstruction.model.parameters())
