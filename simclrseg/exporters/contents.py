"""Contents of an exported file: inputs, outputs and metadata. Never imports torch.

A reader raises ModelFileError for what is no such file that can be read, beginning with a verb, for the file's name
stands before it. Metadata are empty in a file of others.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import onnx
import safetensors
from google.protobuf.message import DecodeError

from simclrseg.errors import ModelFileError
from simclrseg.metadata import ONNX_PREFIX, PROGRAM_ENTRY, ModelMetadata
from simclrseg.system.checksum import DAMAGED, is_damaged
from simclrseg.system.content import parse_json
from simclrseg.system.identify import BAD_ARCHIVE, why_not_unpacked

Facts = dict[str, Any]
_TYPES = {kind: str(onnx.helper.tensor_dtype_to_np_dtype(kind)) for kind in onnx.helper.get_all_tensor_dtypes()}


def read_onnx(path: Path) -> Facts:
    try:
        if is_damaged(path):
            raise ModelFileError(DAMAGED, "export it again")
        model = onnx.load(path, load_external_data=False)
        if not model.graph.output:  # arbitrary bytes may parse
            raise ValueError
    except (DecodeError, OSError, ValueError) as error:
        raise ModelFileError("is no ONNX model that can be read", "export it again") from error
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
        "type": _TYPES.get(tensor.elem_type, "unknown"),
        "shape": [dim.dim_param or dim.dim_value for dim in tensor.shape.dim],
    }


def read_program(path: Path) -> Facts:
    try:
        with zipfile.ZipFile(path) as file:
            if what := why_not_unpacked(file):
                raise ModelFileError(what, "export it again")
            entries = [name for name in file.namelist() if name.endswith(f"/extra/{PROGRAM_ENTRY}")]
            facts: Facts = parse_json(file.read(entries[0]).decode()) if entries else {}
    except BAD_ARCHIVE as error:
        raise ModelFileError("is no torch.export program that can be read", "export it again") from error
    return {"inputs": [], "outputs": [], "metadata": {}, **facts}


def read_weights(path: Path) -> Facts:
    try:
        if is_damaged(path):
            raise ModelFileError(DAMAGED, "export it again")
        with safetensors.safe_open(path, framework="np") as file:
            header, tensors = file.metadata() or {}, len(file.keys())
    except (OSError, safetensors.SafetensorError) as error:
        raise ModelFileError("is no whole safetensors file", "export it again") from error
    return {"tensors": tensors, "inputs": [], "outputs": [], "metadata": _ours(header, "")}


def _ours(header: dict[str, str], prefix: str) -> Facts:
    """The metadata as plain values; nothing where the file was not made by this tool."""
    metadata = ModelMetadata.from_strings(header, prefix)
    return {} if metadata is None else metadata.model_dump(mode="json")
