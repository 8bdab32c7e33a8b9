"""`--vary`: every combination is trained once, whatever becomes of another, and all end in one table."""

from __future__ import annotations

import io
import json
import os
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from simclrseg.cli.app import main
from simclrseg.cli.vary import vary
from simclrseg.config import CONFIGS
from simclrseg.errors import GateError, Interrupted, RunError, SimclrsegError, TrainingError, UsageError
from simclrseg.runs.run import Run, finish, record_facts
from tests.engine.small import same
from tests.processes import Simclrseg

DATASET = {"pretrain": ["shapes"], "finetune": "shapes"}


class Trainings:
    """In place of processes: remembers what was started, and leaves of a training what others look at.

    Args:
        codes: exit codes by the name of a run, where they are not 0.
        dry: exit code of dry runs.
    """

    def __init__(self, codes: Mapping[str, int] | None = None, *, dry: int = 0) -> None:
        self.codes = dict(codes or {})
        self.dry = dry
        self.started: list[list[str]] = []

    def __call__(self, words: Sequence[str], caught: bool) -> tuple[int, str]:
        if "--dry-run" in words:
            return self.dry, json.dumps({"seconds": 60, "bytes": 10**9, "bytes_while_training": 2 * 10**9})
        self.started.append(list(words))
        if words[0] == "evaluate":
            return 0, "the table\n"
        name = self.name_of(words)
        run = Run(Path("runs", words[0], name))
        if "--resume" not in words:
            text = io.StringIO()
            with redirect_stdout(text), pytest.raises(SystemExit):
                main([*(word for word in words if word != "--overwrite"), "--print-config"])
            (run.folder / "checkpoints" / "last").mkdir(parents=True, exist_ok=True)
            (run.folder / "checkpoints" / "last" / "state.pt").touch()
            (run.folder / "config.yaml").write_text(text.getvalue())
            (run.folder / "metrics.csv").write_text("epoch,train_loss,val_knn\n1,2.5,0.5\n")
            (run.folder / "timing.csv").write_text("epoch,step,seconds\n1,10,61\n")
            record_facts(run, kind=words[0], test_hash="same" if words[0] == "finetune" else None)
        if code := self.codes.get(name, 0):
            return code, ""
        finish(run)
        return 0, ""

    @staticmethod
    def name_of(words: Sequence[str]) -> str:
        return words[words.index("--resume" if "--resume" in words else "--name") + 1]

    @property
    def names(self) -> list[str]:
        return [self.name_of(words) for words in self.started if words[0] != "evaluate"]


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)


def varied(*texts: str, start: Trainings, command: str = "finetune", **words: object) -> None:
    words = {"config_file": None, "dataset": DATASET[command], "quiet": True, **words}
    vary(CONFIGS[command], words, texts, start=start)


def test_every_combination_is_trained_and_of_seeds_the_first_comes_first(capsys):
    start = Trainings()
    varied("seed=0,1", "data_ratio=0.05,1", start=start)
    assert start.names == [f"shapes-none-seed-{seed}-data_ratio-{ratio}" for seed in (0, 1) for ratio in ("0.05", "1")]
    assert capsys.readouterr().out == "the table\n"
    first, *_, evaluation = start.started
    assert first[first.index("--data-ratio") + 1] == "0.05"
    assert evaluation[1:5] == start.names


def test_finished_runs_keep_no_training_state():
    with pytest.raises(GateError):
        varied("seed=0,1", start=Trainings({"shapes-none-seed-1": 1}))
    assert [path.parent.name for path in Path("runs/finetune").glob("*/checkpoints")] == ["shapes-none-seed-1"]


def test_a_failed_training_holds_no_other_up_and_is_tried_again_by_the_same_command():
    first, again = Trainings({"shapes-none-seed-0": 2}), Trainings()
    with pytest.raises(GateError, match="1 of 3 trainings failed: shapes-none-seed-0") as failed:
        varied("seed=0,1,2", start=first)
    assert failed.value.exit_code == 1
    assert first.names == ["shapes-none-seed-0", "shapes-none-seed-1", "shapes-none-seed-2"]
    varied("seed=0,1,2", start=again)
    assert again.started[0][:3] == ["finetune", "--resume", "shapes-none-seed-0"]
    assert again.names == ["shapes-none-seed-0"]


def test_what_may_differ_where_a_run_goes_on_is_handed_to_the_run_that_goes_on():
    with pytest.raises(GateError):
        varied("seed=0,1", start=Trainings({"shapes-none-seed-0": 1}), keep_checkpoints="2", log=["tensorboard"])
    again = Trainings()
    varied("seed=0,1", start=again, micro_batch="4", workers="1", keep_checkpoints="2")
    resumed = ["finetune", "--resume", "shapes-none-seed-0", "--runs", "runs"]
    assert again.started[0] == [*resumed, "--micro-batch", "4", "--workers", "1", "--quiet"]


