"""`simclrseg export --inspect`: what an exported file takes, gives and says of itself. Never imports torch."""

from __future__ import annotations

import json
import logging
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import safetensors
from google.protobuf.message import DecodeError

from simclrseg.config.export import ExportConfig
from simclrseg.errors import ModelFileError
from simclrseg.exporters import SUFFIXES
from simclrseg.metadata import ONNX_PREFIX, PROGRAM_ENTRY, ModelMetadata

log = logging.getLogger(__name__)

Facts = dict[str, Any]


def inspect(config: ExportConfig) -> Facts:
    """Describe an ONNX, ``.pt2`` or safetensors file, ours or another's.

    Returns:
        The file, its size, its inputs and outputs with type and shape, and its metadata (empty where it is not ours).

    Raises:
        ModelFileError: if there is no such file, or it cannot be read.
    """
    path = Path(config.console.inspect or "")
    if not path.is_file():
        raise ModelFileError(f"{path} is a folder, not a model" if path.is_dir() else f"{path}: no such file")
    if path.suffix not in READERS:
        raise ModelFileError(f"{path}: the names of exported files end in {', '.join(SUFFIXES.values())}")
    try:
        facts = READERS[path.suffix](path)
    except ModelFileError as error:
        raise ModelFileError(f"{path} {error}") from error
    if not facts["metadata"]:
        log.warning(f"{path} was not exported by simclrseg: it says nothing of classes, sizes or normalisation")
    if not config.console.as_json:
        facts["metadata"] = _flat(facts["metadata"])
    return {"file": str(path), "megabytes": round(path.stat().st_size / 1e6, 1), **facts}


def _flat(tree: Facts, prefix: str = "") -> Facts:
    """Groups as dotted names, so that ``metrics.precision`` is not taken for ``precision``."""
    flat: Facts = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def _onnx(path: Path) -> Facts:
    try:
        model = onnx.load(path, load_external_data=False)
        if not model.graph.output:  # arbitrary bytes may parse
            raise ValueError
    except (DecodeError, OSError, ValueError) as error:
        raise ModelFileError("is no ONNX model that can be read: export it again") from error
    weights = {tensor.name for tensor in model.graph.initializer}
    header = {prop.key: prop.value for prop in model.metadata_props}
    return {
        "opset": next((opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")), None),
        "inputs": [_tensor(value) for value in model.graph.input if value.name not in weights],
        "outputs": [_tensor(value) for value in model.graph.output],
        "metadata": _ours(header, ONNX_PREFIX),
    }


def _tensor(value: onnx.ValueInfoProto) -> Facts:
    tensor = value.type.tensor_type
    return {
        "name": value.name,
        "type": str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)),
        "shape": [dim.dim_param or dim.dim_value for dim in tensor.shape.dim],
    }


def _program(path: Path) -> Facts:
    try:
        with zipfile.ZipFile(path) as file:
            entries = [name for name in file.namelist() if name.endswith(f"/extra/{PROGRAM_ENTRY}")]
            facts: Facts = json.loads(file.read(entries[0])) if entries else {}
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise ModelFileError("is no torch.export program that can be read: export it again") from error
    return {"inputs": [], "outputs": [], "metadata": {}, **facts}


def _weights(path: Path) -> Facts:
    try:
        with safetensors.safe_open(path, framework="np") as file:
            header, tensors = file.metadata() or {}, len(file.keys())
    except (OSError, safetensors.SafetensorError) as error:
        raise ModelFileError("is no whole safetensors file: export it again") from error
    return {"tensors": tensors, "inputs": [], "outputs": [], "metadata": _ours(header, "")}


def _ours(header: dict[str, str], prefix: str) -> Facts:
    """The metadata as plain values; nothing where the file was not made by this tool.

    Raises:
        ModelFileError: if they are ours but cannot be read.
    """
    metadata = ModelMetadata.from_strings(header, prefix)
    return {} if metadata is None else metadata.model_dump(mode="json")


READERS: dict[str, Callable[[Path], Facts]] = {".onnx": _onnx, ".pt2": _program, ".safetensors": _weights}
