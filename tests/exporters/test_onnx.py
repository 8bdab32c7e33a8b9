"""Exported files say the same as the network."""

from __future__ import annotations

import contextlib
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from simclrseg.errors import GateError
from simclrseg.exporters import EXPORTERS
from simclrseg.exporters import onnx as exporter
from simclrseg.exporters.graphs import Deploy
from simclrseg.exporters.onnx import export_onnx, shapes_to_check
from simclrseg.images.decode import read_image
from simclrseg.images.listing import list_images
from simclrseg.inference.predictor import Predictor
from simclrseg.inference.session import open_model
from simclrseg.models import SEGMENTERS
from simclrseg.models.backbones import build_backbone
from simclrseg.models.segmenters import build_unet
from tests.exporters.small import described, small


def unet(encoder: str, outputs: int = 1) -> nn.Module:
    """A U-Net whose batch norms have seen something."""
    torch.manual_seed(0)
    model = build_unet(build_backbone(encoder), encoder, outputs).train()
    with torch.no_grad():
        for _ in range(10):
            model(torch.randn(4, 3, 64, 64))
    return model


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    export_onnx(small(1), path, described())
    return path


class BySize(nn.Module):
    """A network that does something else with large pictures, of which a run on a small one shows nothing."""

    def __init__(self, small: nn.Module, large: nn.Module) -> None:
        super().__init__()
        self.small, self.large = small, large

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = (self.small if int(x.shape[2]) < 128 else self.large)(x)
        return logits


def test_the_file_is_one_and_its_interface_is_the_documented_one(exported):
    assert [path.name for path in exported.parent.iterdir()] == ["model.onnx"]
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    (image,) = session.get_inputs()
    assert (image.name, image.type, image.shape) == ("image", "tensor(uint8)", ["batch", "height", "width", 3])
    outputs = {output.name: output.type for output in session.get_outputs()}
    assert outputs == {"probability": "tensor(float)", "mask": "tensor(uint8)"}
    assert {opset.domain: opset.version for opset in onnx.load(exported).opset_import}[""] == 18


def test_the_metadata_come_back_from_the_file_with_what_its_check_found(exported):
    metadata = open_model(exported, "cpu").metadata
    assert metadata.checks["mask_agreement"] > 0.999
    assert metadata.model_copy(update={"checks": {}}) == described()


def test_the_outputs_are_described_as_large_as_the_input(exported):
    shapes = {output.name: output.shape for output in onnxruntime.InferenceSession(exported).get_outputs()}
    assert shapes == {name: ["batch", "height", "width"] for name in ("probability", "mask")}


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 64, 64), (2, 33, 95), (5, 7, 200)])
def test_any_number_of_pictures_of_any_size_gets_the_networks_answer(exported, shape):
    images = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    probability, mask = open_model(exported, "cpu").session.run(["probability", "mask"], {"image": images})
    with torch.inference_mode():
        expected, expected_mask = Deploy(small(1).eval(), described())(torch.from_numpy(images))
    assert probability.shape == mask.shape == shape
    assert mask.dtype == np.uint8
    assert np.abs(probability - expected.numpy()).max() < 1e-5
    assert (mask == expected_mask.numpy()).mean() > 0.999
    assert ((probability > 0.4) == mask).mean() > 0.999


@pytest.mark.parametrize(("full_scale", "dtype"), [(255, torch.uint8), (10_000, torch.uint16)])
def test_preprocessing_is_that_of_training(full_scale, dtype):
    metadata = described().model_copy(update={"full_scale": full_scale})
    images = torch.randint(0, full_scale + 1, (1, 32, 32, 3)).to(dtype)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (metadata.mean, metadata.std))
    normalised = (images.permute(0, 3, 1, 2).float() / full_scale - mean) / std
    network = nn.Conv2d(3, 1, 1)
    with torch.inference_mode():
        probability, _ = Deploy(network, metadata)(images)
        assert torch.allclose(probability, torch.sigmoid(network(normalised)[:, 0]), atol=1e-6)


def test_several_classes_give_a_probability_each_and_the_likeliest_class(tmp_path):
    export_onnx(small(4), tmp_path / "model.onnx", described(classes=4))
    images = np.random.default_rng(0).integers(0, 256, (2, 40, 50, 3), dtype=np.uint8)
    session = open_model(tmp_path / "model.onnx", "cpu").session
    probability, mask = session.run(["probability", "mask"], {"image": images})
    assert probability.shape == (2, 4, 40, 50)
    assert mask.shape == (2, 40, 50)
    assert np.allclose(probability.sum(1), 1, atol=1e-5)
    assert (probability.argmax(1) == mask).all()