def test_when_one_is_asked_to_stop_no_other_begins():
    start = Trainings({"shapes-none-seed-1": 130})
    with pytest.raises(Interrupted, match="the same command goes on") as stop:
        varied("seed=0,1,2", start=start)
    assert stop.value.exit_code == 130
    assert start.names == ["shapes-none-seed-0", "shapes-none-seed-1"]


def test_what_is_finished_is_not_trained_again_but_with_overwrite():
    varied("seed=0,1", start=Trainings())
    again, anew = Trainings(), Trainings()
    varied("seed=0,1,2", start=again)
    assert again.names == ["shapes-none-seed-2"]
    varied("seed=0,1", start=anew, overwrite=True)
    assert anew.names == ["shapes-none-seed-0", "shapes-none-seed-1"]
    assert "--overwrite" in anew.started[0]


def test_a_run_of_that_name_with_other_values_is_not_taken_for_it():
    varied("seed=0,1", start=Trainings(), name="mine", epochs="3")
    with pytest.raises(RunError, match=r"mine-seed-0 was trained with other values of training\.epochs; pass another"):
        varied("seed=0,1", start=Trainings(), name="mine", epochs="4")


def test_what_cannot_be_trained_is_found_out_before_anything_is():
    start = Trainings(dry=2)
    with pytest.raises(TrainingError, match="shapes-none-backbone-cnn cannot be trained"):
        varied("backbone=cnn,resnet18", start=start)
    assert not start.started and not Path("runs").exists()


def test_it_says_how_many_how_long_and_how_much_disk(capsys):
    varied("seed=0,1", start=Trainings())
    capsys.readouterr()
    varied("seed=0,1,2,3", start=Trainings(), quiet=False, dry_run=True)
    said = capsys.readouterr()
    assert "4 trainings, 2 of them finished: about 2 min 00 s, validation aside, and 4 GB of disk" in said.err
    assert said.out == ""


def test_of_pretrainings_the_table_has_what_each_run_found(capsys):
    varied("temperature=0.1,0.2", start=Trainings(), command="pretrain", as_json=True)
    rows = json.loads(capsys.readouterr().out)["runs"]
    assert rows == [
        {
            "name": f"shapes-temperature-{value}",
            "temperature": value,
            "epoch": 1,
            "training loss": 2.5,
            "knn": 0.5,
            "time": "1 min 01 s",
        }
        for value in ("0.1", "0.2")
    ]


@pytest.mark.parametrize(
    ("texts", "words", "message"),
    [
        (["seeds=0,1"], {}, "--vary seeds: no such key; did you mean 'run.seed'?"),
        (["seed"], {}, "--vary seed is not a key and its values, such as seed=0,1,2"),
        (["seed=0,,1"], {}, "--vary seed=0,,1 is not a key and its values, such as seed=0,1,2"),
        (["seed=0,0"], {}, "--vary seed=0,0 names a value or a key twice: leave one out"),
        (["seed=0", "seed=1"], {}, "--vary seed=1 names a value or a key twice: leave one out"),
        (["seed=0,x"], {}, "--vary seed 'x': must be a whole number with x >= 0"),
        (
            ["data_ratio=0.5,5e-1"],
            {},
            "--vary: shapes-none-data_ratio-5e-1 would be the same as shapes-none-data_ratio-0.5",
        ),
        (
            ["seed=0,1", "run.seed=0,1"],
            {},
            "--vary: shapes-none-seed-1-seed-0 would be the same as shapes-none-seed-0-s",
        ),
        (["seed=0"], {"name": 194 * "a"}, "--vary: a run's name would have 201 characters, and 200 are possible; pass"),
        (["name=a,b"], {}, "--vary name: each run gets a name of its own; leave it out"),
        (["overwrite=true"], {}, "--vary overwrite: is no key of a file but belongs to one call; type --overwrite"),
        (["seed=0,1"], {"seed": "3"}, "--seed 3 and --vary seed 0 are not the same: leave one out"),
        (
            ["seed=0,1"],
            {"resume": "shapes"},
            "--vary begins and resumes runs by itself: leave out --resume, and type it as it was",
        ),
        (
            ["seed=0,1"],
            {"print_config": True},
            "--vary has a configuration for each of its runs: leave out --print-config",
        ),
        (["pretrained=a/b,a-b"], {}, "--vary: two runs would be called shapes-a-b-pretrained-a-b; give"),
    ],
)
def test_what_it_cannot_vary_is_one_line(texts, words, message):
    start = Trainings()
    with pytest.raises(SimclrsegError) as error:
        varied(*texts, start=start, **words)
    assert str(error.value).startswith(message)
    assert not start.started


