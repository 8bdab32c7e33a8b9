"""Formats a trained model leaves PyTorch in. To add one: write its module, add its line."""

from simclrseg.registry import Registry

EXPORTERS = Registry("export format", {"onnx": "simclrseg.exporters.onnx:export_onnx"})
