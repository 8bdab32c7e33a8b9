"""Name -> component tables that list their names without importing the components."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from pydantic_core.core_schema import CoreSchema, no_info_after_validator_function

from simclrseg.errors import UnknownName, suggestion


class Registry(Mapping[str, Any]):
    """Components by the name users type, imported on first use.

    Targets are spelled ``"package.module:attribute"``, as entry points are in
    pyproject.toml, so that listing names (``--help``, completion) stays cheap.

    Raises:
        UnknownName: on looking up a name that the table does not hold.
    """

    def __init__(self, kind: str, targets: Mapping[str, str]) -> None:
        self.kind = kind
        self._targets = dict(targets)

    def __getitem__(self, name: str) -> Any:
        if name not in self._targets:
            raise UnknownName(self.kind, name, known=self._targets)
        module, _, attribute = self._targets[name].partition(":")
        return getattr(import_module(module), attribute)

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
        return no_info_after_validator_function(self._check, handler(source))

    def _check(self, name: str) -> str:
        if name not in self:
            raise ValueError(f"{name!r} is not a {self.kind}: {suggestion(name, self)}")
        return name
