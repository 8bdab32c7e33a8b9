"""An error says what it is about: in one line, and as attributes for those who call from Python."""

from __future__ import annotations

import ast
import copy
import pickle
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

import simclrseg
from simclrseg.errors import DataError, ImageError, SimclrsegError, UnknownName, UsageError, WeightsError
from simclrseg.images.decode import read_image
from simclrseg.system.files import write_text

TREE = Path(simclrseg.__file__).parent


def caught(call: Callable[[], object]) -> SimclrsegError:
    with pytest.raises(SimclrsegError) as found:
        call()
    return found.value


def test_the_line_is_reason_and_remedy():
    error = DataError("masks.png has values [3]", "correct it", path="masks.png")
    assert str(error) == "masks.png has values [3]: correct it"
    assert (error.remedy, error.path, error.option, error.value) == ("correct it", Path("masks.png"), None, None)
    assert str(DataError("a.png: 3 bands", "save one")) == "a.png: 3 bands; save one"
    assert str(DataError("no photos")) == "no photos"


@pytest.mark.parametrize(
    ("keywords", "option", "value"),
    [
        ({"data_ratio": 2}, "data_ratio", 2),
        ({"backbone": "resnet81"}, "backbone", "resnet81"),
        ({"epoch": 5}, "epoch", 5),
        ({"optimizer": "adamx"}, "optimizer", "adamx"),
        ({"image_size": 64, "decoder": "fpnn"}, "decoder", "fpnn"),
        ({"max_images": 5, "data_ratio": 0.5}, "max_images", None),
        ({"loss": "dise"}, "loss", "dise"),
        ({"pretrained": "nobody", "dataset": "shapes"}, "pretrained", "nobody"),
    ],
)
def test_a_wrong_argument_is_named(tmp_path, keywords, option, value):
    error = caught(lambda: simclrseg.finetune(**{"dataset": "shapes", "runs": tmp_path, **keywords}))
    assert (error.option, error.value) == (option, value)
    assert "\n" not in str(error)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_a_value(tmp_path):
    error = caught(lambda: simclrseg.finetune(dataset=tmp_path / "none", runs=tmp_path))
    assert (error.option, error.value) == ("dataset", str(tmp_path / "none"))


def test_a_mask_with_odd_values_is_a_path(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
        for number in range(12):
            pixels = np.full((40, 40), 255 * (number % 2), np.uint8)
            pixels[0, 0] = 7 if (name, number) == ("masks", 5) else pixels[0, 0]
            cv2.imwrite(str(tmp_path / name / f"{number}.png"), pixels)
    error = caught(lambda: simclrseg.finetune(dataset=tmp_path, runs=tmp_path / "runs"))
    assert isinstance(error, DataError) and error.path == tmp_path / "masks" / "5.png"
    assert error.remedy.startswith("save all in one way") and error.remedy in str(error)


def test_a_file_that_cannot_be_read_or_written_is_a_path(tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    error = caught(lambda: read_image(broken))
    assert isinstance(error, ImageError) and error.path == broken
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"no weights")
    error = caught(lambda: simclrseg.load_backbone(weights, runs=tmp_path))
    assert isinstance(error, WeightsError) and error.path == weights
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("")
    assert caught(lambda: write_text(tmp_path / "folder" / "file" / "below", "")).path is not None


def test_a_run_that_is_not_there_says_what_to_do(tmp_path):
    error = caught(lambda: simclrseg.load_model("nothing", runs=tmp_path))
    assert error.remedy and error.remedy in str(error)


def test_an_error_survives_a_copy_and_a_trip_to_another_process():
    for error in (UnknownName("loss", "dise", known=["dice"]), UsageError("a", "b", option="c", value=1)):
        for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
            assert type(twin) is type(error) and str(twin) == str(error)
            assert (twin.option, twin.value, twin.remedy) == (error.option, error.value, error.remedy)


def test_a_value_that_holds_itself_is_kept_and_not_written_out():
    value: list[object] = []
    for _ in range(100_000):
        value = [value]  # too deep to be written out at all
    assert UsageError("a", "b", option="c", value=value).value is value


def test_every_wrong_argument_names_its_option():
    unnamed = [
        f"{path.relative_to(TREE)}:{node.lineno}"
        for path in sorted(TREE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "UsageError"
        if "option" not in {keyword.arg for keyword in node.keywords}
    ]
    assert unnamed == []