def test_the_network_goes_on_training_as_it_was(tmp_path):
    model = small(1).train()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    export_onnx(model, tmp_path / "model.onnx", described())
    assert model.training
    assert all(module.training for module in model.modules())
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())


def test_a_network_in_half_precision_is_exported_in_float32(tmp_path):
    model = small(1).to(torch.bfloat16)
    export_onnx(model, tmp_path / "model.onnx", described())
    assert model[0].weight.dtype == torch.bfloat16
    weights = onnx.load(tmp_path / "model.onnx").graph.initializer
    assert onnx.TensorProto.BFLOAT16 not in {tensor.data_type for tensor in weights}


def test_photos_are_part_of_the_check(tmp_path):
    photos = [np.zeros((30, 50, 3), np.uint8)] * 3
    without = export_onnx(small(1), tmp_path / "a.onnx", described())
    with_photos = export_onnx(small(1), tmp_path / "b.onnx", described(), images=photos)
    assert without.pictures == 3 * (1 + 3)
    assert with_photos.pictures == without.pictures + 3
    assert with_photos.mask > 0.999
    assert with_photos.probability < 1e-5
    assert str(with_photos).startswith("masks agree on 100.000% of the pixels of 15 pictures, probabilities to ")
    assert str(with_photos).endswith("IoU changes by at most 0.0000 on 3 photos (they have no masks)")
    assert str(without).endswith("IoU not measured, for there are no photos")


def test_a_file_that_says_something_else_fails_the_gate_and_is_gone(tmp_path):
    with pytest.raises(GateError, match="does not say the same as the network: masks agree on") as caught:
        export_onnx(BySize(small(1), small(1, seed=1)), tmp_path / "model.onnx", described())
    assert caught.value.exit_code == 1
    assert not list(tmp_path.iterdir())


def test_a_file_is_compared_with_the_network_itself_and_not_with_what_was_traced(tmp_path, monkeypatch):
    other = Deploy(small(1, seed=1), described()).eval()
    monkeypatch.setattr(exporter, "traceable", lambda network, image_size: contextlib.nullcontext(other))
    with pytest.raises(GateError, match="does not say the same"):
        export_onnx(small(1), tmp_path / "model.onnx", described())


def test_a_failed_export_keeps_the_file_that_was_there(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"old")
    with pytest.raises(GateError):
        export_onnx(BySize(small(1), small(1, seed=1)), tmp_path / "model.onnx", described())
    assert (tmp_path / "model.onnx").read_bytes() == b"old"


def test_outputs_of_another_shape_fail_the_gate(tmp_path):
    with pytest.raises(GateError, match=r"it gives .* not "):
        export_onnx(BySize(small(3), small(2)), tmp_path / "model.onnx", described(classes=3))


def test_a_network_that_gives_no_number_fails_the_gate(tmp_path):
    model = small(1)
    nn.init.constant_(model[3].weight, float("nan"))
    with pytest.raises(GateError, match="probabilities to inf"):
        export_onnx(model, tmp_path / "model.onnx", described())


def test_a_network_that_torch_cannot_export_fails_the_gate_in_one_line(tmp_path, capfd):
    class Stubborn(nn.Module):
        def forward(self, x):
            return torch.special.i1(x[:, :1])  # for which ONNX has no operator

    with pytest.raises(GateError, match="PyTorch cannot export a network with encoder resnet18") as caught:
        export_onnx(Stubborn(), tmp_path / "model.onnx", described())
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("opset", [18, 20, 23])
def test_a_file_has_the_operators_that_were_asked_for(tmp_path, opset):
    assert export_onnx(small(1), tmp_path / "model.onnx", described(), opset=opset).mask >= 0.999
    assert [entry.version for entry in onnx.load(tmp_path / "model.onnx").opset_import] == [opset]


def test_sixteen_bits_are_read_as_such(tmp_path):
    metadata = described().model_copy(update={"full_scale": 65535})
    assert export_onnx(small(1), tmp_path / "model.onnx", metadata).mask >= 0.999
    assert onnxruntime.InferenceSession(tmp_path / "model.onnx").get_inputs()[0].type == "tensor(uint16)"


def test_the_check_covers_three_sizes_and_two_numbers_of_pictures():
    shapes = shapes_to_check(described())
    assert {shape[0] for shape in shapes} == {1, 3}
    assert len({shape[1:] for shape in shapes}) == 3


