"""Name -> component tables that list their names without importing the components."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from glob import glob
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simclrseg.errors import UnknownName, suggestion

if TYPE_CHECKING:
    from pydantic_core.core_schema import CoreSchema

log = logging.getLogger(__name__)


def imported(target: str) -> Any:
    """Import what ``package.module:attribute`` names."""
    module, _, attribute = target.partition(":")
    return getattr(import_module(module), attribute)


def canonical(name: str, known: Iterable[str]) -> str:
    """The known name that is meant by one in another spelling, as ``bce`` by ``BCE`` and ``unet`` by ``U-Net``.

    Case, hyphens, underscores and spaces say nothing, and ``+`` is read as plus. What is no such name, or could be two,
    is returned.
    """
    names = dict.fromkeys(known)
    if name in names:
        return name
    meant = [one for one in names if _bare(one) == _bare(name)]
    return meant[0] if len(meant) == 1 else name


def _bare(name: str) -> str:
    return re.sub(r"[-_\s]", "", name.casefold().replace("+", "plus"))


class Registry(Mapping[str, Any]):
    """Components by the name users type, imported on first use.

    Targets are spelled ``"package.module:attribute"``, as entry points are in
    pyproject.toml, so that listing names (``--help``, completion) stays cheap.

    Raises:
        UnknownName: on looking up a name that the table does not hold.
    """

    def __init__(self, kind: str, targets: Mapping[str, str]) -> None:
        self.kind = kind
        self._given = targets

    @cached_property
    def _targets(self) -> dict[str, str]:
        return dict(self._given)

    def __getitem__(self, name: str) -> Any:
        if name not in self._targets:
            raise UnknownName(self.kind, name, known=self._targets)
        return imported(self._targets[name])

    def __contains__(self, name: object) -> bool:
        return name in self._targets  # Mapping's own would import the component

    def __iter__(self) -> Iterator[str]:
        return iter(self._targets)

    def __len__(self) -> int:
        return len(self._targets)

    def __eq__(self, other: object) -> bool:
        return self is other  # Mapping's own would import every component

    def __hash__(self) -> int:
        return id(self)

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        """Validate ``Annotated[str, REGISTRY]`` fields: the name must be in the table."""
        from pydantic_core.core_schema import no_info_after_validator_function  # slow, and completion has no use for it

        return no_info_after_validator_function(self._check, handler(source))

    def _check(self, name: str) -> str:
        if name not in self:
            raise ValueError(f"{name!r} is not a {self.kind}: {suggestion(name, self)}")
        return name


class FolderRegistry(Registry):
    """Components that are folders of a package, and those that other packages bring, found without importing them.

    Args:
        package: its dotted name.
        places: its ``__path__``.
        target: ``module:attribute`` in each folder; a folder without this module is no component.
        group: of the entry points by which other packages add components.
    """

    def __init__(self, kind: str, package: str, places: Sequence[str], target: str, *, group: str) -> None:
        super().__init__(kind, {})
        self._package, self._places, self._target, self._group = package, places, target, group

    @cached_property
    def _targets(self) -> dict[str, str]:
        module = self._target.partition(":")[0]
        folders = sorted(file.parent.name for place in self._places for file in Path(place).glob(f"*/{module}.py"))
        own = {name: f"{self._package}.{name}.{self._target}" for name in folders}
        return own | {name: value for name, value in _entry_points(self._group) if name not in own}

    def components(self) -> dict[str, Any]:
        """All of them by name, imported; what another package brings and cannot be imported is left out, and said."""
        found = {}
        for name, target in list(self._targets.items()):
            try:
                found[name] = self[name]
            except Exception as error:  # whatever a stranger's module raises
                if target.startswith(f"{self._package}."):
                    raise
                reason = f"{type(error).__name__}: {error}"
                log.warning(
                    f"{self.kind} {name} is left out: {target} of another package cannot be imported ({reason})"
                )
                del self._targets[name]
        return found


def _entry_points(group: str) -> list[tuple[str, str]]:
    """Name and target of each entry point of a group."""
    if not declared(group):
        return []
    from importlib.metadata import entry_points

    return sorted((entry.name, entry.value) for entry in entry_points(group=group))


def declared(text: str) -> bool:
    """Tell whether a text, such as the name of a group, may stand in the entry points of a package that is installed.

    importlib.metadata parses those of every package there is, longer than a shell that completes waits.
    """
    for place in sys.path:
        if os.path.isfile(place):
            return True  # an archive, which nobody looks into here
        for file in glob("*-info/entry_points.txt", root_dir=place or None):
            with suppress(OSError):  # importlib.metadata has none of one that it cannot read
                if text in Path(place, file).read_text(encoding="utf-8", errors="replace"):
                    return True
    return False
