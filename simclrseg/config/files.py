"""Presets, which are YAML files in ``presets/``, and other files behind ``--config``; the folder is the list."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simclrseg.errors import UnknownName, UsageError
from simclrseg.registry import canonical
from simclrseg.system.files import why_not_a_file

if TYPE_CHECKING:
    from simclrseg.knobs.files import Other

PRESETS = {path.stem: path for path in sorted((Path(__file__).parent / "presets").glob("*.yaml"))}


def load_preset(name_or_path: str, command: str, *, other: Other | None = None) -> dict[str, Any]:
    """Read a preset by name, or a YAML file or the ``config.yaml`` of a run's folder by path.

    Args:
        command: the command it is read for.
        other: reads a file that does not say it, as ``read_config_file`` has it.

    Returns:
        Sections of keys, not yet checked.
    """
    from simclrseg.knobs.files import read_config_file  # brings pydantic, which takes longer than a shell waits

    return read_config_file(find_preset(name_or_path), command, other=other)


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
