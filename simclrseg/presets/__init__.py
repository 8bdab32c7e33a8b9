"""Named experiments, by the name users type. To add one: write its YAML here; the folder is the list."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from simclrseg.errors import UnknownName, UsageError
from simclrseg.files import why_not_a_file

PRESETS = {path.stem: path for path in sorted(Path(__file__).parent.glob("*.yaml"))}


def load_preset(name_or_path: str, command: str) -> dict[str, Any]:
    """Read a preset by name, or a YAML file or the ``config.yaml`` of a run's folder by path.

    Args:
        command: the command it is read for; every file says which one it is for.

    Returns:
        Sections of keys, not yet checked, without ``command``.

    Raises:
        UsageError: if there is no such file, it is not YAML, or it is another command's.
    """
    path = find_preset(name_or_path)
    tree = _read_yaml(path)
    if "command" not in tree:
        raise UsageError(f"{path} does not say what it is for: add the line `command: {command}`")
    if (meant_for := tree.pop("command")) != command:
        raise UsageError(f"{path} is for `simclrseg {meant_for}`, not for `simclrseg {command}`")
    return tree


def presets_of(command: str) -> list[str]:
    """The presets that are for a command."""
    return [name for name, path in PRESETS.items() if _read_yaml(path)["command"] == command]


def find_preset(name_or_path: str) -> Path:
    """The file behind ``--config``.

    Raises:
        UsageError: if there is none.
    """
    if name_or_path in PRESETS:
        return PRESETS[name_or_path]
    path = Path(name_or_path).expanduser()
    if (path / "config.yaml").is_file():
        return path / "config.yaml"
    reason = why_not_a_file(path)
    if not reason or path.is_fifo():  # as of `--config <(command)`; it is read once
        return path
    if path.suffix in {".yaml", ".yml"} or len(path.parts) > 1:
        raise UsageError(f"--config {name_or_path}: {reason}; presets are {', '.join(PRESETS)}")
    raise UnknownName("preset", name_or_path, known=PRESETS)


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise UsageError(f"{path}{place}: not YAML ({error.problem})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not YAML ({' '.join(str(error).split())})") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise UsageError(f"{path} must hold sections of keys, such as `data:` and below it `image_size: 224`")
    return tree
