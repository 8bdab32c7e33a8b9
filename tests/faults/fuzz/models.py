"""Damaged weights, checkpoints and exported models, with what they say of themselves."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx
import safetensors.torch
import torch
from torch import nn

from simclrseg.cli.app import app
from simclrseg.engine.checkpoints import Checkpoints, TrainingState
from simclrseg.errors import ModelFileError
from simclrseg.images.colours import overlay
from simclrseg.inference.predictor import Predictor
from simclrseg.inference.session import open_model
from simclrseg.inference.tiling import to_mask
from simclrseg.metadata import ONNX_PREFIX, ModelMetadata
from simclrseg.models.weights import load_backbone, read_metadata, read_weights
from tests.faults.fuzz.harness import Source
from tests.faults.fuzz.mutations import WORDS, bytes_of, json_of, leaf, tree_of
from tests.inference.models import write_classifier, write_segmenter

_METADATA = ModelMetadata(
    task="segmentation",
    encoder="resnet18",
    decoder="unet",
    image_size=16,
    classes=("background", "cat"),
    colours=((0, 0, 0), (255, 0, 0)),
    threshold=0.5,
    reach=(0.0, 4000.0),
    data={"dataset": "shapes", "image_size": 16},
    metrics={"iou": 0.5},
    checks={"difference": 0.1},
    doubts=("few photos",),
)
_OPCODES = [
    bytes([code]) for code in (*b"0123456789ABCDEFGHIJKLMNOPQRSTUVXY()[]{}.abcdeghijlopqrstu", *range(0x80, 0x99))
]


def metadata(folder: Path) -> Source:
    """What safetensors and ONNX files of ours say of themselves."""
    values = json.loads(json.dumps({name: json.loads(text) for name, text in _METADATA.to_strings().items()}))
    tensors = {"a": torch.zeros(3)}
    segmenter = onnx.load(write_segmenter(folder / "whole.onnx"))

    def make(rng: Random) -> Path:
        damaged = tree_of(rng, values)
        damaged = damaged if isinstance(damaged, dict) else values
        header = {}
        for name, value in damaged.items():
            text = _json(value) if rng.random() < 0.98 else rng.choice(WORDS)
            header[_text(name)] = _text(text)
        if rng.random() < 0.5:
            file = folder / "file.safetensors"
            try:
                file.write_bytes(safetensors.torch.save(tensors, header))
            except UnicodeEncodeError:
                file.write_bytes(safetensors.torch.save(tensors))
            return file
        file = folder / "file.onnx"
        del segmenter.metadata_props[:]
        onnx.helper.set_model_props(segmenter, {ONNX_PREFIX + name: text for name, text in header.items()})
        file.write_bytes(segmenter.SerializeToString())
        return file

    def read(file: Path) -> Any:
        if file.suffix == ".onnx":
            _predict(file)
        elif (found := read_metadata(file)) is not None:
            _check(found)
            read_weights(file)
        if code := app(["export", "--inspect", str(file), "--json"], prog_name="simclrseg", standalone_mode=False):
            return code

    return Source(make, read)


def _check(found: ModelMetadata) -> None:
    """What is accepted can be used."""
    assert found.image_size >= 1 and found.in_channels >= 1 and len(found.bands) == found.in_channels
    assert len(found.mean) == len(found.std) == found.in_channels and np.isfinite([*found.mean, *found.std]).all()
    assert all(std > 0 for std in found.std) and found.full_scale >= 1
    assert found.threshold is None or 0 <= found.threshold <= 1
    assert all(0 <= level <= 255 for colour in found.colours for level in colour)


def _predict(file: Path) -> None:
    """A small picture through an exported model, as ``predict`` does."""
    model = open_model(file, "cpu", threads=1, once=True)
    _check(model.metadata)
    predictor = Predictor(model)
    bands = model.metadata.in_channels
    if bands > 64:
        raise ModelFileError("no picture has as many bands")
    picture = np.arange(24 * 20 * bands, dtype=np.uint64).reshape(24, 20, bands).astype(model.dtype)
    if model.classifies:
        predictor.classify([picture])
        return
    (found,) = predictor.predict([picture])
    for top, probability in found:
        mask = to_mask(probability, model.metadata.threshold)
        assert top + len(mask) <= 24 and mask.shape[1] == 20
        if bands == 3 and model.dtype == np.uint8 and len(model.metadata.colours) > mask.max():
            overlay(picture[top : top + len(mask)], mask, model.metadata.colours)


def _json(value: Any) -> str:
    try:
        return json.dumps(value)
    except RecursionError:
        return "[" * 5000


def _text(text: object) -> str:
    """Text that a protobuf can hold."""
    return str(text).encode("utf-8", "replace").decode()


def onnx_files(folder: Path) -> Source:
    """ONNX files: bytes, and what the graph says of its tensors and nodes."""
    files = [write_segmenter(folder / "a.onnx"), write_classifier(folder / "b.onnx")]
    files.append(write_segmenter(folder / "c.onnx", classes=3))
    whole = [onnx.load(file) for file in files]
    data = [file.read_bytes() for file in files]
    file = folder / "file.onnx"

    def make(rng: Random) -> Path:
        if rng.random() < 0.4:
            file.write_bytes(bytes_of(rng, rng.choice(data), data))
            return file
        model = onnx.ModelProto()
        model.CopyFrom(rng.choice(whole))
        for _ in range(rng.choice((1, 1, 2))):
            _damage(rng, model)
        file.write_bytes(model.SerializeToString())
        return file

    return Source(make, _predict)


def _damage(rng: Random, model: onnx.ModelProto) -> None:
    graph = model.graph
    number = rng.choice((0, -1, 1, 2, 3, 4, 7, 224, 2**20, 2**31 - 1, 2**40, 2**62))
    values = [*graph.input, *graph.output]
    value = rng.choice(values)
    node = rng.choice(graph.node)
    match rng.randrange(9):
        case 0 | 1:
            for dim in rng.sample(list(value.type.tensor_type.shape.dim), 1):
                dim.dim_value = number
        case 2:
            value.type.tensor_type.shape.dim.add().dim_value = number
        case 3:
            value.type.tensor_type.elem_type = rng.randrange(25)
        case 4:
            value.name = rng.choice(("image", "probability", "mask", "label", "x", ""))
        case 5 if node.attribute:
            attribute = rng.choice(node.attribute)
            attribute.i = number
            attribute.ints.append(number)
        case 6:
            node.op_type = rng.choice(("Identity", "Shape", "Size", "Neg", "Expand", "Tile", "Loop", "If", "NonZero"))
        case 7:
            other = rng.choice(graph.node)
            (rng.choice((node.input, node.output)))[0] = rng.choice((*other.input, *other.output, ""))
        case 8:  # as many pictures as a hostile file asks for
            shape = onnx.helper.make_tensor("wide", onnx.TensorProto.INT64, [4], [1, abs(number), 1, 1])
            graph.initializer.append(shape)
            graph.node.insert(1, onnx.helper.make_node("Expand", [graph.node[0].output[0], "wide"], ["wider"]))
            for later in graph.node[2:]:
                for place, name in enumerate(later.input):
                    if name == graph.node[0].output[0]:
                        later.input[place] = "wider"


def weights(folder: Path) -> Source:
    """Weights of other tools: safetensors and checkpoints of ``torch.save``, for a small encoder."""
    torch.manual_seed(0)
    blocks = [nn.Sequential(nn.Conv2d(width, 4, 3, bias=False), nn.BatchNorm2d(4)) for width in (3, 4)]
    backbone = nn.Sequential(OrderedDict(zip(("conv", "layer"), blocks, strict=True)))
    small = backbone.state_dict()
    trees = [
        small,
        OrderedDict(small),
        {"state_dict": {f"module.{name}": tensor for name, tensor in small.items()}, "epoch": 3, "name": "a"},
        {"model": {"encoder": small}, "args": [1, "b", None, 2.5], "optimizer": {0: {"step": torch.tensor(1)}}},
        {"half": {name: tensor.half() for name, tensor in small.items()}, "of": torch.zeros(3, 2).T},
    ]
    new, old = [_saved(tree, True) for tree in trees], [_saved(tree, False) for tree in trees]
    plain = [pickle.dumps(tree, protocol) for tree in ({"a": np.zeros(3)}, {"x": 1}) for protocol in (0, 2, 4)]
    stranger = safetensors.torch.save(small, {"format": "pt"})

    def make(rng: Random) -> Path:
        match rng.randrange(6):
            case 0 | 1:
                file = folder / rng.choice(("file.pth", "file.ckpt", "file.bin"))
                file.write_bytes(_within_zip(rng, rng.choice(new)))
            case 2:
                file = folder / "file.pth"
                file.write_bytes(bytes_of(rng, rng.choice(new), new))
            case 3:
                file = folder / "file.pt"
                file.write_bytes(bytes_of(rng, rng.choice(old + plain), old, _OPCODES))
            case _:
                file = folder / "file.safetensors"
                file.write_bytes(_other_header(rng, stranger))
        return file

    def read(file: Path) -> None:
        load_backbone(backbone, file)

    return Source(make, read)


def _saved(tree: Any, as_zip: bool) -> bytes:
    stream = io.BytesIO()
    torch.save(tree, stream, _use_new_zipfile_serialization=as_zip)
    return stream.getvalue()


def _within_zip(rng: Random, data: bytes) -> bytes:
    """An archive with one member damaged, and right checksums."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as whole, zipfile.ZipFile(stream, "w") as damaged:
        names = whole.namelist()
        pickles = [name for name in names if name.endswith("data.pkl")]
        chosen = rng.choice(pickles if rng.random() < 0.8 else names)
        for name in names:
            content = whole.read(name)
            if name == chosen:
                content = bytes_of(rng, content, (content,), _OPCODES)
            kind = zipfile.ZIP_DEFLATED if rng.random() < 0.05 else zipfile.ZIP_STORED
            damaged.writestr(
                name if rng.random() < 0.98 else rng.choice(("../x", "archive/data/99", "a/b")), content, kind
            )
    return stream.getvalue()


