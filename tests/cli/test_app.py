"""The command line as a whole: what it prints, where, and how it ends."""

from __future__ import annotations

import errno
import importlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from simclrseg import __version__
from simclrseg.cli.app import app, main
from simclrseg.commands.predict import PredictResult
from simclrseg.config import CONFIGS
from simclrseg.data.datasets import ENTRIES
from simclrseg.errors import DataError, DeviceError, Interrupted, TrainingError
from simclrseg.knobs.knob import knobs_of
from simclrseg.methods import METHODS
from simclrseg.metrics.table import METRICS
from simclrseg.system.signals import terminable
from simclrseg.weights.companion import following

COMMANDS = ["pretrain", "finetune", "evaluate", "predict", "export", "pull"]


@pytest.fixture
def recipe(monkeypatch):
    """Put a function in the place of a command's recipe."""

    def replace(command, function):
        module = ModuleType(f"simclrseg.commands.{command}")
        setattr(module, command, function)
        monkeypatch.setitem(sys.modules, module.__name__, module)

    return replace


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Run a command line; gives exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SIMCLRSEG_DEBUG", raising=False)

    def run(*args):
        with pytest.raises(SystemExit) as end:
            main(list(args))
        out, err = capsys.readouterr()
        return end.value.code, out, err

    return run


@dataclass
class Found:
    """What `evaluate` returns."""

    missed = ()

    def facts(self):
        return {"run": "x", "metrics": {"auroc": float("nan")}, "intervals": {"auroc": None}}


def predicted(**outcomes):
    rows = {"done": [], "failed": [], "skipped": []} | outcomes
    photos = sum(map(len, rows.values()))
    return PredictResult(model=Path("m.onnx"), device="CPU", fallback=None, photos=photos, **rows)


def fail_with(error):
    def recipe(config, **_):
        raise error

    return recipe


def test_there_are_six_commands(run):
    assert [command.name for command in app.registered_commands] == COMMANDS
    code, out, _ = run("--help")
    assert code == 0
    assert all(command in out for command in COMMANDS)


def test_help_comes_without_arguments_and_with_h(run):
    assert run() == run("-h") == run("--help")


def test_version(run):
    assert run("--version") == (0, f"simclrseg {__version__}\n", "")


@pytest.mark.parametrize("option", ["--help", "--help-all"])
@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_fits_on_80_columns_and_ends_with_whole_examples(run, monkeypatch, command, option):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, err = run(command, option)
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    examples = out.partition("Examples:\n")[2].replace(" \\\n     ", "").splitlines()
    cls = next(registered.cls for registered in app.registered_commands if registered.name == command)
    assert [line.strip() for line in examples] == list(cls.examples)
    assert all(line.startswith(f"  simclrseg {command}") for line in examples)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_what_matters_first_and_says_how_to_see_the_rest(run, command):
    few, every = (run(command, option)[1].replace("[no-]", "") for option in ("--help", "--help-all"))
    options = [knob.spellings[0] for knob in knobs_of(CONFIGS[command]) if knob.spellings]
    shown = [name for name in options if re.search(rf"{name} ", few.partition("Examples")[0])]
    assert 5 <= len(shown) <= 12
    assert f"simclrseg {command} --help-all" in few
    assert "─ Output ─" in every and "─ Output ─" not in few
    assert all(name in every for name in (*options, "--set", "--print-config", "--config"))


