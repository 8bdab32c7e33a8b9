"""Models that can be checked by hand: the probability of a pixel is its brightness."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from simclrseg.metadata import ONNX_PREFIX, RGB, ModelMetadata


def brightness(classes: int, bands: int = 3) -> onnx.ModelProto:
    """Mean of the bands, in [0, 1]; with several classes each of three bands is the probability of one."""
    shape = ["n", "h", "w"] if classes == 2 else ["n", 3, "h", "w"]
    nodes = [helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT)]
    if classes == 2:
        nodes += [
            helper.make_node("ReduceMean", ["float", "last"], ["mean"], keepdims=0),
            helper.make_node("Div", ["mean", "top"], ["probability"]),
            helper.make_node("Greater", ["probability", "half"], ["above"]),
            helper.make_node("Cast", ["above"], ["mask"], to=TensorProto.UINT8),
        ]
    else:
        nodes += [
            helper.make_node("Transpose", ["float"], ["bands"], perm=[0, 3, 1, 2]),
            helper.make_node("Div", ["bands", "top"], ["probability"]),
            helper.make_node("ArgMax", ["probability"], ["likeliest"], axis=1, keepdims=0),
            helper.make_node("Cast", ["likeliest"], ["mask"], to=TensorProto.UINT8),
        ]
    graph = helper.make_graph(
        nodes,
        "brightness",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", "h", "w", bands])],
        [
            helper.make_tensor_value_info("probability", TensorProto.FLOAT, shape),
            helper.make_tensor_value_info("mask", TensorProto.UINT8, ["n", "h", "w"]),
        ],
        [
            helper.make_tensor("last", TensorProto.INT64, [1], [3]),
            helper.make_tensor("top", TensorProto.FLOAT, [], [255.0]),
            helper.make_tensor("half", TensorProto.FLOAT, [], [0.5]),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def dominant_band() -> onnx.ModelProto:
    """A classifier: the score of a class is the share of its band in all brightness."""
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float", "sides"], ["mean"], keepdims=0),
        helper.make_node("ReduceSum", ["mean", "last"], ["all"], keepdims=1),
        helper.make_node("Div", ["mean", "all"], ["probability"]),
        helper.make_node("ArgMax", ["probability"], ["label"], axis=1, keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "dominant",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", "h", "w", 3])],
        [
            helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["n", 3]),
            helper.make_tensor_value_info("label", TensorProto.INT64, ["n"]),
        ],
        [
            helper.make_tensor("sides", TensorProto.INT64, [2], [1, 2]),
            helper.make_tensor("last", TensorProto.INT64, [1], [1]),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def write_classifier(path: Path) -> Path:
    model = dominant_band()
    names = ("red", "green", "blue")
    metadata = ModelMetadata(task="classification", encoder="resnet18", image_size=16, classes=names)
    helper.set_model_props(model, metadata.to_strings(ONNX_PREFIX))
    path.write_bytes(model.SerializeToString())
    return path


def write_segmenter(
    path: Path, *, classes: int = 2, image_size: int = 16, ours: bool = True, bands: Sequence[str] = RGB
) -> Path:
    model = brightness(classes, len(bands))
    metadata = ModelMetadata(
        task="segmentation",
        encoder="resnet18",
        decoder="unet",
        in_channels=len(bands),
        bands=tuple(bands),
        mean=(0.5,) * len(bands),
        std=(0.25,) * len(bands),
        image_size=image_size,
        classes=("background", "cat", "dog")[:classes],
        threshold=0.5 if classes == 2 else None,
    )
    if ours:
        helper.set_model_props(model, metadata.to_strings(ONNX_PREFIX))
    path.write_bytes(model.SerializeToString())
    return path
