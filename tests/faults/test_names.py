"""Names that a terminal would obey, that no text can hold, or that are as long as names can be."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import shlex
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from simclrseg.charts import plots
from simclrseg.charts.chart import Chart, Line
from simclrseg.charts.html import drawn
from simclrseg.cli import console
from simclrseg.cli.app import main
from simclrseg.cli.completion import complete
from simclrseg.cli.progress import Bar
from simclrseg.data.datasets.dataset import FileDataset
from simclrseg.data.split_file import split_json, stored_split
from simclrseg.data.splits import make_split
from simclrseg.engine.history import EpochRecord, FileHistory, Plan, StepRecord
from simclrseg.errors import DataError, RunError, SimclrsegError, UsageError, WeightsError
from simclrseg.evaluation.page import table
from simclrseg.metadata import ModelMetadata
from simclrseg.models.weights import read_metadata
from simclrseg.runs.claim import claim
from simclrseg.runs.lookup import find_pretraining
from simclrseg.runs.names import CHECKPOINT, ENVIRONMENT, dataset_label
from simclrseg.runs.run import record_facts
from simclrseg.system import log_file
from simclrseg.system.files import json_text, write_text
from simclrseg.text import LONGEST_MESSAGE, LONGEST_WORD, decoded, encodable, printable
from simclrseg.weights.card import card_text
from tests.inference.models import write_segmenter

HOSTILE = {
    "colour": b"esc\x1b[31mred",
    "title": b"\x1b]0;owned\x07",
    "line": b"new\nline",
    "tab": b"tab\tbed",
    "return": b"over\rwritten",
    "c1": "c1\x9b31m".encode(),
    "direction": "bidi\u202egnp".encode(),
    "separator": "two\u2028lines".encode(),
    "latin 1": b"caf\xe9",
    "markup": b"[red]x[_red]",
    "html": b"<script>alert(1)<",
    "shell": b"$(touch pwned) `x` 'y' \"z\"",
    "long": b"x" * 246,
    "long letters": "é".encode() * 122,
    "no suffix": b"a." + b"b" * 248,
}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What a terminal obeys, or no UTF-8 holds; the ends of lines are our own."""


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Run a command line; gives exit code, stdout and stderr, in which nothing may be that a terminal obeys."""
    monkeypatch.chdir(tmp_path)

    def run(*args):
        with pytest.raises(SystemExit) as end:
            main(list(map(str, args)))
        out, err = capsys.readouterr()
        assert not OBEYED.search(err), err
        return end.value.code or 0, out, err

    return run


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """A folder of photos with all of these names."""
    folder = tmp_path_factory.mktemp("photos")
    for name in HOSTILE.values():
        with open(os.fsencode(folder) + b"/" + name + b".png"[: 255 - len(name)], "wb") as file:
            Image.fromarray(np.full((8, 8, 3), 200, np.uint8)).save(file, format="PNG")
    return folder


def test_each_photo_gets_its_mask_and_a_line_that_no_terminal_obeys(photos, run, tmp_path):
    model = write_segmenter(tmp_path / "model.onnx")
    code, out, _ = run("predict", photos, "-o", "masks", "--model", model, "--device", "cpu")
    assert code == 0
    assert not OBEYED.search(out)
    taken = [name for name in os.listdir(os.fsencode(photos)) if name.endswith(b".png")]
    assert sorted(os.listdir(b"masks")) == sorted(taken)
    assert sorted(out.splitlines()) == sorted(f"masks/{printable(os.fsdecode(name))}" for name in taken)


@pytest.mark.parametrize("kind", ["json", "coco", "labelme", "yolo"])
def test_labels_and_json_of_such_photos_are_utf8_and_find_their_photos(photos, run, tmp_path, kind):
    model = write_segmenter(tmp_path / "model.onnx")
    code, out, _ = run("predict", photos, "-o", "labels", "--as", kind, "--model", model, "--device", "cpu", "--json")
    assert code == 0
    texts = [out, *(file.read_text("utf-8") for file in Path("labels").iterdir())]
    assert not any(re.search(r"(?<!\\)(\\\\)*\\ud[89a-f]", text) for text in texts), "half a character"
    names = {Path(decoded(row["image"])).name for row in json.loads(out)["done"]}
    assert names == {name for name in os.listdir(photos) if name.endswith(".png")}


def test_names_of_all_letters_stay_as_they_are():
    for name in (
        "Häuser.png",
        "写真.jpg",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645.png",
        "Screenshot 10.00.00\u202fAM.png",
        "👩\u200d🌾.jpg",
        "a b",
    ):
        assert printable(name) == encodable(name) == decoded(name) == name


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_a_name_that_utf8_cannot_hold_is_found_again(name):
    text = os.fsdecode(name)
    assert encodable(text).encode()
    assert decoded(encodable(text)) == text


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_what_is_said_of_a_name_is_one_line_of_sensible_length(name, capsys, tmp_path):
    text = os.fsdecode(name)
    error = DataError(f"{text}: no such photo", path=text)
    with console.session(quiet=False), log_file.kept(tmp_path, f"simclrseg {text}"):
        logging.getLogger("simclrseg").warning(f"{text} is left out")
        console.print_error(str(error))
        console.print_result({"run": text, "next": f"simclrseg predict {shlex.quote(text)}"})
        console.print_result({"classes": [{text: text}], "test": {text: {text: 1.0}}})
    out, err = capsys.readouterr()
    log = (tmp_path / "log.txt").read_text("utf-8")
    assert not OBEYED.search(str(error) + out + err + log)
    assert len(err.splitlines()) == 3 and len(log.splitlines()) == 2
    assert len(str(error)) < LONGEST_WORD + 40
    assert printable(text)[:100] in str(error)


@pytest.mark.parametrize("length", [300, 5_000, 10**6])
def test_of_a_long_value_start_and_end_are_shown(length):
    value = "a" * (length // 2) + "b" * (length // 2)
    text = str(UsageError(f"--dataset {value}: there is no such folder", "name another", option="dataset"))
    assert re.fullmatch(r"--dataset a{100,}b*…b{50,}: there is no such folder; name another", text)
    assert len(str(DataError("many words " * length))) <= LONGEST_MESSAGE


def test_a_command_to_type_is_not_cut():
    command = f"simclrseg pretrain --resume x --runs /{'deep/' * 60}"
    assert command in str(RunError("run 'x' is not finished", f"resume it with `{command}`"))


@pytest.mark.parametrize("words", [["finetune"], ["finetune", "--dataset"], ["pretrain"], ["predict"], ["evaluate"]])
def test_a_name_of_300_characters_on_a_command_line_is_one_line(run, words):
    code, out, err = run(*words, "n" * 300)
    assert (code, out) == (2, "")
    assert re.fullmatch(r"error: .*n{100,}…n{50,}.*", err.splitlines()[-1])


def test_the_longest_names_of_runs_are_refused_or_shortened(tmp_path):
    with pytest.raises(UsageError, match=r"x…x* has 300 characters, and 200 are possible: choose a shorter one"):
        claim(tmp_path, "finetune", "x" * 300)
    folders = [tmp_path / ("d" * 250 + end) for end in ("1", "2")]
    for folder in folders:
        folder.mkdir()
    one, other = (dataset_label(str(folder)) for folder in folders)
    assert one != other
    first, second = (claim(tmp_path, "finetune", f"{one}-{other}") for _ in range(2))
    assert second.name == f"{first.name}-2"


@pytest.mark.parametrize("name", [b"a." + b"b" * 253, "é".encode() * 127, b"x" * 251 + b".png"])
def test_a_file_of_the_longest_name_is_written_whole(tmp_path, name):
    path = tmp_path / os.fsdecode(name)
    write_text(path, "text")
    assert os.listdir(os.fsencode(tmp_path)) == [name]


def test_a_renamed_run_is_quoted_in_the_commands_that_name_it(tmp_path):
    run = claim(tmp_path, "pretrain", "run")
    record_facts(run, kind="pretrain")
    (run.folder / CHECKPOINT).parent.mkdir(parents=True)
    (run.folder / CHECKPOINT).write_bytes(b"state")
    run.folder.rename(run.folder.with_name("my run; $(touch pwned)"))
    with pytest.raises(RunError) as caught:
        find_pretraining(tmp_path, "my run; $(touch pwned)")
    command = re.search(r"`(simclrseg .*)`", str(caught.value))
    assert command is not None
    assert "my run; $(touch pwned)" in shlex.split(command[1])


def test_a_shell_is_offered_only_names_that_it_takes_as_they_stand(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (*(name for name in HOSTILE.values() if len(name) < 200), b"photos", "Häuser".encode()):
        os.mkdir(os.fsencode(tmp_path) + b"/" + name)
    offered = [item.value for item in complete(["pretrain"], "") if item.value.endswith("/")]
    assert offered == ["Häuser/", "photos/"]


def test_a_bar_draws_what_looks_like_markup_as_it_is(monkeypatch):
    written = Terminal()
    monkeypatch.setattr(sys, "stderr", written)
    with console.session(quiet=False), Bar() as bar:
        bar.open(2)
        bar.move(1, "[red]1/2[/red]", "[b]x\x1b[31m", line="")
        bar.close()
    assert "[red]1/2[/red]" in written.getvalue()
    assert "[b]x\\x1b[31m" in written.getvalue()


@pytest.mark.parametrize(
    "names", [["$\\bad$", "$x^2$"], ["caf\udce9", "\x1b[31m"], ["写真", "x" * 250], ["<b>", "[red]"]]
)
def test_charts_take_classes_of_any_name(tmp_path, names):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plots.confusion(np.eye(2, dtype=int), names, tmp_path / "confusion.png")
        plots.scatter({"x": np.zeros((4, 2))}, np.array([0, 1, 0, 1]), names, tmp_path / "scatter.png")
        plots.histograms({"msp": {name: np.arange(3.0) for name in names}}, tmp_path / "histograms.png")
        chart = Chart(names[0], "x", "y", [Line(name, [0, 1], [0, 1]) for name in names], names[1])
        plots.charts([chart], tmp_path / "charts.png")
        markup = drawn([chart], "charts")
    assert len(list(tmp_path.glob("*.png"))) == 4
    assert not re.search(r"<b>|<script", markup)


def test_pages_and_cards_hold_no_markup_of_names(tmp_path):
    rows = [{"class": os.fsdecode(name), "iou": 0.5} for name in HOSTILE.values()]
    write_text(tmp_path / "page.html", table(rows, caption="<script>"))
    assert "<script" not in (tmp_path / "page.html").read_text("utf-8")
    classes = (*map(os.fsdecode, HOSTILE.values()), "a|b")
    metadata = ModelMetadata(task="classification", encoder="cnn", image_size=32, classes=classes, dataset="x|\n<b>")
    card = card_text("x", "model.safetensors", metadata, use="")
    assert not OBEYED.search(card)
    assert not re.search(r"(?<!\\)<(script|b>)", card)
    (row,) = [line for line in card.splitlines() if line.startswith("| classes |")]
    assert len(re.findall(r"(?<!\\)\|", row)) == 3, "the cells of a table"


def test_a_config_is_printed_so_that_no_terminal_obeys_it_and_it_is_read_again(run, tmp_path):
    folder = tmp_path / "bidi\u202egnp \x1b[31m"
    folder.mkdir()
    code, out, _ = run("pretrain", folder, "--print-config")
    assert code == 0
    assert not OBEYED.search(out)
    assert yaml.safe_load(out)["data"]["dataset"] == [str(folder)]


def test_a_split_with_names_that_utf8_cannot_hold_is_found_again(tmp_path):
    keys = [f"caf\udce9/{number}.png" for number in range(20)]
    dataset = FileDataset("set", tmp_path, [tmp_path / key for key in keys])
    split = make_split(dataset.keys, official={})
    path = tmp_path / "split.json"
    for text in (
        json_text(split_json(dataset, split, None)),
        json.dumps(split_json(dataset, split, None)),
    ):  # of before
        path.write_text(text)
        assert stored_split(dataset, path) == split


def test_a_runs_folder_that_utf8_cannot_hold_is_found_again(tmp_path):
    run = claim(tmp_path, "pretrain", "run")
    record_facts(run, folder="/home/caf\udce9")
    assert "\\\\udce9" in (run.folder / ENVIRONMENT).read_text()
    assert run.begun_in == Path("/home/caf\udce9")


def test_numbers_that_json_lacks_are_null_in_every_line(tmp_path):
    history = FileHistory(tmp_path)
    history.on_start(Plan(1, 1, 0, (), 4))
    history.on_step(StepRecord(1, 1, 0.1, {"loss": float("nan")}, 4, 1.0, 0.0))
    history.on_epoch(EpochRecord(1, 1, {"loss": float("inf")}, {"iou": float("-inf")}, 1.0))
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    read = [json.loads(line, parse_constant=pytest.fail) for line in lines]
    assert [read[0]["loss"], read[1]["train"], read[1]["validation"]] == [None, {"loss": None}, {"iou": None}]


def test_an_error_in_json_is_whole_text(capsys):
    console.print_result({"reason": str(SimclrsegError("caf\udce9")), Path("k\udce9"): Path("caf\udce9")}, as_json=True)
    out = capsys.readouterr().out
    assert json.loads(out) == {"reason": "caf\\udce9", "k\\udce9": "caf\\udce9"}


def test_paths_reach_a_stream_that_lacks_their_letters_escaped(tmp_path):
    script = "from simclrseg.cli import console; console.prepare_streams(); console.print_result('caf\\xe9')"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, env=environment, check=True)
    assert done.stdout == b"caf\\xe9\n"


@pytest.fixture
def latin(tmp_path, monkeypatch) -> Path:
    """A working folder whose name is no UTF-8."""
    folder = tmp_path / "caf\udce9"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_a_model_in_a_folder_that_is_no_utf8_predicts(run, latin):
    model = write_segmenter(Path("model.onnx")).rename("mod\udce9le.onnx")
    Image.fromarray(np.full((8, 8, 3), 200, np.uint8)).save("photo.png")
    code, out, _ = run("predict", latin / "photo.png", "-o", "mask.png", "--model", model, "--device", "cpu")
    assert (code, out) == (0, "mask.png\n")


@pytest.mark.parametrize("name", ["runs\udce9", "/tmp/\udcff/runs"])
def test_runs_are_not_made_where_no_library_reads_weights(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"--runs .*no UTF-8, which libraries of models refuse; rename it"):
        claim(Path(name), "pretrain", "run")
    assert not os.listdir(tmp_path)


def test_weights_of_a_name_that_is_no_utf8_are_told_to_be_renamed(tmp_path):
    path = tmp_path / "caf\udce9.safetensors"
    path.write_bytes(b"weights")
    with pytest.raises(WeightsError, match=r"caf\\udce9\.safetensors: .*no UTF-8.*; rename it"):
        read_metadata(path)
