"""Options made from a config model, so that config/ is the only place where a knob is written.

Precedence, weakest first: the model's defaults, the ``--config`` file, the command line. Typer only splits the
command line into words; what a word may be is the config model's business, so files and flags obey one set of rules.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup

from simclrseg.errors import UsageError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from simclrseg.knobs import Knob

Body = Callable[..., None]


class ConfigCommand(TyperCommand):
    """A command whose options come from the config model that its body takes.

    They are made when they are first needed, so that ``simclrseg --help`` does not read the models at all.
    """

    body: ClassVar[Body]
    examples: ClassVar[tuple[str, ...]]
    terms: ClassVar[str | None]
    _made = False

    @classmethod
    def model(cls) -> type[BaseModel]:
        """The annotation of the body's ``config``; one that is not imported yet is looked up by the command's name."""
        annotation = inspect.signature(cls.body).parameters["config"].annotation
        if isinstance(annotation, str):
            from simclrseg.config import CONFIGS

            annotation = CONFIGS[cls.body.__name__]
        model: type[BaseModel] = annotation
        return model

    def get_params(self, ctx: typer.Context) -> Any:  # type: ignore[override]  # Typer's Context is its vendored Click's
        if not self._made:
            self.params = make_options(self.model())
            self._made = True
        return super().get_params(ctx)

    def collect_usage_pieces(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        positionals = [param.metavar or "" for param in self.get_params(ctx) if param.param_type_name == "argument"]
        return ["[OPTIONS]", *positionals]

    def format_help(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]
        from simclrseg.cli.help import render_help

        usage = " ".join([ctx.command_path, *self.collect_usage_pieces(ctx)])
        terms: dict[str, str] = {}
        if self.terms:
            module, _, name = self.terms.partition(":")
            terms = getattr(import_module(module), name)
        formatter.write(
            render_help(usage, self.help or "", self.get_params(ctx), examples=self.examples, terms=terms.items())
        )

    def invoke(self, ctx: typer.Context) -> None:  # type: ignore[override]
        self.body(config=config_from(self.model(), dict(ctx.params)))


class CommandGroup(TyperGroup):
    """All commands; its help lists them without making their options."""

    def format_help(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]
        from simclrseg.cli.help import render_help

        commands = [(name, command.help or "") for name, command in self.commands.items()]
        usage = f"{ctx.command_path} [OPTIONS] COMMAND ..."
        formatter.write(render_help(usage, self.help or "", self.get_params(ctx), commands=commands))


def command(app: typer.Typer, *, examples: tuple[str, ...], terms: str | None = None) -> Callable[[Body], Body]:
    """Register a function ``f(config: SomeConfig)`` as a command with one option per field of its config.

    Args:
        examples: whole command lines, shown under the help; short enough for 80 columns.
        terms: ``module:name`` of words and what they mean, which the help explains.
    """

    def register(body: Body) -> Body:
        cls = type("Command", (ConfigCommand,), {"body": staticmethod(body), "examples": examples, "terms": terms})
        app.command(body.__name__, cls=cls, help=inspect.getdoc(body))(lambda: None)
        return body

    return register


def config_from(model: type[BaseModel], words: dict[str, Any]) -> BaseModel:
    """Build the config from the words of the command line and the file that they name.

    Args:
        words: what Typer read, by name of the knob; None or empty where an option was not given.
    """
    from simclrseg.knobs import command_of, config_of_run, knobs_of, parse_config
    from simclrseg.presets import find_preset, load_preset

    file: str | None = words.pop("config_file")
    knobs = {knob.name: knob for knob in knobs_of(model)}
    given = {knobs[name].path: _value(knobs[name], word) for name, word in words.items() if word not in (None, (), [])}
    if run := words.get("resume"):
        if file is not None:
            raise UsageError("--resume takes the run's own configuration: leave out --config")
        root = Path(words.get("runs") or knobs["runs"].info.default)
        return config_of_run(model, _run(root, command_of(model), run), given=given)
    if file is None:
        return parse_config(model, {}, given=given)
    return parse_config(model, load_preset(file, command_of(model)), source=str(find_preset(file)), given=given)


def _run(root: Path, command: str, name: str) -> Path:
    from simclrseg import runs

    return runs.find(root, command, name).folder  # type: ignore[arg-type]


def _value(knob: Knob, word: Any) -> Any:
    """The value that a word stands for; ``none`` undoes a value of the file where the knob may have none."""
    if word == "none" and knob.values.optional and "none" not in knob.values.choices:
        return None
    return list(word) if isinstance(word, tuple) else word


def make_options(model: type[BaseModel]) -> list[Any]:
    """Typer's parameters for a config model: ``--config`` and one for each knob.

    Raises:
        TypeError: if two knobs would share a name or a flag.
    """
    from simclrseg.knobs import knobs_of

    knobs = list(knobs_of(model))
    names = [name for knob in knobs for name in (knob.name, *knob.spellings, knob.negation) if name]
    if shared := {name for name in names if names.count(name) > 1}:
        raise TypeError(f"{model.__name__}: fields share the names {', '.join(sorted(shared))}")
    config = typer.Option(
        "--config", "-c", metavar="<preset or file>", help="Take values from this preset, YAML file or run folder."
    )

    def signature() -> None: ...

    parameters = [_keyword("config_file", str | None, config), *map(_parameter, knobs)]
    signature.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    app = typer.Typer(add_completion=False)
    app.command()(signature)
    return typer.main.get_command(app).params


def _parameter(knob: Knob) -> inspect.Parameter:
    """Describe a knob to Typer: type, choices, range, default and help."""
    values = knob.values
    kind: Any = str
    if values.many:
        kind = list[str]
    elif values.length:
        kind = tuple.__class_getitem__((str,) * values.length)  # tuple[str, str, str]
    if knob.is_argument:
        argument = typer.Argument(metavar=knob.metavar, help=_help(knob), show_default=False)
        return _keyword(knob.name, kind | None, argument)
    if knob.is_flag:
        kind = bool
    long, *other = knob.spellings
    option = typer.Option(
        f"{long}/{knob.negation}" if knob.negation else long,
        *other,
        metavar=None if knob.is_flag else knob.metavar,
        help=_help(knob),
        show_default=False,
        rich_help_panel=knob.panel,
    )
    return _keyword(knob.name, kind | None, option)


def _help(knob: Knob) -> str:
    """The field's docstring, and its default where there is one to speak of."""
    default = knob.info.get_default()
    if knob.info.is_required():
        return knob.help if knob.is_argument else f"{knob.help} [required]"
    if knob.is_flag:
        default = None if knob.transient else "on" if default else "off"
    if default in (None, [], ()):
        return knob.help
    words = " ".join(map(str, default)) if isinstance(default, list | tuple) else default
    return f"{knob.help} [default: {words}]"


def _keyword(name: str, kind: Any, parameter: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, parameter])
