"""The numbers that an ONNX file computes with: float32, float16, or 8-bit integers from calibration."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx.shape_inference
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

WEIGHTED = ("Conv", "Gemm", "MatMul")
# What is computed in integers. Preprocessing, normalisation layers, activations with curves and the last layers stay
# in float32: they are cheap there, and their rounding costs most.
# Clip is ReLU6: without it a layer's range would be that of what Clip cuts off, and few steps would be left below 6.
INTEGER = (*WEIGHTED, "Add", "Relu", "Clip", "MaxPool", "Concat", "Resize")
DECISIONS = frozenset({"Sigmoid", "Softmax", "ArgMax", "Greater"})


@dataclass(frozen=True)
class Precision:
    """A way to make of a float32 file one of another precision.

    Attributes:
        convert: rewrites the file in its place; calibration is batches of images (N, H, W, bands) as the file takes.
        exact: whether the file must say the same as the network, rather than about the same.
        calibrated: whether it needs calibration images.
    """

    convert: Callable[[Path, Sequence[np.ndarray]], None]
    exact: bool = False
    calibrated: bool = False


def _to_fp16(path: Path, calibration: Sequence[np.ndarray]) -> None:
    """Weights and arithmetic in float16; the image is normalised in float32, for 65535 is infinite in float16."""
    model = onnx.shape_inference.infer_shapes(onnx.load(path))  # types, by which the converter finds what to convert
    half = convert_float_to_float16(
        model,
        keep_io_types=True,
        disable_shape_infer=True,
        op_block_list=[*(op for op in DEFAULT_OP_BLOCK_LIST if op != "Resize"), *DECISIONS],
        node_block_list=[node.name for node in _preprocessing(model.graph)],
    )
    _drop_repetitions(half.graph)
    _drop_round_trips(half.graph)
    OnnxModel(half).topological_sort(is_deterministic=True)  # the converter puts its casts at the end
    onnx.save(half, path)


def _drop_repetitions(graph: onnx.GraphProto) -> None:
    """Keep one cast of a value: the converter adds one for each that reads it in float32, all under one name."""
    made: set[str] = set()
    for node in [node for node in graph.node if node.op_type == "Cast"]:
        if node.output[0] in made:
            graph.node.remove(node)
        made.add(node.output[0])


def _drop_round_trips(graph: onnx.GraphProto) -> None:
    """Join neighbours in float32, between which the converter puts a cast to float16 and one back."""
    outputs = {output.name for output in graph.output}
    casts = [node for node in graph.node if node.op_type == "Cast"]
    rounding = {node.output[0]: node.input[0] for node in casts if node.name.endswith("_cast_to_fp16_node")}
    restored = {}
    for node in casts:
        if node.attribute[0].i == onnx.TensorProto.FLOAT and node.input[0] in rounding:
            node.input[0] = rounding[node.input[0]]  # float32 to float32: an output keeps its name so
            if node.output[0] not in outputs:
                restored[node.output[0]] = node.input[0]
    for node in graph.node:
        node.input[:] = [restored.get(name, name) for name in node.input]
    used = outputs | {name for node in graph.node for name in node.input}
    for node in casts:
        if node.output[0] not in used:
            graph.node.remove(node)


def _to_int8(path: Path, calibration: Sequence[np.ndarray]) -> None:
    """Static quantization: weights by channel, activations by the range that they had on the calibration images.

    Weights take 7 bits: on CPUs without VNNI two products of 8 bits overflow the 16 bits that they are added in.
    """
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".calibration.") as folder:
        prepared = Path(folder, "prepared.onnx")
        quant_pre_process(path, prepared, skip_symbolic_shape=True)
        graph = onnx.load(prepared).graph
        last = max(place for place, node in enumerate(graph.node) if node.op_type in WEIGHTED)
        quantize_static(
            prepared,
            path,
            _Photos(calibration),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(INTEGER),
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=[node.name for node in (*_preprocessing(graph), *graph.node[last:])],
        )


class _Photos(CalibrationDataReader):  # type: ignore[misc,unused-ignore]
    def __init__(self, batches: Sequence[np.ndarray]) -> None:
        self._batches = iter([{"image": batch} for batch in batches])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._batches, None)


def _preprocessing(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Nodes between the image and the first layer with weights to multiply."""
    nodes, reached = [], {"image"}
    for node in graph.node:  # in the order of computation
        if node.op_type not in (*WEIGHTED, "Shape") and reached & set(node.input):
            reached |= set(node.output)
            nodes.append(node)
    return nodes


FP32 = Precision(lambda path, calibration: None, exact=True)
FP16 = Precision(_to_fp16)
INT8 = Precision(_to_int8, calibrated=True)