def test_exporting_says_nothing(tmp_path):
    code = f"""
from pathlib import Path
from torch import nn
from simclrseg.exporters.onnx import export_onnx
from simclrseg.metadata import ModelMetadata
metadata = ModelMetadata(task="segmentation", encoder="resnet18", image_size=32, classes=("a", "b"), threshold=0.5)
export_onnx(nn.Conv2d(3, 1, 1), Path({str(tmp_path / "model.onnx")!r}), metadata)
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.slow
def test_a_unet_agrees_on_real_photos_and_predicts_as_torch_does(tmp_path, real_data):
    photos = [read_image(path) for path in list_images(real_data / "oxford_pets" / "oxford-iiit-pet" / "images")[:4]]
    model = unet("resnet18")
    agreement = EXPORTERS["onnx"](model, tmp_path / "model.onnx", described(), images=photos)
    assert agreement.pictures == 16
    assert agreement.mask >= 0.999
    assert agreement.probability < 1e-4
    (strips,) = Predictor(open_model(tmp_path / "model.onnx", "cpu")).predict(photos[:1])
    assert sum(len(probability) for _, probability in strips) == len(photos[0])


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["mit_b0", "tu-test_convnext"])
def test_transformers_and_timm_models_can_be_exported(tmp_path, encoder):
    agreement = export_onnx(unet(encoder), tmp_path / "model.onnx", described(encoder=encoder))
    assert agreement.mask >= 0.999


@pytest.mark.parametrize(("height", "width"), [(32, 64), (33, 47), (5, 100)])
def test_padding_moves_no_pixel(height, width):
    pixelwise = nn.Conv2d(3, 1, 1)  # what it says of a pixel depends on that pixel alone
    metadata = described()
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, height, width, 3), np.uint8))
    with torch.no_grad():
        probability, mask = Deploy(pixelwise, metadata)(image)
        x = (image / 255 - torch.tensor(metadata.mean)) / torch.tensor(metadata.std)
        expected = torch.sigmoid(pixelwise(x.permute(0, 3, 1, 2))[:, 0])
    torch.testing.assert_close(probability, expected)
    assert torch.equal(mask, (probability > metadata.threshold).to(torch.uint8))


@pytest.fixture(scope="module")
def transformer() -> nn.Module:
    """Logits from a vision transformer, without DPT's many parameters."""

    class Patches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = build_backbone("tu-test_vit")
            self.head = nn.Conv2d(64, 1, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            features, _ = self.encoder(x)
            return nn.functional.interpolate(self.head(features[-1]), scale_factor=16.0)

    torch.manual_seed(0)
    return Patches().eval()


@pytest.mark.parametrize(("height", "width"), [(64, 64), (33, 90), (128, 128)])
def test_a_transformer_sees_the_size_of_training_and_its_masks_come_back(transformer, height, width):
    metadata = described(encoder="tu-test_vit")
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, height, width, 3), np.uint8))
    with torch.no_grad():
        probability, _ = Deploy(transformer, metadata)(image)
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (metadata.mean, metadata.std))
        x = (image.permute(0, 3, 1, 2) / 255 - mean) / std
        logits = transformer(nn.functional.interpolate(x, size=(64, 64), mode="bilinear"))
        expected = nn.functional.interpolate(logits, size=(height, width), mode="bilinear").sigmoid()[:, 0]
    assert probability.shape == (2, height, width)
    torch.testing.assert_close(probability, expected, atol=1e-5, rtol=1e-4)


def test_an_exported_transformer_agrees_and_leaves_the_network_at_any_size(transformer, tmp_path):
    metadata = described(encoder="tu-test_vit")
    positions = transformer.encoder.model.pos_embed.clone()
    agreement = export_onnx(transformer, tmp_path / "model.onnx", metadata)
    assert agreement.mask >= 0.999 and agreement.probability < 1e-4
    assert torch.equal(transformer.encoder.model.pos_embed, positions)
    assert {node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node} >= {"Resize", "Softmax"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("decoder", "encoder"),
    [
        ("unet", "cnn"),
        ("unetplusplus", "cnn"),
        ("fpn", "cnn"),
        ("deeplabv3plus", "resnet18"),
        ("dpt", "tu-vit_tiny_patch16_224"),
    ],
)
def test_every_decoder_can_be_exported(tmp_path, decoder, encoder):
    torch.manual_seed(0)
    model = SEGMENTERS[decoder](build_backbone(encoder), encoder, 1).train()
    with torch.no_grad():
        for _ in range(4):
            model(torch.randn(4, 3, 64, 64))
    assert export_onnx(model, tmp_path / "model.onnx", described(encoder=encoder)).mask >= 0.999
