"""Options made from a config model, so that config/ is the only place where a knob is written.

Precedence, weakest first: the model's defaults, the ``--config`` file, the command line. Typer only splits the
command line into words (cli/words.py reads them); what a word may be is the config model's business, so files and flags
obey one set of rules.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from copy import copy
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup

from simclrseg.cli import console
from simclrseg.cli.help import SHARED, render_help

if TYPE_CHECKING:
    from simclrseg.knobs.knob import Knob
    from simclrseg.knobs.sections import Section

Body = Callable[..., None]

ALL = "simclrseg.all"
"""Key of a context: whether its help shows all options."""


class ConfigCommand(TyperCommand):
    """A command whose options come from the config model that its body takes.

    They are made when they are first needed, so that ``simclrseg --help`` does not read the models at all.
    """

    body: ClassVar[Body]
    examples: ClassVar[list[str]]
    terms: ClassVar[str | None]
    _made = False

    @classmethod
    def model(cls) -> type[Section]:
        """The annotation of the body's ``config``; one that is not imported yet is looked up by the command's name."""
        annotation = inspect.signature(cls.body).parameters["config"].annotation
        if isinstance(annotation, str):
            from simclrseg.config import CONFIGS

            annotation = CONFIGS[cls.body.__name__]
        model: type[Section] = annotation
        return model

    def get_params(self, ctx: typer.Context) -> Any:  # type: ignore[override]  # Typer's Context is its vendored Click's
        if not self._made:
            self.params = make_options(self.model())
            self._made = True
        return _kept_as_typed(super().get_params(ctx))

    def format_help(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]
        from simclrseg.knobs.knob import knobs_of

        params = self.get_params(ctx)
        arguments = [param for param in params if param.param_type_name == "argument"]
        usage = " ".join([ctx.command_path, "[OPTIONS]", *(param.metavar for param in arguments)])
        if ctx.meta.get(ALL):
            module, _, name = (self.terms or "").partition(":")
            terms = getattr(import_module(module), name) if module else {}
            page = render_help(usage, self.help or "", params, examples=self.examples, terms=terms.items())
        else:
            common = {knob.name: knob for knob in knobs_of(self.model()) if knob.is_common}
            names = {*common, "config_file", "help"}
            few = [copy(param) for param in params if param in arguments or param.name in names]
            for param in few:
                if knob := common.get(param.name):
                    param.help = param.help.replace(knob.help, knob.brief)
            more = f"All {len(params)} options: {ctx.command_path} --help-all"
            page = render_help(usage, self.help or "", few, more=more, examples=self.examples)
        formatter.write(page)

    def invoke(self, ctx: typer.Context) -> None:  # type: ignore[override]
        from simclrseg.cli.words import config_from, print_config

        words = dict(ctx.params)
        varied = words.pop("varied", None)
        if varied:
            from simclrseg.cli.vary import vary

            vary(self.model(), words, varied)
        elif words["print_config"]:
            text = print_config(self.model(), words)
            with console.session(quiet=bool(words.get("quiet"))):
                console.print_result(text)
        else:
            self.body(config=config_from(self.model(), words))


class CommandGroup(TyperGroup):
    """All commands; its help lists them without making their options."""

    def get_params(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        return _kept_as_typed(super().get_params(ctx))

    def format_help(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]
        commands = [(name, command.help or "") for name, command in self.commands.items()]
        usage = f"{ctx.command_path} [OPTIONS] COMMAND ..."
        formatter.write(render_help(usage, self.help or "", self.get_params(ctx), commands=commands))


def _kept_as_typed(params: list[Any]) -> list[Any]:
    """Let parameters take their words as they are: Typer builds a validator of pydantic for each, typed or not."""

    def process(param: Any, ctx: typer.Context, value: Any) -> Any:
        return param.callback(ctx, param, value) if param.callback else value

    for param in params:
        param.process_value = partial(process, param)
    return params


def command(app: typer.Typer, *, terms: str | None = None) -> Callable[[Body], Body]:
    """Register a function ``f(config: SomeConfig)`` as a command with one option per field of its config.

    Its docstring is a sentence, and below it whole command lines as examples, short enough for 80 columns.

    Args:
        terms: ``module:name`` of words and what they mean, which the help explains.
    """

    def register(body: Body) -> Body:
        sentence, _, examples = (inspect.getdoc(body) or "").partition("\n\n")
        members = {"body": staticmethod(body), "examples": examples.splitlines(), "terms": terms}
        cls = type("Command", (ConfigCommand,), members)
        app.command(body.__name__, cls=cls, help=sentence)(lambda: None)
        return body

    return register


def make_options(model: type[Section]) -> list[Any]:
    """Typer's parameters for a config: those of every command, and one a knob; TypeError where two share a name."""
    from simclrseg.knobs.knob import knobs_of
    from simclrseg.knobs.sections import alternatives

    several = alternatives(model)  # which may have a knob of the same name
    knobs: dict[str, list[Knob]] = {}
    for knob in (knob for knob in knobs_of(model) if not knob.is_key_only):
        knobs.setdefault(knob.name if knob.path[0] in several else knob.key, []).append(knob)
    names = [name for knob, *_ in knobs.values() for name in (knob.name, *knob.spellings, knob.negation) if name]
    if shared := {name for name in names if names.count(name) > 1}:
        raise TypeError(f"{model.__name__}: fields share the names {', '.join(sorted(shared))}")

    def signature() -> None: ...

    parameters = [
        *_of_every_command(trains="training" in model.model_fields),
        *(param for same in knobs.values() for param in _parameters(*same)),
    ]
    signature.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    app = typer.Typer(add_completion=False)
    app.command()(signature)
    return typer.main.get_command(app).params


