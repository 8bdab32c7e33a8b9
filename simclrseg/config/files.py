"""Presets, which are YAML files in ``presets/``, and other files behind ``--config``; the folder is the list."""

from __future__ import annotations

import os
from pathlib import Path

from simclrseg.errors import UnknownName, UsageError
from simclrseg.registry import canonical
from simclrseg.system.identify import why_not_a_file

PRESETS = {path.stem: path for path in sorted((Path(__file__).parent / "presets").glob("*.yaml"))}


def presets_of(command: str) -> list[str]:
    """The presets that are for a command."""
    line = f"command: {command}"  # PyYAML takes longer than a shell that completes waits
    return [name for name, path in PRESETS.items() if line in path.read_text(encoding="utf-8").splitlines()]


def find_preset(name_or_path: str) -> Path:
    """The file behind ``--config``."""
    if name_or_path in PRESETS:
        return PRESETS[name_or_path]
    path = Path(os.path.expanduser(name_or_path))
    if (path / "config.yaml").is_file():
        return path / "config.yaml"
    reason = why_not_a_file(path)
    if not reason or path.is_fifo():  # as of `--config <(command)`; it is read once
        return path
    if path.suffix in {".yaml", ".yml"} or len(path.parts) > 1:
        raise UsageError(
            f"--config {name_or_path}: {reason}; presets are {', '.join(PRESETS)}", option="config", value=name_or_path
        )
    if (meant := canonical(name_or_path, PRESETS)) in PRESETS:
        return PRESETS[meant]
    raise UnknownName("preset", name_or_path, known=PRESETS)
