"""Small config models and a command of their own: the machinery is tested apart from the real knobs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import typer
from annotated_types import Ge, Gt, Le, Lt
from pydantic import AfterValidator, model_validator

from simclrseg.cli.options import CommandGroup, command
from simclrseg.knobs.sections import Section
from simclrseg.knobs.values import Completes, Flag, Positional, Transient
from simclrseg.registry import Registry

MODELS = Registry("model", {"small": "nowhere:small", "large": "nowhere:large"})


def _even(value: int) -> int:
    if value % 2:
        raise ValueError(f"{value} is odd")
    return value


class Data(Section):
    """Data"""

    dataset: Annotated[list[str], Flag("-d"), Completes("datasets")]
    """What to learn from."""
    ratio: Annotated[float, Gt(0), Le(1)] = 1.0
    """Share to use."""
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """Channel means."""
    folder: Path | None = None
    """A folder [or none]."""


class Optim(Section):
    """Optimization"""

    model: Annotated[str, MODELS] = "small"
    """Size of the network."""
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    """Update rule."""
    clip: Annotated[float, Gt(0), Lt(10)] | None = 1.0
    """Clip the gradient."""
    batch: Annotated[int, Ge(2), AfterValidator(_even)] = 8
    """Photos a step."""
    micro: Annotated[int, Ge(1)] | Literal["auto"] = "auto"
    """Photos at once."""
    epochs: Annotated[int, Ge(1)] = 5
    """Passes."""
    warmup: Annotated[int, Ge(0)] = 0
    """Epochs of warm-up."""
    amp: bool = True
    """Compute in bfloat16."""

    @model_validator(mode="after")
    def _warmup_ends(self) -> Self:
        if self.warmup >= self.epochs:
            raise ValueError(f"warmup ({self.warmup}) must be below epochs ({self.epochs})")
        return self


class Output(Section):
    """Output"""

    overwrite: Annotated[bool, Transient()] = False
    """Replace what exists."""
    as_json: Annotated[bool, Flag("--json"), Transient()] = False
    """Print JSON."""


class TrainConfig(Section):
    """train"""

    data: Data
    optim: Optim = Optim()
    output: Output = Output()


class Inputs(Section):
    """Input"""

    inputs: Annotated[list[str], Positional("INPUT..."), Transient()]
    """Photos."""


class LookConfig(Section):
    """look"""

    input: Inputs


app = typer.Typer(
    cls=CommandGroup,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
received: list[Any] = []


def train(config) -> None:
    """Train something.

    simclrseg train -d a
    simclrseg train -d b --epochs 3
    """
    received.append(config)


def look(config) -> None:
    """Look at something.

    simclrseg look a.jpg
    """
    received.append(config)


# the annotations are set by hand: here the models are not those of simclrseg.config
train.__annotations__["config"] = TrainConfig
look.__annotations__["config"] = LookConfig
command(app)(train)
command(app)(look)


def run(*args: str) -> Any:
    """What the command would get from these words."""
    received.clear()
    app(list(args), prog_name="simclrseg", standalone_mode=False)
    return received[0]
