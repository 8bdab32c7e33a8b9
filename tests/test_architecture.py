"""The promises of the design that no single module can keep."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

import simclrseg

TREE = Path(simclrseg.__file__).parents[1]
LIGHT = [
    "simclrseg",
    "simclrseg.cli.app",
    "simclrseg.cli.options",
    *sorted(f"simclrseg.config.{path.stem}" for path in (TREE / "simclrseg" / "config").glob("[!_]*.py")),
    "simclrseg.knobs.parsing",
    "simclrseg.hub.table",
    "simclrseg.hub.fetch",
    "simclrseg.hub.push",
    "simclrseg.runs.claim",
    "simclrseg.runs.lookup",
    "simclrseg.metadata",
    "simclrseg.registry",
    "simclrseg.errors",
    "simclrseg.system.files",
    *sorted(".".join(path.parent.relative_to(TREE).parts) for path in (TREE / "simclrseg").glob("**/__init__.py")),
]
HEAVY = {
    "torch", "torchvision", "segmentation_models_pytorch", "timm", "numpy", "cv2", "PIL", "onnx", "onnxruntime",
    "huggingface_hub", "datasets", "matplotlib", "safetensors",
}  # fmt: skip


def imported_by(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*sys.modules, sep='\\n', file=sys.__stdout__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_nothing_heavy_is_imported_before_a_command_runs():
    assert not HEAVY & imported_by("import " + ", ".join(LIGHT))


def test_the_path_from_photo_to_mask_never_imports_torch():
    loaded = imported_by("import simclrseg.commands.serve, simclrseg.serving.app, simclrseg.serving.server")
    assert not {"torch", "torchvision", "segmentation_models_pytorch", "timm", "onnx", "matplotlib"} & loaded
    assert "onnxruntime" in loaded


def test_the_visible_top_level_is_what_the_design_says():
    done = subprocess.run(["git", "-C", str(TREE), "ls-files", "-z"], capture_output=True, text=True)
    if done.returncode or not done.stdout:
        pytest.skip("not a git checkout")
    top = {name.partition("/")[0] for name in done.stdout.split("\0") if name and not name.startswith(".")}
    assert top == {"simclrseg", "tests", "completions", "pyproject.toml", "README.md", "LICENSE"}


@pytest.mark.parametrize(
    "package", sorted((TREE / "simclrseg").glob("**/__init__.py")), ids=lambda path: path.parent.name
)
def test_an_init_holds_a_table_or_nothing(package):
    if package.parent.name == "simclrseg":
        return
    lines = [line for line in package.read_text().splitlines() if line.startswith(("def ", "class "))]
    assert not lines, f"{package} defines {lines}"


def test_benchmarks_import_what_there_is() -> None:
    """They run by hand, with packages of their own, so that nothing else would notice."""
    for file in sorted((TREE / "tests" / "benchmarks").glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("simclrseg"):
                module = import_module(str(node.module))
                for alias in node.names:
                    found = hasattr(module, alias.name) or find_spec(f"{module.__name__}.{alias.name}")
                    assert found, f"{file.name}: {node.module}.{alias.name}"
