"""The README's commands, in their order, and how a test types one."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

TREE = Path(__file__).parents[1]
README = (TREE / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)
LINES = [line for block in BLOCKS for line in re.sub(r" \\\n +", " ", block).splitlines()]
COMMANDS = [line for line in LINES if line and not line.startswith("#")]
EXECUTABLE = Path(sys.executable).parent / "simclrseg"


def commands_like(pattern: str) -> list[str]:
    return [command for command in COMMANDS if re.match(pattern, command)]


def words(command: str) -> list[str]:
    first, *others = shlex.split(command)
    assert first == "simclrseg", command
    return others
