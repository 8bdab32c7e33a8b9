"""Formats a trained model leaves PyTorch in, and the numbers it computes with.

To add a format: write its module, add its entry. An exporter is called as ``exporter(model, path, metadata,
**options)`` with those of the command's options that its signature names; it writes the file only after checking it.
To add a precision: write a ``Precision``, add its line.
"""

from simclrseg.exporters.formats import Format
from simclrseg.registry import Registry

FORMATS = {
    "onnx": Format(
        exporter="simclrseg.exporters.onnx:export_onnx",
        reader="simclrseg.exporters.contents:read_onnx",
        suffix=".onnx",
        next="{predict} --model {file}",
    ),
    "torch": Format(
        exporter="simclrseg.exporters.program:export_program",
        reader="simclrseg.exporters.contents:read_program",
        suffix=".pt2",
        next="simclrseg export --inspect {file}",
    ),
    "safetensors": Format(
        exporter="simclrseg.exporters.weights:export_weights",
        reader="simclrseg.exporters.contents:read_weights",
        suffix=".safetensors",
        next="{finetune}",
        backbones=True,
    ),
}
EXPORTERS = Registry("export format", {name: format.exporter for name, format in FORMATS.items()})
READERS = Registry("suffix of exported files", {format.suffix: format.reader for format in FORMATS.values()})

PRECISIONS = Registry(
    "precision",
    {
        "fp32": "simclrseg.exporters.precision:FP32",
        "fp16": "simclrseg.exporters.precision:FP16",
        "int8": "simclrseg.exporters.precision:INT8",
    },
)
