"""Formats a trained model leaves PyTorch in, and the numbers it computes with.

To add a format: write its module, add its line. An exporter is called as ``exporter(model, path, metadata, **options)``
with those of the command's options that its signature names; it writes the file only after checking it.
To add a precision: write a ``Precision``, add its line.
"""

from simclrseg.registry import Registry

EXPORTERS = Registry(
    "export format",
    {
        "onnx": "simclrseg.exporters.onnx:export_onnx",
        "torch": "simclrseg.exporters.program:export_program",
        "safetensors": "simclrseg.exporters.weights:export_weights",
    },
)
SUFFIXES = {"onnx": ".onnx", "torch": ".pt2", "safetensors": ".safetensors"}
"""How the files of a format end."""

PRECISIONS = Registry(
    "precision",
    {
        "fp32": "simclrseg.exporters.precision:FP32",
        "fp16": "simclrseg.exporters.precision:FP16",
        "int8": "simclrseg.exporters.precision:INT8",
    },
)
