"""Tab: what is offered, in the protocol of each shell, and the scripts that ask."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from simclrseg.cli.app import app
from simclrseg.cli.completion import COMPLETERS, TABLE, complete, main, respond, table
from simclrseg.cli.options import make_options
from simclrseg.cli.shells import FILES, SCRIPTS, script
from simclrseg.config import CONFIGS
from simclrseg.config.files import PRESETS, presets_of
from simclrseg.data.datasets import DATASETS
from simclrseg.errors import UnknownName
from simclrseg.hub.table import PUBLISHED
from simclrseg.knobs.knob import knobs_of
from simclrseg.knobs.values import Completes

ROOT = Path(__file__).parents[2]
COMMANDS = [command.name for command in app.registered_commands]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A working folder with two runs."""
    monkeypatch.chdir(tmp_path)
    for path, facts in (("runs/pretrain/cats", {"finished": "2026-01-02T03:04:05"}), ("runs/finetune/cats-r0.5", {})):
        (tmp_path / path).mkdir(parents=True)
        (tmp_path / path / "environment.json").write_text(json.dumps(facts))
    return tmp_path


def values(line: str) -> list[str]:
    *words, incomplete = line.split(" ")
    return [item.value for item in complete(words, incomplete)]


def test_one_loss_is_offered_after_another():
    assert values("finetune --loss d") == ["dice"]
    assert values("finetune --loss bce+d") == ["bce+dice"]
    assert "dice+dice" not in values("finetune --loss dice+")


