"""ONNX files that ask for what no machine has, or are not what they say: refused in one line, before they run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from simclrseg.errors import ModelFileError
from simclrseg.exporters.contents import read_onnx
from simclrseg.inference.predictor import Predictor
from simclrseg.inference.session import open_model
from simclrseg.metadata import ONNX_PREFIX, ModelMetadata

METADATA = ModelMetadata(task="segmentation", encoder="cnn", image_size=32, classes=("background", "a"), threshold=0.5)
CLASSES = METADATA.model_copy(update={"task": "classification", "threshold": None, "classes": ("a", "b", "c")})
FLOAT, UINT8, INT64, STRING = TensorProto.FLOAT, TensorProto.UINT8, TensorProto.INT64, TensorProto.STRING
NEVER_ENDING = helper.make_graph(
    [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["value"], ["same"])],
    "body",
    [
        helper.make_tensor_value_info(*what)
        for what in (("turn", INT64, []), ("go", TensorProto.BOOL, []), ("value", 1, None))
    ],
    [helper.make_tensor_value_info(*what) for what in (("on", TensorProto.BOOL, []), ("same", FLOAT, None))],
)


def numbers(name: str, *values: int) -> TensorProto:
    return helper.make_tensor(name, INT64, [len(values)], values)


def scalar(name: str, value: float, kind: int = FLOAT) -> TensorProto:
    return helper.make_tensor(name, kind, [], [value])


def node(kind: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, [name.strip("-") for name in inputs.split()], outputs.split(), **attributes)


def write(
    path: Path,
    *nodes: onnx.NodeProto,
    weights: tuple[TensorProto, ...] = (),
    image: tuple[Any, ...] | None = ("n", "h", "w", 3),
    probability: Any = (FLOAT, ("n", "h", "w")),
    more: tuple[onnx.ValueInfoProto, ...] = (),
    sparse: tuple[onnx.SparseTensorProto, ...] = (),
    metadata: ModelMetadata = METADATA,
) -> Path:
    """A model whose brightness is the foreground; ``nodes`` make the probability of ``bright``, or lie beside it."""
    given = (
        [*nodes]
        if any("probability" in one.output for one in nodes)
        else [*nodes, node("Identity", "bright", "probability")]
    )
    graph = helper.make_graph(
        [
            node("Cast", "image", "float", to=FLOAT),
            node("ReduceMean", "float last", "mean", keepdims=0),
            node("Div", "mean top", "bright"),
            node("Cast", "bright", "mask", to=UINT8),
            *given,
        ],
        "graph",
        [helper.make_tensor_value_info("image", UINT8, image), *more],
        [
            helper.make_tensor_value_info("probability", *probability),
            helper.make_tensor_value_info("mask", UINT8, None),
        ],
        [numbers("last", -1), scalar("top", 255.0), *weights],
        sparse_initializer=sparse,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, metadata.to_strings(ONNX_PREFIX))
    path.write_bytes(model.SerializeToString())
    return path


def elsewhere(place: str, *dims: int) -> TensorProto:
    tensor = TensorProto(name="weight", data_type=FLOAT, dims=dims or (4,), data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=place)
    return tensor


def refused(path: Path, reason: str) -> None:
    with pytest.raises(ModelFileError, match=rf"model\.onnx {reason}") as caught:
        open_model(path, "cpu", threads=1)
    assert "\n" not in str(caught.value)


RESULTS: dict[str, tuple[tuple[onnx.NodeProto, ...], tuple[TensorProto, ...], str]] = {
    "zeros": ((node("ConstantOfShape", "s", "x"),), (numbers("s", 10**5, 10**5),), "asks for 10,000,000,000 numbers"),
    "zeros of a node": (
        (node("Constant", "", "s", value_ints=[10**10]), node("ConstantOfShape", "s", "x")),
        (),
        "asks for 10,000,000,000 numbers",
    ),
    "expand": ((node("Expand", "bright s", "x"),), (numbers("s", 10**8, 1, 1, 1),), "asks for 100,000,000 numbers"),
    "tile": ((node("Tile", "bright s", "x"),), (numbers("s", 1000, 1000, 1),), "asks for 1,000,000 times what"),
    "pad": ((node("Pad", "bright s", "x"),), (numbers("s", 0, 0, 0, 0, 10**5, 0),), "asks for steps of 100,000 pixels"),
    "random": ((node("RandomNormal", "", "x", shape=[10**10]),), (), "asks for 10,000,000,000 numbers"),
    "range": (
        (node("Range", "from to by", "x"),),
        (scalar("from", 0), scalar("to", 1e10), scalar("by", 1)),
        "asks for 10,000,000,000 numbers",
    ),
    "resize": (
        (node("Unsqueeze", "bright one", "u"), node("Resize", "u - scales", "x")),
        (numbers("one", 1), helper.make_tensor("scales", FLOAT, [4], [1, 1, 3000, 3000])),
        "asks for 9,000,000 times what",
    ),
    "one hot": (
        (node("Cast", "image", "ids", to=INT64), node("OneHot", "ids depth values", "x")),
        (scalar("depth", 10**7, INT64), helper.make_tensor("values", FLOAT, [2], [0, 1])),
        "asks for 10,000,000 times what",
    ),
    "stride": (
        (node("Unsqueeze", "bright one", "u"), node("ConvTranspose", "u k", "x", strides=[5000, 5000])),
        (numbers("one", 1), helper.make_tensor("k", FLOAT, [1, 1, 1, 1], [1])),
        "asks for steps of 5,000 pixels",
    ),
    "loop": (
        (node("Loop", "- true bright", "x", body=NEVER_ENDING),),
        (scalar("true", True, TensorProto.BOOL),),
        r"holds a loop \(Loop\)",
    ),
    "loop within": (
        (
            node(
                "If",
                "true",
                "x",
                then_branch=helper.make_graph(
                    [node("Loop", "- true bright", "a", body=NEVER_ENDING)],
                    "then",
                    [],
                    [helper.make_tensor_value_info("a", FLOAT, None)],
                ),
                else_branch=helper.make_graph(
                    [node("Identity", "bright", "b")], "else", [], [helper.make_tensor_value_info("b", FLOAT, None)]
                ),
            ),
        ),
        (scalar("true", True, TensorProto.BOOL),),
        r"holds a loop \(Loop\)",
    ),
}


@pytest.mark.parametrize("fault", RESULTS)
def test_a_graph_that_asks_for_gigabytes_or_never_ends_is_refused(tmp_path, fault):
    nodes, weights, reason = RESULTS[fault]
    refused(write(tmp_path / "model.onnx", *nodes, weights=weights), reason)


def test_a_sparse_tensor_that_would_be_gigabytes_is_refused(tmp_path):
    values, places = helper.make_tensor("s", FLOAT, [1], [1.0]), helper.make_tensor("i", INT64, [1], [0])
    sparse = helper.make_sparse_tensor(values, places, [10**10])
    path = write(tmp_path / "model.onnx", node("ReduceMax", "s", "x"), sparse=(sparse,))
    refused(path, "asks for 10,000,000,000 numbers")


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ((1_000_000, "h", "w", 3), "takes 1,000,000 pictures of 32 x 32 pixels at once"),
        ((1, 100_000, 100_000, 3), "takes 1 pictures of 100,000 x 100,000 pixels"),
        ((0, "h", "w", 3), "takes pictures of the shape"),
        (("n", "h", "w", 4), "takes 4 bands, and 3 by its metadata"),
        (("n", "h", "w", 10**9), "takes 1000000000 bands"),
        (("n", "h", "w"), "takes an image of 3 dimensions"),
        (("n", "h", "w", 3, 1), "takes an image of 5 dimensions"),
        (None, "takes an image of 0 dimensions"),
    ],
)
def test_an_input_of_another_shape_is_refused(tmp_path, image, reason):
    refused(write(tmp_path / "model.onnx", image=image), reason)


@pytest.mark.parametrize(
    ("nodes", "probability", "reason"),
    [
        (
            (node("Cast", "bright", "probability", to=STRING),),
            (STRING, None),
            r"gives probability of type tensor\(string",
        ),
        ((node("Cast", "bright", "probability", to=INT64),), (INT64, None), r"gives probability of type tensor\(int64"),
        ((node("Reshape", "bright flat", "probability"),), (FLOAT, ("n",)), "gives probability of 1 dimensions"),
        ((node("Reshape", "bright five", "probability"),), (FLOAT, [*"abcde"]), "gives probability of 5 dimensions"),
        ((node("Expand", "one5 as5", "probability"),), (FLOAT, None), "gives 5 classes, and 2 by its metadata"),
    ],
)
def test_an_answer_that_is_no_probability_is_refused(tmp_path, nodes, probability, reason):
    weights = (numbers("flat", -1), numbers("five", -1, 1, 1, 1, 1), numbers("as5", 1, 5, 32, 32), scalar("one5", 1.0))
    refused(write(tmp_path / "model.onnx", *nodes, probability=probability, weights=weights), reason)


def test_another_input_and_another_task_are_refused(tmp_path):
    more = (helper.make_tensor_value_info("x", FLOAT, [1]),)
    refused(write(tmp_path / "model.onnx", more=more), "wants x beside image")
    refused(write(tmp_path / "model.onnx", metadata=CLASSES), "is of the task classification, by its metadata")


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("../secret", r"has weights in another folder \(\.\./secret\)"),
        ("/etc/passwd", "has weights in another folder"),
        ("link", "has weights in another folder"),
        ("pipe", "has weights in pipe, which is not beside it"),
        ("gone", "has weights in gone, which is not beside it"),
        ("x" * 3000, "has weights in x+…x+, which is not beside it"),
        ("", "has weights in another folder"),
    ],
)
def test_weights_in_files_of_other_folders_are_never_read(tmp_path, place, reason):
    (tmp_path / "secret").write_bytes(bytes(16))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(folder / "pipe")
    refused(write(folder / "model.onnx", node("ReduceMax", "weight", "x"), weights=(elsewhere(place),)), reason)


def test_weights_beside_a_model_are_read_and_must_be_whole(tmp_path):
    (tmp_path / "weights.bin").write_bytes(np.ones(4, np.float32).tobytes())
    write(tmp_path / "model.onnx", node("ReduceMax", "weight", "x"), weights=(elsewhere("weights.bin"),))
    assert open_model(tmp_path / "model.onnx", "cpu", threads=1).metadata == METADATA
    weights = (elsewhere("weights.bin", 10**6, 10**6),)
    refused(
        write(tmp_path / "model.onnx", node("ReduceMax", "weight", "x"), weights=weights),
        r"wants 4,000,000,000,000 bytes of weights\.bin",
    )


def test_a_large_picture_that_a_graph_makes_from_one_number_is_healthy(tmp_path):
    made = node("Expand", "one s", "x"), node("Identity", "bright", "probability")
    path = write(tmp_path / "model.onnx", *made, weights=(numbers("s", 1, 3, 2400, 2400), numbers("one", 1)))
    assert open_model(path, "cpu", threads=1).metadata == METADATA


UNSEEN = {
    "half the size": (
        (
            node("Unsqueeze", "bright one", "u"),
            node("Resize", "u - scales", "r"),
            node("Squeeze", "r one", "probability"),
        ),
        r"gives probability in the shape \(1, 16, 16\)",
    ),
    "twice the pictures": ((node("Concat", "bright bright", "probability", axis=0),), r"in the shape \(2, 32, 32\)"),
    "not a number": ((node("Sqrt", "minus", "root"), node("Add", "bright root", "probability")), "from nan to nan"),
    "above one": ((node("Sub", "bright minus", "probability"),), "from 1.03 to 1.03, as no softmax or sigmoid does"),
}


@pytest.mark.parametrize("fault", UNSEEN)
def test_an_answer_that_cannot_be_right_is_refused_when_it_comes(tmp_path, fault):
    nodes, reason = UNSEEN[fault]
    weights = (numbers("one", 1), helper.make_tensor("scales", FLOAT, [4], [1, 1, 0.5, 0.5]), scalar("minus", -1.03))
    model = open_model(
        write(tmp_path / "model.onnx", *nodes, weights=weights, probability=(FLOAT, None)), "cpu", threads=1
    )
    with pytest.raises(ModelFileError, match=reason) as caught:
        Predictor(model).predict([np.zeros((20, 30, 3), np.uint8)])
    assert "\n" not in str(caught.value)


def test_flipped_bits_of_a_graph_are_one_line_or_an_answer(tmp_path):
    content = write(tmp_path / "model.onnx").read_bytes()
    said = []
    for at in range(0, len(content), 3):
        (tmp_path / "model.onnx").write_bytes(content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :])
        for read in (lambda path: open_model(path, "cpu", threads=1), read_onnx):
            try:
                read(tmp_path / "model.onnx")
            except ModelFileError as error:
                said.append(str(error))
    assert len(said) > 100 and not any("\n" in line for line in said)