def _other_header(rng: Random, data: bytes) -> bytes:
    """A safetensors file whose header is damaged as JSON, or whose bytes are."""
    if rng.random() < 0.3:
        return bytes_of(rng, data)
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    if rng.random() < 0.3:
        entry = rng.choice([name for name in header if name != "__metadata__"])
        header[entry][rng.choice(("dtype", "shape", "data_offsets"))] = leaf(rng, [1, 2])
        text = _json(header).encode()
    else:
        text = json_of(rng, header)
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def states(folder: Path) -> Source:
    """Training states, whose archive, pickle or values are damaged."""
    values: dict[str, Any] = {
        "epoch": 1,
        "step": 4,
        "model": {"weight": torch.zeros(3), "extra": {"names": ["a", "b"]}},
        "optimizer": {
            "state": {0: {"step": torch.tensor(4.0), "momentum": torch.zeros(3)}},
            "param_groups": [{"lr": 0.1, "params": [0]}],
        },
        "scaler": {},
        "sums": {"loss": 1.5},
        "images": {"loss": 16},
        "history": [{"epoch": 1, "step": 4, "train": {"loss": 0.5}, "validation": {"iou": 0.5}, "seconds": 1.5}],
    }
    checkpoints = Checkpoints(folder)
    checkpoints.save_last(TrainingState(**values))
    checkpoints.save_best({"weight": torch.zeros(3)}, score=0.5, epoch=1)
    last, best = folder / "last" / "state.pt", folder / "best" / "model.pt"
    whole = {last: last.read_bytes(), best: best.read_bytes()}
    kept = {"model": {"weight": torch.zeros(3)}, "score": 0.5, "epoch": 1}

    def make(rng: Random) -> Path:
        file = rng.choice((last, last, best))
        for other, data in whole.items():
            other.write_bytes(data)
        match rng.randrange(3):
            case 0:
                file.write_bytes(bytes_of(rng, whole[file], list(whole.values())))
            case 1:
                file.write_bytes(_within_zip(rng, whole[file]))
            case _:
                tree = _other_values(rng, {"format": 1, **(values if file == last else kept)})
                file.write_bytes(_saved(tree, True))
        return file

    def read(file: Path) -> None:
        if file == last:
            Checkpoints(folder).load_last()
        else:
            Checkpoints(folder).load_best({"weight": torch.zeros(3)}, epoch=1)

    return Source(make, read)


def _other_values(rng: Random, tree: dict[str, Any]) -> Any:
    damaged = tree_of(rng, tree)
    try:
        pickle.dumps(damaged)
    except RecursionError:
        return tree
    return damaged
