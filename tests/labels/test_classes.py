"""Classes files."""

from __future__ import annotations

import json
import os

import pytest

from simclrseg.errors import DataError
from simclrseg.labels.classes import classes_beside, read_classes


def write(folder, text):
    file = folder / "classes.yaml"
    file.write_text(text, encoding="utf-8")
    return str(file)


@pytest.mark.parametrize(
    "text",
    [
        "background: [0, 0, 0]\nroad: '#804080'\nno: [1, 2, 3]\nignore: [255, 255, 255]\n",
        '{"background": [0, 0, 0], "road": "#804080", "no": [1, 2, 3], "ignore": [255, 255, 255]}',
    ],
)
def test_names_and_colours_come_in_the_order_of_the_ids(tmp_path, text):
    classes = read_classes(write(tmp_path, text))
    assert classes.names == ("background", "road", "no")  # `no` is a name, not False
    assert classes.ids == {(0, 0, 0): 0, (128, 64, 128): 1, (1, 2, 3): 2, (255, 255, 255): 255}


@pytest.mark.parametrize(
    "text", ["no: [0, 0, 0]\n😀: '#804080'\nignore: [9, 9, 9]\n", "- 'a: \"b\"'\n- '{c}'\n- |\n  two\n  lines\n"]
)
def test_what_a_file_holds_can_stand_in_its_place(tmp_path, text):
    classes = read_classes(write(tmp_path, text))
    assert read_classes(classes.text) == classes


@pytest.mark.parametrize("text", ["ground: 0\ncat: 100\ndog: 200\n", "0: ground\n100: cat\n200: dog\n255: ignore\n"])
def test_classes_have_the_numbers_that_they_have_in_masks(tmp_path, text):
    classes = read_classes(write(tmp_path, text))
    assert (classes.names, classes.numbered) == (("ground", "cat", "dog"), True)
    assert classes.numbers == {0: 0, 100: 1, 200: 2, 255: 255}
    assert read_classes(classes.text) == classes


@pytest.mark.parametrize(
    ("labels", "numbers"),
    [
        ({"background": 0, "cat": 1, "dog": 2}, None),
        ({"background": "0", "cat": "1", "dog": "2"}, None),
        ({"0": "background", "1": "cat", "2": "dog"}, None),
        ({"cat": 1, "dog": 2}, None),
        ({"background": 0, "ignore": 3, "dog": 2, "cat": 1}, {0: 0, 1: 1, 2: 2, 3: 255}),
    ],
)
def test_the_classes_of_nnunet_are_read_and_what_it_ignores_is_no_class(tmp_path, labels, numbers):
    file = tmp_path / "dataset.json"
    file.write_text(json.dumps({"channel_names": {"0": "R"}, "labels": labels}))
    assert classes_beside(file) is None  # of something else
    (tmp_path / "labelsTr").mkdir()
    classes = classes_beside(file)
    assert classes.names == ("background", "cat", "dog")
    assert classes.numbered is (numbers is not None) and (numbers is None or classes.numbers == numbers)


@pytest.mark.parametrize(
    "labels",
    [
        {"background": 0, "all": [1, 2]},
        {"lesion": "yes"},
        {"a": 1, "b": 1},
        {"background": 0},
        {"1": "a", "2": "a"},
        [1],
        {},
    ],
)
def test_labels_of_another_kind_are_no_classes(tmp_path, labels):
    (tmp_path / "labelsTr").mkdir()
    file = tmp_path / "dataset.json"
    file.write_text(json.dumps({"modality": "RGB", "labels": labels}))
    assert classes_beside(file) is None


def test_names_that_are_numbers_have_the_colours_that_they_are_given(tmp_path):
    classes = read_classes(write(tmp_path, "0: '#000000'\n1: '#800000'\n"))
    assert (classes.names, classes.colours, classes.numbered) == (("0", "1"), ((0, 0, 0), (128, 0, 0)), False)


