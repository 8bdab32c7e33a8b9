"""Files of lower precision: what is rounded in them and what is not."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from simclrseg.errors import GateError
from simclrseg.exporters import PRECISIONS
from simclrseg.exporters.onnx import export_onnx
from simclrseg.inference.session import open_model
from tests.exporters.small import described

PHOTOS = [
    np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1) for seed in range(6)
]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 1)
    )


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The float32 file, which the others are made of."""
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    export_onnx(network(), path, described(), images=PHOTOS[:2])
    return path


def exported(folder, precision: str, model: nn.Module | None = None, **options):
    path = folder / "model.onnx"
    found = export_onnx(model or network(), path, described(), precision=precision, images=PHOTOS[:2], **options)
    return path, found


def test_fp16_takes_the_same_photos_and_gives_the_same_types(tmp_path):
    path, found = exported(tmp_path, "fp16")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    types = {tensor.name: tensor.type for tensor in (*session.get_inputs(), *session.get_outputs())}
    assert types == {"image": "tensor(uint8)", "probability": "tensor(float)", "mask": "tensor(uint8)"}
    convolutions = [node for node in onnx.load(path).graph.node if node.op_type == "Conv"]
    kinds = {tensor.name: tensor.data_type for tensor in onnx.load(path).graph.initializer}
    assert {kinds[node.input[1]] for node in convolutions} == {onnx.TensorProto.FLOAT16}
    assert found.mask > 0.99 and found.probability < 1e-2


def test_fp16_is_float32_from_the_photo_to_the_first_layer_because_65535_is_infinite_in_float16(tmp_path):
    graph = onnx.load(exported(tmp_path, "fp16")[0]).graph
    makers = {name: node for node in graph.node for name in node.output}
    cast = makers[next(node for node in graph.node if node.op_type == "Conv").input[0]]
    above = []
    while node := makers.get(cast.input[0] if not above else above[-1].input[0]):
        above.append(node)
    assert [node.op_type for node in above] == ["Pad", "Div", "Sub", "Cast", "Transpose"]
    assert cast.attribute[0].i == onnx.TensorProto.FLOAT16 and above[3].attribute[0].i == onnx.TensorProto.FLOAT


def test_int8_computes_in_integers_all_but_the_last_layer(tmp_path):
    path, found = exported(tmp_path, "int8", calibration=PHOTOS[2:], tolerance=0.5)
    graph = onnx.load(path).graph
    makers = {name: node.op_type for node in graph.node for name in node.output}
    inputs = [makers.get(node.input[1], "float32") for node in graph.node if node.op_type == "Conv"]
    assert inputs == ["DequantizeLinear", "DequantizeLinear", "float32"]
    assert found.change is not None and found.mask > 0.9
    assert open_model(path, "cpu").metadata.precision == "int8"
    assert open_model(path, "cpu").metadata.checks["iou_change"] == pytest.approx(found.change)


def test_int8_is_calibrated_on_the_photos_that_it_is_given(tmp_path):
    def scales(photos):
        path, _ = exported(tmp_path, "int8", calibration=photos, tolerance=0.9)
        found = [tensor for tensor in onnx.load(path).graph.initializer if tensor.name.endswith("_scale")]
        return np.concatenate([onnx.numpy_helper.to_array(tensor).ravel() for tensor in found])

    bright, dark = scales(PHOTOS[2:]), scales([photo // 8 for photo in PHOTOS[2:]])
    assert bright.shape == dark.shape and not np.allclose(bright, dark)


def test_int8_spends_its_256_steps_on_what_relu6_lets_through(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU6(), nn.Conv2d(8, 1, 1))
    with torch.no_grad():
        model[0].weight[0] *= 500  # a channel of hundreds, which ReLU6 cuts off
        model[2].weight[:, 0] = 0
        model[2].weight *= 4
    _, found = exported(tmp_path, "int8", model, calibration=PHOTOS[2:], tolerance=0.9)
    assert found.probability < 0.05  # 0.46 without


def test_int8_of_a_fixed_number_of_photos_is_calibrated_on_that_number(tmp_path):
    path, _ = exported(tmp_path, "int8", calibration=PHOTOS[2:], tolerance=0.5, fixed_shape=(2, 48, 40))
    (image,) = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).get_inputs()
    assert image.shape == [2, 48, 40, 3]


def test_what_costs_too_much_leaves_no_file(tmp_path):
    with pytest.raises(GateError, match="more than --tolerance 1e-09 allows"):
        exported(tmp_path, "int8", tolerance=1e-9, calibration=PHOTOS[2:])
    assert not list(tmp_path.iterdir())


def test_int8_without_photos_to_calibrate_on_is_refused_before_anything(tmp_path):
    with pytest.raises(GateError, match="--precision int8 is calibrated on photos"):
        exported(tmp_path, "int8")
    assert not list(tmp_path.iterdir())


def test_every_precision_says_what_it_needs():
    assert {name: (PRECISIONS[name].exact, PRECISIONS[name].calibrated) for name in PRECISIONS} == {
        "fp32": (True, False),
        "fp16": (False, False),
        "int8": (False, True),
    }
