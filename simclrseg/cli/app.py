"""The six commands: a signature, a sentence, one call each. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simclrseg import __version__
from simclrseg.cli import console
from simclrseg.cli.launch import first_failure, go_on_alone, launch
from simclrseg.cli.options import CommandGroup, command
from simclrseg.cli.progress import DownloadProgress, FileProgress, TrainingProgress
from simclrseg.errors import GateError, Interrupted, SimclrsegError, Terminated, UsageError
from simclrseg.hub.table import check_endpoint
from simclrseg.inference import OUTPUTS
from simclrseg.system.files import UNWRITABLE, output_error
from simclrseg.system.limits import used_up
from simclrseg.system.signals import INTERRUPTED, terminable
from simclrseg.text import printable

if TYPE_CHECKING:
    from simclrseg.config.evaluate import EvaluateConfig
    from simclrseg.config.export import ExportConfig
    from simclrseg.config.finetune import FinetuneConfig
    from simclrseg.config.predict import PredictConfig
    from simclrseg.config.pretrain import PretrainConfig
    from simclrseg.config.pull import PullConfig

_REACH = "ask its owner for access, or name another"
_OUT_OF_REACH = {errno.EACCES: _REACH, errno.EPERM: _REACH, errno.ENAMETOOLONG: "name a shorter one"}

app = typer.Typer(
    name="simclrseg",
    cls=CommandGroup,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def simclrseg(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
    show_completion: Annotated[
        str | None,
        typer.Option(metavar="<bash|zsh|fish|powershell>", help="Print the completion script of a shell."),
    ] = None,
) -> None:
    """From unlabelled photos to a segmentation model: pretrain, fine-tune, predict."""
    if version:
        console.print_result(f"simclrseg {__version__}")
    elif show_completion:
        from simclrseg.cli.shells import script

        console.print_result(script(show_completion))
    elif ctx.invoked_subcommand is None:
        console.print_result(ctx.get_help())
    else:
        return
    raise typer.Exit


@command(app)
def pretrain(config: PretrainConfig) -> None:
    """Pretrain a backbone on photos without labels.

    simclrseg pretrain my_photos/ --backbone resnet18 --epochs 50
    simclrseg pretrain --config simclr_pets --set training.epochs=5
    """
    launch(config.hardware.devices)
    from simclrseg.commands.pretrain import pretrain as run

    _train(run, config)


@command(app)
def finetune(config: FinetuneConfig) -> None:
    """Train a segmentation or classification model on labelled photos, from a pretrained backbone.

    simclrseg finetune --pretrained pets --data-ratio 0.5
    simclrseg finetune my_set/ --pretrained pets --classes-file classes.yaml
    simclrseg finetune cifar10 --task classify --pretrained cifar --unfreeze head
    """
    launch(config.hardware.devices)
    from simclrseg.commands.finetune import finetune as run

    _train(run, config)


@command(app, terms="simclrseg.scores:TERMS")
def evaluate(config: EvaluateConfig) -> None:
    """Score fine-tuned models on labelled photos, with intervals, and compare them.

    simclrseg evaluate oxford_pets-pets --min iou=0.85 --json
    simclrseg evaluate runs/finetune/* --baseline oxford_pets-none
    """
    go_on_alone()
    from simclrseg.cli.summary import summary
    from simclrseg.commands.evaluate import evaluate as run

    with console.session(quiet=config.console.quiet):
        result = run(config)
    as_json = config.console.as_json
    console.print_result(result if as_json else summary(result), as_json=as_json)
    if result.missed:
        raise GateError(f"--min is not met: {'; '.join(result.missed)}", option="min")


@command(app)
def predict(config: PredictConfig) -> None:
    """Segment or classify photos.

    simclrseg predict image.jpg -o mask.png
    simclrseg predict photos/ -o masks/ --model oxford_pets-pets
    """
    go_on_alone()
    if config.page.serve:
        from simclrseg.commands.serve import serve

        with console.session(quiet=config.console.quiet):
            serve(config, on_ready=console.print_result)
        return
    from simclrseg.commands.predict import predict as run

    with console.session(quiet=config.console.quiet), FileProgress() as progress:
        result = run(config, on_file=progress)
    console.print_result(result if config.console.as_json else _lines(result.done), as_json=config.console.as_json)
    if failed := len(result.failed):
        raise GateError(f"{failed} of {result.photos} photos failed; the warnings say why")


@command(app)
def export(config: ExportConfig) -> None:
    """Write a fine-tuned model for other runtimes, with its preprocessing inside.

    simclrseg export --format torch
    simclrseg export oxford_pets-pets --precision int8 -o pets.onnx
    """
    go_on_alone()
    run: Callable[[ExportConfig], Any]
    if config.console.inspect:  # without PyTorch
        from simclrseg.commands.inspect import inspect as run
    else:
        from simclrseg.commands.export import export as run
    with console.session(quiet=config.console.quiet):
        console.print_result(run(config), as_json=config.console.as_json, quiet=config.console.quiet)


@command(app)
def pull(config: PullConfig) -> None:
    """List published backbones, or fetch one.

    simclrseg pull imagenet --backbone resnet18
    simclrseg pull hf:owner/repo/model.safetensors@main -o weights/
    """
    go_on_alone()
    from simclrseg.commands.pull import pull as run

    with console.session(quiet=config.console.quiet), DownloadProgress() as progress:
        result = run(config, progress=progress)
    if not config.console.as_json:  # a terminal has no room for where each lies and how it was made
        for row in getattr(result, "published", ()):
            del row["repository"], row["made with"]
    console.print_result(result, as_json=config.console.as_json, quiet=config.console.quiet)


def _train(run: Callable[..., Any], config: PretrainConfig | FinetuneConfig) -> None:
    with console.session(quiet=config.console.quiet), TrainingProgress() as progress:
        result = run(config, observers=[progress])
    console.print_result(result, as_json=config.console.as_json, quiet=config.console.quiet, kept=True)


def _lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Print what predict did, for other programs: each file's path, or photo, label and score with tabs between."""
    files: dict[str, None] = {}  # one of COCO is that of many photos
    for row in rows:
        if "label" in row:
            yield f"{printable(row['image'])}\t{printable(row['label'])}\t{row['score']:.4f}"
        else:
            files |= {path: None for kind, path in row.items() if kind in OUTPUTS and path != "-"}
    yield from map(printable, files)


def main(args: list[str] | None = None) -> None:
    """Run the command line; a user's mistake ends in one line, a bug in a traceback."""
    console.prepare_streams()
    try:
        check_endpoint()
        with terminable(), _systems_refusals_in_one_line():
            code = app(args, prog_name="simclrseg", standalone_mode=False)
            sys.stdout.flush()
        if code == INTERRUPTED:  # Typer's word for Ctrl-C
            raise KeyboardInterrupt
    except (KeyboardInterrupt, Terminated) as stop:  # outside training, which saves and raises Interrupted
        first, code = first_failure(128 + stop.signum if isinstance(stop, Terminated) else INTERRUPTED)
        if first:
            console.print_error("interrupted")
    except BrokenPipeError:  # whoever read our output has gone
        console.drop_unwritable()
        code = 1
    except (SimclrsegError, typer.TyperException) as error:
        first, code = first_failure(error.exit_code)
        if os.environ.get("SIMCLRSEG_DEBUG"):
            console.print_traceback(error)
        if first:
            console.print_error(("" if isinstance(error, Interrupted) else "error: ") + _one_line(error))
    except Exception:  # a bug, or another process has failed
        first, code = first_failure(1)
        if first:
            raise
    sys.exit(code or 0)


@contextmanager
def _systems_refusals_in_one_line() -> Iterator[None]:
    """The last net: what libraries write and stdout, paths out of reach, where threads end, what is not installed."""
    try:
        yield
    except Exception as error:
        if line := used_up(error):
            raise line from error
        if isinstance(error, ModuleNotFoundError) and (name := (error.name or "").partition(".")[0]) != "simclrseg":
            raise UsageError(
                f"{name} is not installed, and this command needs it",
                "`pip install simclrseg` in a fresh environment brings all",
                option=None,
            ) from error
        if not isinstance(error, OSError):
            raise
        if error.filename and (remedy := _OUT_OF_REACH.get(error.errno or 0)):
            raise UsageError(
                f"{error.filename}: {error.strerror}", remedy, path=error.filename, option="output"
            ) from error
        if error.errno == errno.EINVAL and not error.filename and sys.platform == "win32":
            raise BrokenPipeError(errno.EPIPE, error.strerror) from error  # Windows' word for a reader that has gone
        if error.errno == errno.ENOENT and not error.filename and "temporary directory" in str(error):
            raise UsageError(
                "no folder for temporary files can be written", "set TMPDIR to one that can", option=None
            ) from error
        if error.errno not in UNWRITABLE:
            raise
        console.drop_unwritable()
        raise output_error(error.filename or "the output", error) from error


def _one_line(error: SimclrsegError | typer.TyperException) -> str:
    if isinstance(error, SimclrsegError):
        return str(error)
    text = " ".join(error.format_message().split()).rstrip(".")
    if near := getattr(error, "possibilities", None):  # of an unknown option
        text = f"{error.message}: did you mean {near[0]}?"
    elif not text.endswith("?"):
        context = getattr(error, "ctx", None)
        text += f": see {context.command_path if context else 'simclrseg'} --help"
    return text[:1].lower() + text[1:]
