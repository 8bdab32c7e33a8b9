"""The command line answers at once: nothing heavy is imported before a command runs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

HEAVY = [
    "torch",
    "torchvision",
    "numpy",
    "segmentation_models_pytorch",
    "timm",
    "onnx",
    "onnxruntime",
    "huggingface_hub",
    "datasets",
    "matplotlib",
    "PIL",
    "cv2",
    "safetensors",
]
CODE = """
import sys
from simclrseg.__main__ import main
sys.argv = ["simclrseg", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print(*sys.modules, file=sys.stderr)
"""


def modules_after(*args: str, **environment: str) -> set[str]:
    command = [sys.executable, "-c", CODE, *args]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=True)
    assert done.stdout.strip()
    return set(done.stderr.split())


def completing(words: str) -> dict[str, str]:
    return {
        "_SIMCLRSEG_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }


@pytest.mark.parametrize(
    "args", [["--help"], ["--version"], ["pretrain", "--help"], ["pretrain", "--help-all"], ["predict", "-h"]]
)
def test_help_imports_nothing_heavy(args):
    assert not modules_after(*args).intersection(HEAVY)


@pytest.mark.parametrize(
    "words",
    [
        "simclrseg pre",
        "simclrseg pretrain --da",
        "simclrseg pretrain --dataset ",
        "simclrseg finetune --pretrained ",
        "simclrseg finetune --backbone ",
        "simclrseg pretrain --config ",
        "simclrseg pretrain --set training.",
        "simclrseg pull ",
    ],
)
def test_a_completion_imports_nothing_slow(words):
    slow = {*HEAVY, "pydantic", "pydantic_core", "typer", "rich", "yaml", "importlib.metadata"}
    assert not modules_after(**completing(words)).intersection(slow)


def test_the_packages_there_are_need_not_be_listed():
    """As importlib.metadata does, and what Typer and pydantic build validators with."""
    assert not {"importlib.metadata", "typer._adapters"} & modules_after("pretrain", "--help")


def test_help_of_all_commands_reads_no_config_model():
    assert not {"pydantic", "simclrseg.config"} & modules_after("--help")