def test_commands_are_offered():
    assert values("")[:6] == COMMANDS
    assert values("pre") == ["pretrain", "predict"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_a_command_is_offered(command):
    model = CONFIGS[command]
    options = [option for option in make_options(model) if option.param_type_name == "option"]
    long = {name for option in options for name in (*option.opts, *option.secondary_opts) if name.startswith("--")}
    assert set(values(f"{command} --")) == long | {"--help"}


def test_an_option_is_offered_once_unless_it_repeats():
    assert "--epochs" not in values("pretrain --epochs 3 --")
    assert "--dataset" in values("pretrain --dataset shapes --")


def test_choices_are_offered():
    assert values("pretrain --optimizer ") == ["lars", "adam", "adamw", "sgd"]
    assert values("finetune --border=p") == ["--border=pet"]


def test_names_are_offered():
    assert values("pretrain -d ") == [*DATASETS, "runs/"]
    assert values("pretrain ") == values("finetune ") == [*DATASETS, "runs/"]
    assert values("finetune ru") == ["runs/"]
    assert values("evaluate --dataset runs/") == ["runs/finetune/", "runs/pretrain/"]
    assert values("finetune --dataset sh") == ["shapes"]
    assert "resnet18" in values("finetune --backbone ")
    assert values("pull ") == list(PUBLISHED)


def test_runs_are_offered(folder):
    assert values("finetune --pretrained ")[:2] == ["none", "cats"]
    assert values("evaluate ") == ["cats-r0.5"]
    assert values("export c") == ["cats-r0.5"]
    assert values("pretrain --resume ") == ["cats"]
    assert values("finetune --resume ") == ["cats-r0.5"]
    assert complete(["finetune", "--pretrained"], "ca")[0].help == "finished 2026-01-02"
    (folder / "runs").rename(folder / "mine")
    assert values("evaluate ") == []
    assert values("evaluate --runs mine ") == ["cats-r0.5"]


def test_weights_are_names_runs_and_files(folder):
    (folder / "moco.pth").touch()
    (folder / "notes.txt").touch()
    assert values("finetune --pretrained ") == ["none", "cats", *PUBLISHED, "moco.pth"]
    assert "imagenet" in PUBLISHED
    (folder / "weights").mkdir()
    (folder / "weights" / "a.safetensors").touch()
    assert values("pretrain --init weights/") == ["weights/a.safetensors"]


def test_presets_and_yaml_files_are_offered(folder):
    (folder / "mine.yaml").touch()
    (folder / "sub").mkdir()
    (folder / "sub" / "other.yaml").touch()
    assert set(values("pretrain --config ")) == {*presets_of("pretrain"), "mine.yaml"}
    assert set(values("finetune --config ")) == {*presets_of("finetune"), "mine.yaml"}
    assert set(values("predict --config ")) == {"mine.yaml"}
    assert {*presets_of("pretrain"), *presets_of("finetune")} == set(PRESETS)
    assert values("pretrain -c sub/") == ["sub/other.yaml"]


def test_models_are_runs_and_onnx_files(folder):
    (folder / "pets.onnx").touch()
    assert values("predict --model ") == ["cats-r0.5", "pets-small", "pets.onnx"]


def test_files_of_labels_are_offered_as_datasets(folder):
    (folder / "labels.json").touch()
    assert values("finetune --dataset l") == ["labels.json"]


def test_files_are_left_to_the_shell():
    assert values("predict ") == []
    assert values("predict -o ") == []
    assert values("pretrain --dataset ./") == ["./runs/"]


def test_keys_are_offered_to_set_and_behind_them_their_values():
    assert values("pretrain --set training.ep") == ["training.epochs="]
    keys = [knob for knob in knobs_of(CONFIGS["pretrain"]) if not knob.transient]
    assert values("pretrain --set ") == [f"{knob.key}=" for knob in keys]
    assert values("pretrain --set model.method=s") == ["model.method=simclr"]
    assert values("pretrain --set data.strict=") == ["data.strict=true", "data.strict=false"]
    assert values("pretrain --set=model.method=s") == ["--set=model.method=simclr"]
    cut = {"_SIMCLRSEG_COMPLETE": "complete_bash", "COMP_WORDS": "simclrseg pretrain --set model.method = s"}
    assert respond({**cut, "COMP_CWORD": "5"}) == "simclr"


def test_an_option_without_names_offers_nothing():
    assert values("pretrain --epochs ") == []
    assert values("nothing --ep") == []


def test_every_completer_that_a_knob_names_exists():
    for command in COMMANDS:
        for knob in knobs_of(CONFIGS[command]):
            if completes := knob.marker(Completes):
                assert completes.what in COMPLETERS, knob.key


def test_bash():
    words = {"_SIMCLRSEG_COMPLETE": "complete_bash", "COMP_WORDS": "simclrseg\npre", "COMP_CWORD": "1"}
    assert respond(words) == "pretrain\npredict"


def test_bash_cuts_an_option_at_its_equals_sign():
    words = {"_SIMCLRSEG_COMPLETE": "complete_bash", "COMP_WORDS": "simclrseg finetune --border = p", "COMP_CWORD": "4"}
    assert respond(words) == "pet"
    assert respond(words | {"COMP_WORDS": "simclrseg finetune --border =", "COMP_CWORD": "3"}).split()[0] == "pet"


def test_zsh():
    answer = respond({"_SIMCLRSEG_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "simclrseg pre"})
    assert answer.splitlines()[0] == "pretrain:Pretrain a backbone on photos without labels."
    answer = respond({"_SIMCLRSEG_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "simclrseg pretrain -d "})
    assert answer.splitlines()[0] == "shapes:"


def test_fish():
    answer = respond({"_SIMCLRSEG_COMPLETE": "complete_fish", "_TYPER_COMPLETE_ARGS": "simclrseg pretrain --see"})
    assert answer.startswith("--seed\tSeed of ")


@pytest.mark.parametrize("shell", ["powershell", "pwsh"])
def test_powershell(shell):
    words = {
        "_SIMCLRSEG_COMPLETE": f"complete_{shell}",
        "_TYPER_COMPLETE_ARGS": "simclrseg pretrain --see",
        "_TYPER_COMPLETE_WORD_TO_COMPLETE": "--see",
    }
    assert respond(words).startswith("--seed:::Seed of ")
    words |= {"_TYPER_COMPLETE_ARGS": "simclrseg pretrain -d", "_TYPER_COMPLETE_WORD_TO_COMPLETE": ""}
    assert respond(words).splitlines()[0] == "shapes::: "


def test_an_open_quote_does_no_harm():
    words = {"_SIMCLRSEG_COMPLETE": "complete_fish", "_TYPER_COMPLETE_ARGS": "simclrseg predict 'my ph"}
    assert respond(words) == ""


@pytest.mark.parametrize("shell", SCRIPTS)
def test_the_scripts_in_the_tree_are_fresh(shell):
    file = ROOT / "completions" / FILES[shell]
    assert file.read_text() == SCRIPTS[shell], "run python -m simclrseg.cli.completion"


def test_the_knobs_that_are_written_down_are_those_of_the_models():
    assert TABLE.read_text(encoding="utf-8") == table(), "run python -m simclrseg.cli.completion"


def test_scripts_and_knobs_can_be_written(folder):
    main(str(folder), folder / "knobs.json")
    assert {path.name for path in folder.iterdir() if path.is_file()} == {*FILES.values(), "knobs.json"}
    assert (folder / "knobs.json").read_bytes() == TABLE.read_bytes()


def test_a_script_can_be_printed():
    assert script("zsh").startswith("#compdef simclrseg\n")
    with pytest.raises(UnknownName, match="'csh': did you mean 'zsh'"):
        script("csh")


@pytest.fixture
def program(folder, monkeypatch):
    """A `simclrseg` on the PATH."""
    program = folder / "bin" / "simclrseg"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m simclrseg "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")


def ask(shell: str, *args: str) -> str:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    return subprocess.run([shell, *args], capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.mark.usefixtures("program")
def test_bash_completes_with_the_script():
    code = (
        f"source {ROOT}/completions/simclrseg.bash; COMP_WORDS=(simclrseg finetune --pretrained ''); COMP_CWORD=3; "
        '_simclrseg_completion simclrseg; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    assert ask("bash", "--norc", "-c", code).split()[:2] == ["none", "cats"]


@pytest.mark.usefixtures("program")
def test_fish_completes_with_the_script():
    code = f"source {ROOT}/completions/simclrseg.fish; complete -C 'simclrseg pretrain --see'"
    assert ask("fish", "--no-config", "-c", code).startswith("--seed\tSeed of ")


@pytest.mark.usefixtures("program")
def test_fish_offers_files_where_there_are_no_names():
    code = f"source {ROOT}/completions/simclrseg.fish; complete -C 'simclrseg predict ru'"
    assert ask("fish", "--no-config", "-c", code) == "runs/\n"


@pytest.mark.usefixtures("program")
def test_zsh_completes_at_the_first_tab_from_fpath(folder):
    terminal = f"""
        zmodload zsh/zpty
        zpty z 'zsh -f'
        zpty -w z "fpath=({ROOT}/completions \\$fpath); autoload -Uz compinit; compinit -u -D; echo rea''dy"
        zpty -r -m z out '*ready*'
        zpty -w -n z $'simclrseg pretra\\t--dat\\tshap\\t'
        zpty -r -m z out '*shapes*'
        print -r -- "$out"
    """
    assert "shapes" in ask("zsh", "-f", "-c", terminal)


@pytest.mark.parametrize("place", ["", "x", "-1", "1.5", "٣", "9" * 5000])
def test_a_place_that_is_no_number_is_that_of_the_last_word(place: str) -> None:
    words = {"_SIMCLRSEG_COMPLETE": "complete_bash", "COMP_WORDS": "simclrseg", "COMP_CWORD": place}
    assert "finetune" in respond(words).split()
