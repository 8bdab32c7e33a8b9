"""A config model becomes options: precedence, kinds of values, what help shows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pytest
import typer

from simclrseg.cli.options import make_options
from simclrseg.errors import UsageError
from simclrseg.knobs.parsing import dump_config
from simclrseg.knobs.values import Flag
from tests.cli.small import LookConfig, Optim, Section, TrainConfig, run


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "train.yaml"
    path.write_text(
        "command: train\n"
        "data: {dataset: [a, b], ratio: 0.5}\n"
        "optim: {epochs: 9, amp: false, clip: 2.0, optimizer: sgd, micro: 4}\n"
    )
    return str(path)


def test_defaults_come_from_the_model():
    config = run("train", "--dataset", "a")
    assert config.optim == Optim()
    assert config.data.ratio == 1.0


def test_a_file_overrides_defaults(file):
    config = run("train", "--config", file)
    assert (config.data.dataset, config.data.ratio, config.optim.epochs) == (["a", "b"], 0.5, 9)


def test_the_command_line_overrides_a_file(file):
    assert run("train", "--config", file, "--epochs", "7").optim.epochs == 7


def test_the_command_line_may_restate_a_default_against_a_file(file):
    config = run("train", "--config", file, "--epochs", "5", "--optimizer", "adam", "--amp", "--ratio", "1")
    assert (config.optim.epochs, config.optim.optimizer, config.optim.amp, config.data.ratio) == (5, "adam", True, 1.0)


def test_order_does_not_matter(file):
    assert run("train", "--epochs", "7", "-c", file) == run("train", "-c", file, "--epochs", "7")


def test_lists_repeat():
    assert run("train", "-d", "a", "--dataset", "b").data.dataset == ["a", "b"]


def test_a_list_on_the_command_line_replaces_that_of_the_file(file):
    assert run("train", "-c", file, "-d", "c").data.dataset == ["c"]


def test_none_undoes_a_value_of_the_file(file):
    assert run("train", "-c", file, "--clip", "none").optim.clip is None


def test_none_of_a_file_is_kept(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("command: train\ndata: {dataset: [a]}\noptim: {clip: null}\n")
    assert run("train", "-c", str(path)).optim.clip is None
    assert run("train", "-c", str(path), "--clip", "3").optim.clip == 3.0


def test_flags_are_pairs(file):
    assert run("train", "-d", "a", "--no-amp").optim.amp is False
    assert run("train", "-c", file).optim.amp is False
    assert run("train", "-c", file, "--amp").optim.amp is True


def test_a_flag_of_one_call_has_no_opposite():
    assert run("train", "-d", "a", "--overwrite").output.overwrite
    with pytest.raises(typer.TyperException, match="--no-overwrite"):
        run("train", "-d", "a", "--no-overwrite")


def test_another_spelling_replaces_the_derived_one():
    assert run("train", "-d", "a", "--json").output.as_json
    with pytest.raises(typer.TyperException, match="--as-json"):
        run("train", "-d", "a", "--as-json")


def test_tuples_paths_and_unions_are_read():
    config = run("train", "-d", "a", "--mean", "0.1", "0.2", "0.3", "--folder", "x/y", "--micro", "4")
    assert config.data.mean == (0.1, 0.2, 0.3)
    assert config.data.folder == Path("x/y")
    assert config.optim.micro == 4
    assert run("train", "-d", "a", "--micro", "auto").optim.micro == "auto"


def test_arguments_take_many():
    assert run("look", "a.jpg", "b.jpg").input.inputs == ["a.jpg", "b.jpg"]


def test_a_dumped_config_repeats_the_run(tmp_path, file):
    config = run("train", "-c", file, "--clip", "none", "--epochs", "7", "--mean", "0.1", "0.2", "0.3")
    (tmp_path / "config.yaml").write_text(dump_config(config))
    assert run("train", "-c", str(tmp_path / "config.yaml")) == config
    assert run("train", "-c", str(tmp_path)) == config  # a run's folder stands for its config.yaml


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--ratio", "0"], "--ratio '0': must be a number with 0 < x <= 1"),
        (["--epochs", "1.5"], "--epochs '1.5': must be a whole number with x >= 1"),
        (["--epochs", "many"], "--epochs 'many': must be a whole number with x >= 1"),
        (["--clip", "10"], "--clip '10': must be a number with 0 < x < 10 or none"),
        (["--micro", "x"], "--micro 'x': must be a whole number with x >= 1 or auto"),
        (["--optimizer", "adamm"], "--optimizer 'adamm': must be one of adam, adamw, sgd; did you mean 'adam'?"),
        (["--model", "huge"], "--model 'huge': must be one of small, large"),
        (["--batch", "7"], "--batch: 7 is odd"),
        (["--mean", "1", "2", "x"], "--mean 'x': must be 3 values, each a number"),
        (["--epochs", "3", "--warmup", "4"], "warmup (4) must be below epochs (3)"),
        (["--epochs", "0", "--ratio", "2"], "--ratio '2': must be a number with 0 < x <= 1; --epochs '0': must be"),
    ],
)
def test_a_wrong_value_names_the_flag_and_what_is_allowed(args, message):
    with pytest.raises(UsageError) as error:
        run("train", "-d", "a", *args)
    assert str(error.value).startswith(message)
    assert error.value.exit_code == 2


def test_a_required_knob_is_asked_for():
    with pytest.raises(UsageError, match=r"^--dataset is needed \(or --config\): what to learn from$"):
        run("train")
    with pytest.raises(UsageError, match=r"^INPUT is needed: photos$"):
        run("look")


def test_a_misspelt_option_gets_a_suggestion():
    with pytest.raises(typer.TyperException) as error:
        run("train", "--epoch", "3")
    assert error.value.possibilities == ["--epochs"]


def test_options_carry_what_help_shows():
    options = {option.name: option for option in make_options(TrainConfig)}
    assert options["ratio"].metavar == "<float> 0<x<=1"
    assert options["clip"].metavar == "<float|none> 0<x<10"
    assert options["model"].metavar == "<small|large>"
    assert options["mean"].metavar == "<float> <float> <float>"
    assert options["micro"].metavar == "<int|auto> x>=1"
    assert options["epochs"].help == "Passes. [default: 5]"
    assert options["amp"].help == "Compute in bfloat16. [default: on]"
    assert options["dataset"].help == "What to learn from. [required]"
    assert options["epochs"].rich_help_panel == "Optimization"
    assert options["dataset"].opts == ["--dataset", "-d"]


def test_two_fields_cannot_share_a_flag():
    class Clash(Section):
        config_a: Annotated[int, Flag("-x")] = 1
        config_b: Annotated[int, Flag("-x")] = 1

    class ClashConfig(Section):
        clash: Clash = Clash()

    with pytest.raises(TypeError, match="share the names -x"):
        make_options(ClashConfig)


def test_an_argument_has_no_flag():
    assert [option.name for option in make_options(LookConfig) if option.param_type_name == "argument"] == ["inputs"]
    assert "--inputs" not in {name for option in make_options(LookConfig) for name in option.opts}


def test_a_key_is_set_as_its_flag_does(file):
    flags = run("train", "-c", file, "--epochs", "7", "--no-amp", "--clip", "none", "--mean", "0.1", "0.2", "0.3")
    keys = ("optim.epochs=7", "amp=false", "optim.clip=none", "mean=0.1 0.2 0.3")
    assert run("train", "-c", file, *(word for key in keys for word in ("--set", key))) == flags


def test_a_list_is_set_by_repeating_its_key(file):
    assert run("train", "-c", file, "--set", "data.dataset=c", "--set", "dataset=d").data.dataset == ["c", "d"]
    assert run("train", "-d", "a", "--set", "epochs=3", "--set", "epochs=4").optim.epochs == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["epochs"], "--set epochs is not a key and its value, such as training.epochs=5"),
        (["epoch=3"], "--set epoch: no such key; did you mean 'optim.epochs'?"),
        (["optim.epoch=3"], "--set optim.epoch: no such key; did you mean 'optim.epochs'?"),
        (["optim=3"], "--set optim: is a section; name one of its keys, as optim.model"),
        (["epochs=0"], "--set epochs '0': must be a whole number with x >= 1"),
        (["optim.optimizer=adamm"], "--set optim.optimizer 'adamm': must be one of adam, adamw, sgd; did you mean"),
        (["overwrite=true"], "--set overwrite: is no key of a file but belongs to one call; type --overwrite"),
    ],
)
def test_what_cannot_be_set_is_named_as_it_was_typed(words, message):
    with pytest.raises(UsageError) as error:
        run("train", "-d", "a", "--set", *words)
    assert str(error.value).startswith(message)


def test_a_flag_and_a_key_that_contradict_each_other_are_refused():
    with pytest.raises(UsageError, match=r"^--epochs 3 and --set optim\.epochs 4 are not the same: leave one out$"):
        run("train", "-d", "a", "--epochs", "3", "--set", "optim.epochs=4")
    assert run("train", "-d", "a", "--epochs", "3", "--set", "optim.epochs=3").optim.epochs == 3