def test_the_label_map_of_cvat_is_read_and_its_background_comes_first(tmp_path):
    head, body = (
        "# label:color_rgb:parts:actions\n",
        "a röad😀:128,64,128::\nbackground:0,0,0::\nno:1,2,3:left,right:walks\n",
    )
    for text in (head + body, body):
        classes = read_classes(write(tmp_path, text))
        assert classes.names == ("background", "a röad😀", "no")
        assert classes.ids == {(0, 0, 0): 0, (128, 64, 128): 1, (1, 2, 3): 2}
    with pytest.raises(DataError, match="colour of 'no' must be"):
        read_classes(write(tmp_path, body.replace("1,2,3", "1,2,300")))


@pytest.mark.parametrize("name", ["Ignore", "IGNORE"])
def test_what_is_ignored_is_no_class_in_whichever_case_it_is_called(tmp_path, name):
    colours = read_classes(write(tmp_path, f"a: [0, 0, 0]\nb: [9, 9, 9]\n{name}: [1, 2, 3]\n"))
    assert colours.names == ("a", "b") and colours.ignored == (1, 2, 3)
    assert read_classes(write(tmp_path, f"- a\n- b\n- {name}\n")).names == ("a", "b")
    with pytest.raises(DataError, match="names 'ignore' twice"):
        read_classes(write(tmp_path, f"- a\n- b\n- {name}\n- ignore\n"))


def test_names_alone_do(tmp_path):
    for text in ("- background\n- road\n", "background:\nroad:\n", "background: # dark\nroad: # 404040 or so\n"):
        classes = read_classes(write(tmp_path, text))
        assert classes.names == ("background", "road")
        assert classes.colours == ()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "must map names"),
        ("just words", "must map names"),
        ("a: [0, 0, 0]\n", "names 1 classes"),
        ("a: [0, 0, 0]\na: [1, 1, 1]\n", "names 'a' twice"),
        ("a: [0, 0, 0]\nb: [0, 0, 0]\n", r"\[0, 0, 0\] to two classes"),
        ("a: [0, 0, 0]\nb: '#000000'\n", "to two classes"),
        ("a: [0, 0, 0]\nb: [0, 0, 256]\n", "colour of 'b'"),
        ("a: [0, 0, 0]\nb: [0, 0, -1]\n", "colour of 'b'"),
        ("a: [0, 0, 0]\nb: [0, 0]\n", "colour of 'b'"),
        ("a: [0, 0, 0]\nb: red\n", "colour of 'b'"),
        ("a: 0\nb: 256\n", "colour of 'b'"),
        ("a: 7\nb: 7\n", "gives the number 7 to two classes"),
        ("a: [0, 0, 0]\nb: {x: 1}\n", "colour of 'b'"),
        ("a: [0, 0, 0]\nb:\n", "'b' no colour"),
        ("? [a]\n: 1\nb: 2\n", "plain names"),
        ("a: [0, 0\n", "line 2, column 1: not YAML"),
        (
            "a: #000000\nb: #00ff00\n",
            "gives 'a' no colour, for YAML takes #000000 for a comment: put it in quotes, as '#000",
        ),
        (
            "a: '#000000'\nb:   #0F0\n",
            "gives 'b' no colour, for YAML takes #0F0 for a comment: put it in quotes, as '#00FF00'",
        ),
        ("\n".join(f"- c{i}" for i in range(255)), "names 255 classes"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused_with_the_reason(tmp_path, text, reason):
    file = write(tmp_path, text)
    with pytest.raises(DataError, match=reason) as caught:
        read_classes(file)
    assert file in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "reason"), [("nowhere.yaml", "no such file"), ("pipe", "it is a pipe"), ("/dev/zero", "it is a device")]
)
def test_what_is_no_file_to_be_read_again_is_named(tmp_path, name, reason):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match=rf"{name} cannot be read \({reason}"):
        read_classes(str(tmp_path / name))
