"""Kinds of inputs, by name. To add one: a function that gives its source, and its line."""

from __future__ import annotations

from tests.faults.fuzz.harness import Kind

KINDS = {
    "commands": Kind("tests.faults.fuzz.texts:commands", 2),
    "configs": Kind("tests.faults.fuzz.texts:configs", 1),
    "classes": Kind("tests.faults.fuzz.texts:classes", 2),
    "normalizations": Kind("tests.faults.fuzz.texts:normalizations", 2),
    "metadata": Kind("tests.faults.fuzz.models:metadata", 2),
    "weights": Kind("tests.faults.fuzz.models:weights", 1),
    "states": Kind("tests.faults.fuzz.models:states", 1),
    "onnx": Kind("tests.faults.fuzz.models:onnx_files", 2),
    "images": Kind("tests.faults.fuzz.pictures:images", 4),
    "maps": Kind("tests.faults.fuzz.pictures:maps", 2),
    "masks": Kind("tests.faults.fuzz.pictures:masks", 3),
    "sets": Kind("tests.faults.fuzz.pictures:sets", 1),
    "drawn": Kind("tests.faults.fuzz.pictures:drawn", 1),
    "hub": Kind("tests.faults.fuzz.texts:hub", 0.5),
    "named": Kind("tests.faults.fuzz.others:named", 1),
    "completions": Kind("tests.faults.fuzz.others:completions", 1),
    "keywords": Kind("tests.faults.fuzz.others:keywords", 1),
    "predictions": Kind("tests.faults.fuzz.others:predictions", 0.5),
    "runs": Kind("tests.faults.fuzz.texts:runs", 0.5),
}
