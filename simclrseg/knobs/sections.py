"""Sections that several commands share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from annotated_types import Ge
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, create_model, model_validator

from simclrseg.knobs.values import Common, Completes, Flag, PathText, Transient, of_a_run
from simclrseg.registry import FolderRegistry, Registry

_BEYOND = 1 << 53
"""Whole numbers from here on are not exact any more, where floating-point numbers are computed from them."""
_SEEDS = 1 << 64
"""From here on torch takes no seed; nothing but random numbers is computed from one."""


class Section(BaseModel):
    """A group of knobs: one block of the YAML file, one panel of ``--help``."""

    # Built on first use: help needs the names of the knobs only. Their docstrings are read by knob.py.
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True, allow_inf_nan=False)

    CHOICE: ClassVar[tuple[str, str] | None] = None
    """Of a whole config: section and name of the knob that chooses one of several sections, such as the method's."""
    MOVED: ClassVar[Mapping[str, str]] = {}
    """Of a whole config: keys of older files, and what they are now."""

    def changed(self, names: Iterable[str] | None = None) -> list[str]:
        """Those of the knobs, by default of all, that have another value than the default."""
        fields = type(self).model_fields
        asked = fields if names is None else names
        return [name for name in asked if getattr(self, name) != fields[name].get_default(call_default_factory=True)]

    @model_validator(mode="after")
    def _whole_numbers_can_be_computed_with(self) -> Self:
        for name in type(self).model_fields:
            most = _SEEDS if name.endswith("seed") else _BEYOND
            if isinstance(value := getattr(self, name), int) and not -most < value < most:
                raise ValueError(f"{name} is beyond all use: take less than {most:,}")
        return self


Whole = TypeVar("Whole", bound=Section)


def composed(base: type[Whole], sections: FolderRegistry) -> type[Whole]:
    """A command's config: its base, named with an underscore before it, and a section for each entry of a table."""
    fields: dict[str, Any] = {
        name: (knobs, Field(default_factory=knobs)) for name, knobs in sections.components().items()
    }
    name = base.__name__.removeprefix("_")
    return create_model(name, __base__=base, __module__=base.__module__, __doc__=base.__doc__, **fields)


def alternatives(model: type[Section]) -> tuple[str, ...]:
    """The sections of a whole config of which a knob chooses one; none where no knob does."""
    if model.CHOICE is None:
        return ()
    section, knob = model.CHOICE
    owner: Any = model.model_fields[section].annotation
    return next(tuple(fact) for fact in owner.model_fields[knob].metadata if isinstance(fact, Registry))


def check_meaning(
    config: Section, info: ValidationInfo, what: str, chosen: str, knobs: Mapping[str, Mapping[str, tuple[str, ...]]]
) -> None:
    """Refuse knobs that were set and mean nothing for what was chosen; a run that was made with them keeps them.

    Args:
        what: kind of the choice, as in ``task``.
        knobs: names of those that mean something for one choice only, by that and by section.
    """
    if of_a_run(info) or config.run.resume is not None:  # type: ignore[attr-defined]  # both that train have it
        return
    for other, sections in knobs.items():
        for section, names in sections.items() if other != chosen else ():
            values = getattr(config, section)
            if own := values.changed(names):
                default = type(values).model_fields[own[0]].get_default(call_default_factory=True)
                raise ValueError(
                    f"{own[0]} is for {what} {other} and has no meaning for {what} {chosen}: "
                    f"leave it out, or where a file sets it, give {as_written(default)}"
                )


def as_written(value: Any) -> str:
    """A value as a file or the command line has it."""
    return "null" if value is None else " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


class Hardware(Section):
    """Hardware"""

    device: Annotated[Literal["auto", "cpu", "cuda", "mps"], Common()] = "auto"
    """Where to compute; auto takes the GPU when there is one."""
    workers: Annotated[int, Ge(1)] | None = None
    """Threads that read and augment images; by default one per CPU core."""


class Output(Section):
    """Output"""

    as_json: Annotated[bool, Flag("--json"), Transient()] = False
    """Print the result as JSON on stdout."""
    quiet: Annotated[bool, Flag("-q"), Transient()] = False
    """Only warnings and errors on stderr."""


class Console(Output):
    """Output"""

    runs: Annotated[PathText, Completes("folders")] = "runs"
    """Folder of all runs."""
