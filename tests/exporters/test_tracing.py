"""What is traced says the same as the network, and the padding of a layer is no arithmetic on sizes."""

from __future__ import annotations

import contextlib
import itertools

import onnx
import pytest
import segmentation_models_pytorch as smp
import torch
from timm.layers import padding
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.pool2d_same import AvgPool2dSame, MaxPool2dSame
from timm.layers.std_conv import ScaledStdConv2dSame, StdConv2dSame
from torch import nn

from simclrseg.exporters.graphs import Deploy, DeployClassifier
from simclrseg.exporters.onnx import export_onnx
from simclrseg.exporters.tracing import traceable
from tests.exporters.small import described

SYMBOLS = (torch.SymInt, torch.SymFloat, torch.SymBool)
LAYERS = ("conv", "pool", "pad")


# all layers of timm that have TensorFlow's "same" padding
SAME = [
    Conv2dSame(3, 1, 3, stride=2),
    StdConv2dSame(3, 1, 5, stride=2, padding="same"),
    ScaledStdConv2dSame(3, 1, 3, stride=2, padding="same"),
    MaxPool2dSame(3, 2),
    AvgPool2dSame(2, 2),
]


def traced(network: nn.Module) -> torch.fx.Graph:
    sizes = dict.fromkeys(range(3), torch.export.Dim.DYNAMIC)
    with traceable(network, 64) as twin:
        example = torch.zeros(2, 65, 97, 3, dtype=torch.uint8)
        return torch.export.export(twin, (example,), dynamic_shapes={"image": sizes}).graph


def layers_with_sizes(graph: torch.fx.Graph) -> list[str]:
    """Convolutions, pooling and padding that take a symbolic size; the picture itself is padded so, once."""
    symbolic = {node for node in graph.nodes if isinstance(node.meta.get("val"), SYMBOLS)}
    layers = [node for node in graph.nodes if any(name in str(node.target) for name in LAYERS)]
    return [str(node.target) for node in layers if symbolic & set(node.all_input_nodes)]


def test_the_padding_is_timms_whatever_the_size():
    timms = padding.get_same_padding
    with traceable(nn.Identity(), 64):
        assert padding.get_same_padding is not timms
        for numbers in itertools.product(range(1, 40), range(1, 8), range(1, 5), range(1, 4)):
            assert padding.get_same_padding(*numbers) == timms(*numbers)


@pytest.mark.parametrize("layer", SAME, ids=lambda layer: type(layer).__name__)
def test_same_padding_is_a_constant_where_the_picture_is_padded_to_multiples(layer):
    assert layers_with_sizes(traced(Deploy(layer, described()))) == ["aten.pad.default"]


def test_the_network_is_as_it_was_when_its_twin_has_been_traced():
    network, function = nn.Sequential(Conv2dSame(3, 1, 3, stride=2), nn.ReLU6(inplace=True)), padding.get_same_padding
    with contextlib.suppress(ZeroDivisionError), traceable(network, 64) as twin:
        assert not twin[1].inplace and padding.get_same_padding is not function
        assert twin[0].weight is network[0].weight
        raise ZeroDivisionError
    assert network[1].inplace and padding.get_same_padding is function


@pytest.mark.parametrize(("layer", "side"), [*((layer, 64) for layer in SAME), (nn.Conv2d(3, 2, 3), None)])
def test_a_classifier_whose_padding_follows_from_the_size_sees_that_of_training(layer, side):
    assert DeployClassifier(layer, described()).side == side


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`timm-` encoders are deprecated:DeprecationWarning")
@pytest.mark.parametrize(
    "encoder",
    [
        "resnet18",
        "resnext50_32x4d",
        "se_resnet50",
        "densenet121",
        "inceptionv4",
        "efficientnet-b0",
        "timm-efficientnet-b0",
        "timm-tf_efficientnet_lite0",
        "timm-skresnet18",
        "mobilenet_v2",
        "xception",
        "vgg11",
        "dpn68",
        "mit_b0",
        "mobileone_s0",
        "cnn",
        "tu-convnext_atto",
        "tu-tf_efficientnet_lite0",
        "tu-regnety_002",
    ],
)
def test_one_of_each_family_is_exported_and_pads_by_numbers(tmp_path, encoder):
    """Three stages have all kinds of layers that five have. Only the photo's own padding is computed in the graph."""

    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = smp.encoders.get_encoder(encoder, weights=None, depth=3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.interpolate(self.encoder(x)[-1][:, :1], scale_factor=8.0)

    torch.manual_seed(0)
    export_onnx(Last().eval(), tmp_path / "model.onnx", described(encoder=encoder))
    graph = onnx.load(tmp_path / "model.onnx").graph
    seen = {"image"}  # and what is computed from it
    for node in graph.node:
        if seen & set(node.input):
            seen |= set(node.output)
    assert sum(node.input[1] in seen for node in graph.node if node.op_type == "Pad") == 1