def _of_every_command(*, trains: bool) -> Iterator[inspect.Parameter]:
    def show_all(ctx: typer.Context, asked: bool) -> None:
        if asked and not ctx.resilient_parsing:
            ctx.meta[ALL] = True
            console.print_result(ctx.get_help())
            raise typer.Exit

    file = typer.Option("--config", "-c", metavar="<preset|file|run>", help=SHARED["--config"])
    yield _keyword("config_file", str | None, file)
    yield _keyword("assignments", list[str] | None, typer.Option("--set", metavar="<key=value>", help=SHARED["--set"]))
    if trains:
        vary = typer.Option("--vary", metavar="<key=value,value>", help=SHARED["--vary"])
        yield _keyword("varied", list[str] | None, vary)
    yield _keyword("print_config", bool, typer.Option("--print-config", help=SHARED["--print-config"]), default=False)
    every = typer.Option("--help-all", is_eager=True, expose_value=False, callback=show_all, help=SHARED["--help-all"])
    yield _keyword("help_all", bool, every, default=False)


def _parameters(knob: Knob, *others: Knob) -> Iterator[inspect.Parameter]:
    """Describe a knob to Typer: type, choices, range, default and help; the others share its name."""
    values = knob.values
    kind: Any = str
    if values.many:
        kind = list[str]
    elif values.length:
        kind = tuple.__class_getitem__((str,) * values.length)  # tuple[str, str, str]
    help_text = _help(knob, *others)
    if knob.argument is not None:
        argument = typer.Argument(metavar=knob.argument, help=help_text, show_default=False)
        yield _keyword(argument_name(knob), kind | None, argument)
        help_text = f"The same as {knob.argument.strip('[].')}."
    if knob.is_argument:
        return
    if knob.is_flag:
        kind = bool
    long, *other = knob.spellings
    option = typer.Option(
        f"{long}/{knob.negation}" if knob.negation else long,
        *other,
        metavar=None if knob.is_flag else knob.metavar,
        help=help_text,
        show_default=False,
        rich_help_panel=", ".join(dict.fromkeys(each.panel for each in (knob, *others))),
    )
    yield _keyword(knob.name, kind | None, option)


def argument_name(knob: Knob) -> str:
    """Name of a knob's argument in Typer's words, beside which there may be an option."""
    return knob.name if knob.is_argument else f"{knob.name}_argument"


def _help(knob: Knob, *others: Knob) -> str:
    """The field's docstring, and its default where there is one to speak of; of several, each that differs."""
    from simclrseg.knobs.knob import shown

    default = knob.info.get_default()
    if knob.info.is_required():
        return knob.help if knob.argument else f"{knob.help} [required]"
    if knob.is_flag:
        default = None if knob.transient else "on" if default else "off"
    if default in (None, [], ()):
        return knob.help
    differing = [other for other in others if other.info.get_default() != default]
    words = [shown(default), *(f"{other.path[0]} {shown(other.info.get_default())}" for other in differing)]
    return f"{knob.help} [default: {', '.join(words)}]"


def _keyword(name: str, kind: Any, parameter: Any, *, default: Any = None) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, parameter]
    )