def test_several_processes_vary_nothing(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    start = Trainings()
    with pytest.raises(
        UsageError, match=r"was itself started in 4 processes: leave torchrun out, and pass --devices 4"
    ):
        varied("seed=0,1", start=start)
    assert not start.started


def test_what_was_to_begin_anew_does_so_again_and_its_message_says_so():
    varied("seed=0,1", start=Trainings())
    with pytest.raises(Interrupted, match=r"begins anew, and `simclrseg finetune --resume shapes-none-seed-0` goes on"):
        varied("seed=0,1", start=Trainings({"shapes-none-seed-0": 143}), overwrite=True)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="Windows sends signals otherwise")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_command_alone_lets_its_training_save_and_the_same_command_goes_on(tmp_path, number):
    if signal.getsignal(number) == signal.SIG_IGN:
        pytest.skip("the tests run in the background, where the system ignores Ctrl-C")
    small = "finetune shapes --backbone cnn --image-size 32 --data-ratio 0.05 --device cpu --precision fp32 --epochs"
    words = [*small.split(), "200", "--vary", "seed=0,1"]
    sweep = Simclrseg(*words, folder=tmp_path)
    state = tmp_path / "runs/finetune/shapes-none-r0.05-seed-0/checkpoints/last/state.pt"
    while not state.exists():
        assert not sweep.ended(), sweep.wait().stderr
        time.sleep(0.1)
    os.kill(sweep.pid, number)
    done = sweep.wait()
    assert done.returncode == 128 + number, done.stderr
    assert "stopped after step" in done.stderr and "the same command goes on" in done.stderr
    assert [path.name for path in (tmp_path / "runs/finetune").iterdir()] == ["shapes-none-r0.05-seed-0"]
    done = Simclrseg(*words, "--dry-run", folder=tmp_path).wait()
    assert done.returncode == 0 and "2 trainings: " in done.stderr


@pytest.mark.slow
def test_two_seeds_are_trained_as_if_each_were_alone_and_compared(tmp_path):
    from safetensors.torch import load_file

    small = "finetune shapes --backbone cnn --image-size 32 --data-ratio 0.05 --epochs 1 --device cpu --precision fp32"
    sweep = Simclrseg(*small.split(), "--vary", "seed=0,1", "--json", folder=tmp_path)
    alone = Simclrseg(*small.split(), "--seed", "1", "--name", "alone", folder=tmp_path)
    done = sweep.wait()
    assert done.returncode == 0, done.stderr
    names = ["shapes-none-r0.05-seed-0", "shapes-none-r0.05-seed-1", "alone"]
    assert [model["name"] for model in json.loads(done.stdout)["models"]] == names[:2]
    assert alone.wait().returncode == 0
    first, second, single = (load_file(tmp_path / "runs/finetune" / name / "model.safetensors") for name in names)
    assert same(second, single)
    assert not same(first, single)


def test_of_fine_tunings_on_other_test_photos_the_table_has_their_own_scores(capsys):
    class Scored(Trainings):
        def __call__(self, words, caught):
            found = super().__call__(words, caught)
            run = Run(Path("runs", "finetune", self.name_of(words))) if "--dry-run" not in words else None
            if run is not None:
                record_facts(run, test_hash=run.name)
                scores = {"training": {"metrics": {"iou": 0.2}}, "original": {"metrics": {"iou": 0.25}}}
                (run.folder / "test.json").write_text(json.dumps(scores))
            return found

    varied("split_seed=0,1", start=Scored(), as_json=True)
    rows = json.loads(capsys.readouterr().out)["runs"]
    assert [(row["test iou"], "iou" in row, "knn" in row) for row in rows] == [(0.25, False, False)] * 2


@pytest.mark.parametrize(
    ("text", "words", "begin"),
    [
        ("seed=0,1", {"data_ratio": "0.5", "unlabelled": ["shapes"]}, "shapes-none-r0.5-unlabelled-seed-"),
        ("data_ratio=0.5,0.2", {"fold": "1/5"}, "shapes-none-fold1of5-data_ratio-0."),
    ],
)
def test_a_name_says_what_the_runs_have_in_common_but_not_what_varies(text, words, begin):
    start = Trainings()
    varied(text, start=start, **words)
    assert len(start.names) == 2 and all(name.startswith(begin) for name in start.names)