def test_what_each_method_has_of_its_own_stands_where_all_options_do(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    few, every = (run("pretrain", option)[1] for option in ("--help", "--help-all"))
    assert "defaults of their own, see --help-all." in few and "reconstruction has" not in few
    whole = re.sub(r"[\s│]+", " ", every)  # as it stands before it is folded into lines
    assert "see --help-all" not in whole and "reconstruction has" in whole


def test_help_of_evaluate_explains_the_words_of_its_tables(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    out = run("evaluate", "--help-all")[1]
    assert "over the split" not in run("evaluate", "--help")[1]
    for term in ("over the split", "mean over images", "95 % interval", *METRICS, "ece", "knn_accuracy"):
        assert f"│ {term} " in out


def test_help_says_why_there_is_no_plain_accumulation_of_contrasts(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = " ".join(run("pretrain", "--help-all")[1].replace("│", " ").split())
    reason = "The gradient is that of the whole batch (gradient caching); plain accumulation would contrast fewer"
    assert reason in text.partition("--micro-batch")[2]


def test_help_shows_panels_choices_ranges_and_defaults(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    out = run("finetune", "--help-all")[1]
    for title in ("Data", "Model", "Optimization", "Hardware", "Run", "Output"):
        assert f"─ {title} ─" in out
    assert "--data-ratio <float> 0<x<=1" in out
    assert "<auto|cpu|cuda|mps>" in out
    assert "[default: 1.0]" in out


def test_a_knob_of_several_methods_stands_under_the_names_of_all_of_them(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    out = run("pretrain", "--help-all")[1]
    title = re.findall(r"─ (.*?) ─", out.partition("--temperature ")[0])[-1]
    assert title.split(", ") == [knobs.title() for knobs in METHODS.values() if "temperature" in knobs.model_fields]
    assert {"SimCLR", "Dense contrast"} <= set(title.split(", "))


@pytest.mark.parametrize("command", COMMANDS)
def test_the_examples_of_a_command_are_accepted(run, recipe, monkeypatch, command, tmp_path):
    for folder in ("my_photos", "my_set"):
        (tmp_path / folder).mkdir()
    (tmp_path / "classes.yaml").write_text("ground: [0, 0, 0]\nleaf: [0, 255, 0]\n")
    seen = []

    def remember(config, **_):
        seen.append(config)
        return {"predict": predicted(), "evaluate": Found()}.get(command, {})

    recipe(command, remember)
    cls = next(registered.cls for registered in app.registered_commands if registered.name == command)
    for example in cls.examples:
        code, _, err = run(*example.split()[1:])
        assert (code, err) == (0, "")
    assert 2 <= len(seen) <= 3


@pytest.mark.parametrize("dataset", [*ENTRIES, "photos"])
def test_the_command_that_follows_a_pretraining_is_accepted(run, recipe, tmp_path, dataset):
    (tmp_path / "labelled").mkdir()
    seen = []
    recipe("finetune", lambda config, **_: seen.append(config) or {})
    code, _, err = run(*shlex.split(following("x", dataset, options=" --runs 'my runs'").command)[1:])
    assert (code, err) == (0, "")
    assert (seen[0].model.pretrained, seen[0].console.runs) == ("x", "my runs")


def test_a_recipe_gets_its_config_and_an_observer(run, recipe):
    got = {}

    def pretrain(config, *, observers):
        got.update(config=config, observers=observers)
        return {"run": "runs/pretrain/x", "metrics": {"loss": 1.25}, "next": "simclrseg finetune"}

    recipe("pretrain", pretrain)
    code, out, err = run("pretrain", "--dataset", "shapes", "--epochs", "3")
    assert code == 0
    assert got["config"].training.epochs == 3
    assert hasattr(got["observers"][0], "on_epoch")
    assert "runs/pretrain/x" in out
    assert "1.25" in out
    assert err == "next: simclrseg finetune\n"


def test_json_is_all_that_stdout_holds(run, recipe):
    recipe("evaluate", lambda config: Found())
    code, out, _ = run("evaluate", "--json")
    assert code == 0
    assert json.loads(out) == {"run": "x", "metrics": {"auroc": None}, "intervals": {"auroc": None}}


def test_predict_prints_the_masks_it_wrote(run, recipe):
    rows = [{"image": "a.jpg", "mask": "a.png"}, {"image": "b.jpg", "mask": "b.png"}]
    recipe("predict", lambda config, on_file: predicted(done=rows))
    assert run("predict", "a.jpg", "b.jpg") == (0, "a.png\nb.png\n", "")


def test_predict_prints_labels_with_their_scores(run, recipe):
    rows = [{"image": "a.jpg", "label": "cat", "score": 0.75, "scores": {"cat": 0.75, "dog": 0.25}}]
    recipe("predict", lambda config, on_file: predicted(done=rows))
    assert run("predict", "a.jpg") == (0, "a.jpg\tcat\t0.7500\n", "")


def test_predict_ends_with_1_when_a_photo_failed(run, recipe):
    failed = [{"image": "a.jpg", "reason": "cut off"}]
    recipe("predict", lambda config, on_file: predicted(failed=failed))
    code, out, err = run("predict", "a.jpg", "--json")
    assert code == 1
    assert (json.loads(out)["failed"], json.loads(out)["done"]) == (failed, [])
    assert err.startswith("error: 1 of 1 photos failed")


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (DataError("no photos\nin x"), 2, "error: no photos in x"),
        (DeviceError("no GPU"), 3, "error: no GPU"),
        (TrainingError("the loss is nan"), 1, "error: the loss is nan"),
        (Interrupted("resume with: simclrseg pretrain --resume x"), 130, "resume with: simclrseg pretrain --resume x"),
        (Interrupted("saved", signum=15), 143, "saved"),
    ],
)
def test_a_users_mistake_is_one_line(run, recipe, error, code, line):
    recipe("pull", fail_with(error))
    assert run("pull") == (code, "", f"{line}\n")


def test_debug_shows_the_traceback(run, recipe, monkeypatch):
    recipe("pull", fail_with(DataError("no photos")))
    monkeypatch.setenv("SIMCLRSEG_DEBUG", "1")
    code, _, err = run("pull")
    assert code == 2
    assert "Traceback" in err
    assert err.endswith("error: no photos\n")


def test_a_bug_is_a_traceback(recipe):
    recipe("pull", fail_with(ZeroDivisionError("bug")))
    with pytest.raises(ZeroDivisionError):
        main(["pull"])


def test_ctrl_c_outside_training_is_one_line(run, recipe):
    recipe("pull", fail_with(KeyboardInterrupt()))
    assert run("pull") == (130, "", "interrupted\n")


@pytest.fixture(params=["SIGTERM", "SIGHUP"])
def ending(request):
    """A signal that ends a process; nohup ignores one."""
    if os.name != "posix":
        pytest.skip("there is no such signal")
    number = getattr(signal, request.param)
    before = signal.signal(number, signal.SIG_DFL)
    yield number
    signal.signal(number, before)


def test_a_signal_outside_training_cleans_up_as_ctrl_c_does(run, recipe, ending):
    cleaned = []

    def wait(config, progress):
        try:
            signal.raise_signal(ending)
            time.sleep(10)
        finally:
            if ending == signal.SIGHUP:  # from the terminal, and from its shell
                signal.raise_signal(ending)
            cleaned.append(True)

    recipe("pull", wait)
    assert run("pull") == (128 + ending, "", "interrupted\n")
    assert cleaned
    assert signal.getsignal(ending) == signal.SIG_DFL


def test_a_signal_after_the_last_step_says_how_the_run_is_finished(run, recipe, ending, tmp_path):
    import torch

    from simclrseg.commands.prepare_finetune import prepare
    from simclrseg.runs.run import Run
    from simclrseg.training.machine import Machine
    from simclrseg.training.session import Session
    from simclrseg.training.train import Trainer

    def score(config, observers):
        session = Session("finetune", config, Machine(torch.device("cpu"), "fp32", 1))
        prepared = prepare(session)
        trainer = Trainer(session, prepared.learner, prepared.batches, None, learning_rate=0.1, suggestion=None)
        trainer.run, trainer.micro_batch = Run(tmp_path / "runs" / "finetune" / "x"), 6
        with trainer.finishing("scoring"):
            signal.raise_signal(ending)
            time.sleep(10)

    recipe("finetune", score)
    line = "stopped in scoring; go on with: simclrseg finetune --resume x\n"
    code, out, err = run("finetune", "--dataset", "shapes", "--backbone", "cnn", "--image-size", "32")
    assert (code, out) == (128 + ending, "") and err.endswith(line)


def test_a_signal_that_is_ignored_ends_nothing(run, recipe, ending):
    signal.signal(ending, signal.SIG_IGN)
    recipe("pull", lambda config, progress: {"name": signal.raise_signal(ending)})
    assert run("pull") == (0, "name  -\n", "")
    assert signal.getsignal(ending) == signal.SIG_IGN


@pytest.mark.skipif(os.name != "posix", reason="there is no fork")
def test_a_forked_process_ends_by_sigterm_as_it_would_without_us():
    with terminable():
        child = os.fork()
        if child == 0:
            signal.raise_signal(signal.SIGTERM)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM


def test_ctrl_c_while_modules_are_imported_is_one_line():
    code = """
import sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "simclrseg.cli.app":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Finder())
from simclrseg.__main__ import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_cannot_be_written_is_one_line_wherever_it_shows(run, recipe, number):
    recipe("pull", fail_with(OSError(number, os.strerror(number), "masks/a.png")))
    code, out, err = run("pull")
    assert (code, out) == (2, "")
    assert err.startswith(f"error: masks/a.png cannot be written ({os.strerror(number)}): ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EACCES, "ask its owner for access, or name another"),
        (errno.ENAMETOOLONG, "name a shorter one"),
    ],
)
def test_a_path_that_is_out_of_reach_is_one_line_wherever_it_shows(run, recipe, number, remedy):
    recipe("pull", fail_with(OSError(number, os.strerror(number), "photos/others")))
    assert run("pull") == (2, "", f"error: photos/others: {os.strerror(number)}; {remedy}\n")


def test_an_archive_is_to_be_unpacked_and_a_path_is_told_as_it_was_typed(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "task_1.ZIP").touch()
    found = run("finetune", "task_1.ZIP")
    assert found == (
        2,
        "",
        "error: DATASET: 'task_1.ZIP' is an archive: unpack it, and give the folder that comes out\n",
    )
    assert run("finetune", r"C:\me\photos") == (2, "", "error: DATASET: there is no folder 'C:\\me\\photos'\n")


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["pretrian"], "error: no such command 'pretrian'. Did you mean 'pretrain'?"),
        (["pretrain", "--epoch", "3"], "error: no such option: --epoch: did you mean --epochs?"),
        (["pretrain", "--epochs"], "error: option '--epochs' requires an argument"),
        (["pretrain", "x"], "error: DATASET: 'x' is neither a dataset nor a folder: choose from"),
        (
            ["pretrain", "oxfrod_pets"],
            "error: DATASET: 'oxfrod_pets' is neither a dataset nor a folder: did you mean 'oxford_pets'",
        ),
        (["finetune", "x", "y"], "error: got unexpected extra argument(s) (y): see simclrseg finetune --help"),
        (["finetune", "shapes", "-d", "voc"], "error: DATASET shapes and --dataset voc are not the same: leave one"),
        (["pretrain", "shapes", "-d", "voc"], "error: DATASET shapes and --dataset voc are not the same: leave one"),
        (["--nothing"], "error: no such option: --nothing: see simclrseg --help"),
        (["pretrain"], "error: --dataset is needed (or --config): photos"),
        (["predict"], "error: no photo to predict: name a file or a folder"),
        (["predict", "--port", "9", "a.jpg"], "error: port (9) is for a page: pass --serve too"),
        (["predict", "--serve", "--host", ""], "error: --host: is empty: name an address, such as 127.0.0.1"),
        (["predict", "--serve", "a.jpg", "--overwrite"], "error: --serve gets its photos from the page and writes no"),
        (
            ["predict", "--serve", "--runs", "elsewhere"],
            "error: no finished run under elsewhere/finetune holds model.onnx: make",
        ),
        (["pretrain", "-d", "cats_vs_dog"], "error: --dataset: 'cats_vs_dog' is neither"),
        (
            ["pretrain", "-d", "shapes", "--backbone", "resnet5"],
            "error: --backbone: 'resnet5' is not a",
        ),
        (
            ["pretrain", "-d", "shapes", "--micro-batch", "0"],
            "error: --micro-batch '0': must be a whole number",
        ),
        (
            ["finetune", "shapes", "--max-images", "9", "--data-ratio", "0.5"],
            "error: max_images (9) and data_ratio (0.5) both say how many photos to use: take one",
        ),
        (["pretrain", "-c", "pets_segmentation"], "error: "),
        (["pretrain", "-c", "nothing"], "error: unknown preset 'nothing'"),
        (["pretrain", "--resume", "x"], "error: no such run 'x' in runs/pretrain"),
        (["pretrain", "--resume", "x", "-c", "simclr_pets"], "error: --resume takes the run's own configuration"),
        (["pull", "--show-completion"], "error: no such option: --show-completion"),
        (["--show-completion", "tcsh"], "error: unknown shell 'tcsh': choose from bash, zsh, fish, powershell"),
    ],
)
def test_wrong_usage_is_one_line_and_leaves_nothing_behind(run, tmp_path, args, line):
    code, out, err = run(*args)
    assert (code, out) == (2, "")
    assert err.startswith(line)
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_resume_reads_the_runs_own_config(run, recipe, tmp_path):
    from simclrseg.config.pretrain import PretrainConfig
    from simclrseg.knobs.parsing import dump_config

    stored = PretrainConfig.model_validate({"data": {"dataset": ["shapes"]}, "training": {"epochs": 7}})
    folder = tmp_path / "elsewhere" / "pretrain" / "x"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(dump_config(stored))
    (folder / "environment.json").write_text("{}")
    got = []
    recipe("pretrain", lambda config, observers: got.append(config))
    code, _, err = run("pretrain", "--resume", "x", "--runs", "elsewhere", "--workers", "3")
    assert (code, err) == (0, "")
    assert (got[0].training.epochs, got[0].hardware.workers, got[0].run.resume) == (7, 3, "x")


def test_the_defaults_of_pretrain_are_those_of_its_preset(run, recipe):
    got = []
    recipe("pretrain", lambda config, observers: got.append(config))
    run("pretrain", "--dataset", "cats_vs_dogs", "--learning-rate", "0.3")
    run("pretrain", "--config", "simclr_pets")
    assert got[0] == got[1]
    run("pretrain", "--dataset", "cats_vs_dogs")
    assert got[2].training.scaled_rate == got[1].training.scaled_rate


@pytest.mark.parametrize("command", ["pretrain", "finetune"])
def test_the_photos_may_be_typed_without_dataset(run, recipe, tmp_path, command):
    (tmp_path / "photos").mkdir()
    got = []
    recipe(command, lambda config, observers: got.append(config))
    for words in (["photos"], ["-d", "photos"], ["photos", "--dataset", "photos"], ["--set", "data.dataset=photos"]):
        assert run(command, *words)[::2] == (0, "")
    assert got[1:] == got[:1] * 3


def test_pretraining_takes_several_sets(run, recipe):
    got = []
    recipe("pretrain", lambda config, observers: got.append(config.data.dataset))
    run("pretrain", "shapes", "cifar10", "--epochs", "3")
    run("pretrain", "--set", "dataset=shapes", "--set", "dataset=cifar10")
    assert got == [["shapes", "cifar10"]] * 2


@pytest.mark.parametrize("command", ["pretrain", "finetune"])
def test_a_training_prints_json_too(run, recipe, command):
    result = {"run": "runs/x", "metrics": {"loss": 1.25}, "next": "simclrseg predict"}
    recipe(command, lambda config, observers: result)
    code, out, err = run(command, "shapes", "--json")
    assert (code, json.loads(out), err) == (0, result, "")


def test_a_quiet_command_names_no_next_one(run, recipe):
    recipe("pretrain", lambda config, observers: {"run": "runs/x", "next": "simclrseg finetune"})
    assert run("pretrain", "shapes", "-q") == (0, "run  runs/x\n", "")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_can_be_quiet_and_print_json(command):
    flags = {name for knob in knobs_of(CONFIGS[command]) for name in knob.spellings}
    assert {"--json", "-q", "--quiet"} <= flags


@pytest.mark.parametrize("command", COMMANDS)
def test_the_config_that_is_printed_is_read_again_and_changes_nothing(run, tmp_path, command):
    needed = {"pretrain": ["shapes"], "predict": ["a.jpg"]}.get(command, [])
    code, out, err = run(command, *needed, "--print-config")
    assert (code, err) == (0, "")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "printed.yaml").write_text(out)
    assert run(command, *needed[command == "pretrain" :], "--config", "printed.yaml", "--print-config")[1] == out
    others = METHODS.keys() - {"simclr"} | {"classify"}  # sections of what is not chosen
    kept = [knob for knob in knobs_of(CONFIGS[command]) if not knob.transient and knob.path[0] not in others]
    assert all(f"  {knob.name}:" in out and f"  # {knob.help[:40]}" in out for knob in kept)


def test_the_config_is_printed_with_the_values_of_preset_and_flags(run):
    words = ("--config", "simclr_pets", "--epochs", "7", "--set", "simclr.temperature=0.2")
    tree = yaml.safe_load(run("pretrain", *words, "--print-config")[1])
    assert tree["data"]["dataset"] == ["cats_vs_dogs"]
    assert (tree["training"]["epochs"], tree["simclr"]["temperature"]) == (7, 0.2)


def test_what_has_no_default_is_left_for_the_user_in_the_config_that_is_printed(run, tmp_path):
    code, out, err = run("pretrain", "--method", "reconstruction", "--print-config")
    assert (code, err) == (0, "")
    assert "  # dataset:\n" in out
    (tmp_path / "mine.yaml").write_text(out)
    assert run("pretrain", "--config", "mine.yaml")[2].startswith("error: --dataset is needed (or --config)")
    tree = yaml.safe_load(run("pretrain", "shapes", "--config", "mine.yaml", "--print-config")[1])
    assert (tree["model"]["method"], tree["training"]["optimizer"]) == ("reconstruction", "adam")


def test_a_wrong_value_is_no_config_to_print(run):
    assert run("pretrain", "shapes", "--epochs", "0", "--print-config")[0] == 2


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_its_recipe(command):
    pytest.importorskip("torch")
    assert callable(getattr(importlib.import_module(f"simclrseg.commands.{command}"), command))


def test_only_the_first_process_prints_results(run, recipe, monkeypatch):
    recipe("pull", lambda config, progress: {"name": "x"})
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run("pull") == (0, "", "")


def test_a_reader_that_has_gone_is_no_error():
    command = [sys.executable, "-m", "simclrseg", "pretrain", "--help"]
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a POSIX shell and /dev/full")
@pytest.mark.parametrize(
    ("redirection", "code", "line"),
    [
        (">&-", 0, ""),
        (">&- 2>&-", 0, ""),
        (">/dev/full", 2, "error: the output cannot be written (No space left on device): "),
    ],
)
def test_a_stdout_that_takes_nothing_gives_no_traceback(redirection, code, line):
    command = f"{shlex.quote(sys.executable)} -m simclrseg --version {redirection}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert done.stderr.startswith(line) and done.stderr.count("\n") == bool(line)
