"""Classification networks, and dropout in both kinds."""

from __future__ import annotations

import copy

import pytest
import torch

from simclrseg.errors import WeightsError
from simclrseg.metadata import ModelMetadata
from simclrseg.models import SEGMENTERS
from simclrseg.models.backbones import build_backbone, pooled_features
from simclrseg.models.classifiers import Classifier, load_classifier
from simclrseg.models.dropout import add_dropout, dropout_layers, sampling
from simclrseg.models.segmenters import build_unet
from simclrseg.models.stems import set_cifar_stem
from simclrseg.models.weights import load_backbone, save_weights

DESCRIBED = ModelMetadata(
    task="classification", encoder="resnet18", image_size=32, classes=("cat", "dog", "bird"), dropout=0.5
)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_logits_are_linear_in_the_pooled_features(images):
    model = Classifier(build_backbone("resnet18"), 3, dropout=0.5).eval()
    with torch.inference_mode():
        expected = pooled_features(model.encoder, images) @ model.head.weight.T + model.head.bias
        assert torch.allclose(model(images), expected, atol=1e-5)


@pytest.mark.parametrize("stem", ["imagenet", "cifar"])
def test_what_was_saved_is_loaded_with_its_stem(tmp_path, images, stem):
    backbone = build_backbone("resnet18")
    if stem == "cifar":
        set_cifar_stem(backbone)
    model = Classifier(backbone, 3).eval()
    save_weights(tmp_path / "model.safetensors", model.state_dict(), DESCRIBED.model_copy(update={"stem": stem}))
    loaded, metadata = load_classifier(tmp_path / "model.safetensors")
    with torch.inference_mode():
        assert torch.equal(loaded(images), model(images))
    assert metadata.classes == ("cat", "dog", "bird") and loaded.dropout.p == 0.5 and not loaded.training


def test_the_encoder_of_a_classifier_can_be_taken_for_another_network(tmp_path):
    model = Classifier(build_backbone("resnet18"), 3)
    save_weights(tmp_path / "model.safetensors", model.state_dict(), DESCRIBED)
    backbone = build_backbone("resnet18")
    report = load_backbone(backbone, tmp_path / "model.safetensors")
    assert report.loaded == report.total and report.prefix == "encoder."
    assert torch.equal(backbone.conv1.weight, model.encoder.conv1.weight)


def test_a_segmentation_network_is_no_classifier(tmp_path):
    model = Classifier(build_backbone("resnet18"), 3)
    metadata = DESCRIBED.model_copy(update={"task": "segmentation"})
    save_weights(tmp_path / "model.safetensors", model.state_dict(), metadata)
    with pytest.raises(
        WeightsError, match=r"task segmentation.: `simclrseg finetune --task classify --dataset FOLDER` makes one"
    ):
        load_classifier(tmp_path / "model.safetensors")


def test_dropout_in_a_segmentation_network_leaves_its_keys_and_its_answers_alone(images):
    model = build_unet(build_backbone("resnet18"), "resnet18", 1).eval()
    with_dropout = copy.deepcopy(model)
    add_dropout(with_dropout, 0.5)
    assert with_dropout.state_dict().keys() == model.state_dict().keys()
    with torch.inference_mode():
        assert torch.equal(with_dropout(images), model(images))


def test_dropout_that_is_kept_on_samples_from_a_segmentation_network(images):
    model = build_unet(build_backbone("resnet18"), "resnet18", 1).eval()
    add_dropout(model, 0.5)
    model = copy.deepcopy(model)  # as the exporter does
    for module in model.modules():
        if isinstance(module, torch.nn.modules.dropout._DropoutNd):
            module.train()
    with torch.inference_mode():
        assert not torch.equal(model(images), model(images))


class Counting(torch.nn.Module):
    """A part of a network that counts how often it runs."""

    def __init__(self, part: torch.nn.Module) -> None:
        super().__init__()
        self.part, self.runs = part, 0

    def forward(self, *inputs):
        self.runs += 1
        return self.part(*inputs)


def test_draws_differ_behind_the_first_dropout_and_run_what_is_before_it_once(images):
    model = build_unet(build_backbone("resnet18"), "resnet18", 1).eval()
    add_dropout(model, 0.5)
    model.decoder = Counting(model.decoder).eval()
    plain = model(images)
    with torch.inference_mode(), sampling(model):
        draws = [model(images) for _ in range(3)]
        assert not torch.equal(draws[0], draws[1]) and not torch.equal(draws[1], draws[2])
        assert model.decoder.runs == 2  # one of them before
        flipped = images.flip(0)
        assert not torch.equal(model(flipped), model(flipped))
        assert model.decoder.runs == 3
    assert torch.equal(model(images), plain) and not any(layer.training for layer in model.modules())


def test_the_mean_of_many_draws_is_close_to_the_network_without_dropout(images):
    torch.manual_seed(0)
    model = Classifier(build_backbone("resnet18"), 3, dropout=0.2).eval()
    with torch.inference_mode():
        plain = model(images)
        with sampling(model):
            mean = torch.stack([model(images) for _ in range(3000)]).mean(0)
    assert torch.allclose(mean, plain, atol=0.1 * float(plain.std()))


@pytest.mark.parametrize(("decoder", "rates"), [("unet", []), ("fpn", [0.2]), ("deeplabv3plus", [0.5])])
def test_a_decoder_that_brings_its_own_dropout_has_layers_that_drop(decoder, rates):
    model = SEGMENTERS[decoder](build_backbone("resnet18"), "resnet18", 1)
    assert [layer.p for layer in dropout_layers(model)] == rates
