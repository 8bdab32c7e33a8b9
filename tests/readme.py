"""The commands that the README and the pages of ``.github/docs`` tell people to type, and how a test types one."""

from __future__ import annotations

import re
import shlex
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

TREE = Path(__file__).parents[1]
EXECUTABLE = Path(sys.executable).parent / "simclrseg"


@dataclass(frozen=True)
class Page:
    """A page of Markdown.

    Attributes:
        name: its path in the tree.
    """

    name: str

    @cached_property
    def text(self) -> str:
        return (TREE / self.name).read_text(encoding="utf-8")

    @cached_property
    def commands(self) -> list[str]:
        """The lines of its blocks of commands, in their order."""
        blocks = re.findall(r"^ *```sh\n(.*?)^ *```", self.text, flags=re.DOTALL | re.MULTILINE)
        lines = [line.strip() for block in blocks for line in block.splitlines()]
        return [line for line in lines if line and not line.startswith("#")]

    def commands_like(self, pattern: str) -> list[str]:
        return [command for command in self.commands if re.match(pattern, command)]


README = Page("README.md")
GUIDE = Page(".github/docs/guide.md")
CLASSROOM = Page(".github/docs/classroom.md")
CONTRIBUTING = Page(".github/CONTRIBUTING.md")


def words(command: str) -> list[str]:
    first, *others = shlex.split(command)
    assert first == "simclrseg", command
    return others
