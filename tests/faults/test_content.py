"""YAML and JSON that someone wrote to break the reader, or broke: one line, soon, wherever they are read."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from simclrseg.config.finetune import FinetuneConfig
from simclrseg.data.normalization import read_normalization
from simclrseg.errors import SimclrsegError
from simclrseg.knobs.knob import knobs_of, look_up, put
from simclrseg.knobs.parsing import dump_config, parse_config, parse_config_file
from simclrseg.labels.classes import read_classes
from simclrseg.labels.labelled import read_content
from simclrseg.system.content import DEEPEST, MOST_YAML, BadContent, parse_json, parse_yaml

READERS: dict[str, Callable[[Path], object]] = {
    "config": lambda path: parse_config_file(FinetuneConfig, path),
    "classes": lambda path: read_classes(str(path)),
    "normalization": lambda path: read_normalization(str(path)),
    "data.yaml": read_content,
}


def laughs(last: str, below: str) -> str:
    """Nine times nine times nine: each line stands for nine of the line before."""
    names = "abcdefghi"
    rest = (f"{one}: &{one} {below.format(','.join(9 * [f'*{other}']))}" for other, one in pairwise(names))
    return "\n".join([f"a: &a {last}", *rest])


BROKEN = {
    "laughs": (laughs("[x]", "[{}]"), "more than 50,000 values"),
    "laughs by merge keys": (laughs("{k: 1}", "{{<<: [{}]}}"), "more than 50,000 values"),
    "itself": ("data: &a {b: *a}", "'a' holds itself"),
    "depth": ("data: " + "[" * 100_000, f"more than {DEEPEST}"),
    "depth of aliases": (
        "a0: &a0 [1]\n" + "\n".join(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 200)),
        f"more than {DEEPEST}",
    ),
    "size": ("# " + "x" * MOST_YAML, "more than 512 KiB"),
    "twice": ("data: {dataset: a, dataset: b}", "'dataset' twice"),
    "letter": ('data: "\\UFFFFFFFF"', "a letter that is none"),
    "half a letter": ('data: "\\ud800"', "half a letter"),
    "nul": ("data: a\0b", r"U\+0000"),
    "tab": ("data:\n\tdataset: x", "not YAML"),
}
VALUES = {
    "digits": ("9" * 5000, "more than 100 digits"),
    "bits": ("9" * 50, "more than 64 bits"),
    "sexagesimal": (":".join(["59"] * 10_000), "more than 100 digits"),
    "int": ("!!int x", "'x' is no int"),
    "bool": ("!!bool x", "'x' is no bool"),
    "hexadecimal": ("0x_", "'0x_' is no int"),
    "python": ("!!python/object/apply:os.system [id]", "!!python/object/apply:os.system is none of null"),
    "binary": ("!!binary AAAA", "!!binary is none of null"),
    "set": ("!!set {a, b}", "!!set is none of null"),
    "a date said to be one": ("!!timestamp x", "!!timestamp is none of null"),
    "tag": ("!own x", "!own is none of null"),
}


def refused(read: Callable[[Path], object], path: Path, reason: str) -> None:
    start = time.monotonic()
    with pytest.raises(SimclrsegError, match=reason) as caught:
        read(path)
    assert "\n" not in str(caught.value) and path.name in str(caught.value)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("fault", BROKEN)
def test_broken_yaml_is_one_line_wherever_it_is_read(tmp_path, reader, fault):
    text, reason = BROKEN[fault]
    (tmp_path / "x.yaml").write_text(text, encoding="utf-8")
    refused(READERS[reader], tmp_path / "x.yaml", reason)


@pytest.mark.parametrize("reader", ["config", "normalization", "data.yaml"])  # of classes values are colours
@pytest.mark.parametrize("fault", VALUES)
def test_a_value_that_is_no_plain_one_is_one_line(tmp_path, reader, fault):
    text, reason = VALUES[fault]
    (tmp_path / "x.yaml").write_text(f"mean: {text}\nstd: [1]\n")
    refused(READERS[reader], tmp_path / "x.yaml", reason)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("encoding", "reason"),
    [("utf-16", "save it as UTF-8"), ("utf-32", "save it as UTF-8"), ("latin-1", r"line 2: no UTF-8.*byte 0xe4")],
)
def test_text_that_is_no_utf_8_says_what_to_do(tmp_path, reader, encoding, reason):
    (tmp_path / "x.yaml").write_bytes("# 1\n# ä\na: 1\n".encode(encoding))
    if reader == "normalization":
        reason = reason.replace("line 2: ", "")
    refused(READERS[reader], tmp_path / "x.yaml", reason)


def test_a_byte_order_mark_does_no_harm(tmp_path):
    (tmp_path / "x.yaml").write_text("\ufeffcommand: finetune\ndata: {dataset: shapes}\n", encoding="utf-8")
    assert parse_config_file(FinetuneConfig, tmp_path / "x.yaml").data.dataset == "shapes"


def test_a_date_is_text_and_may_be_impossible():
    assert parse_yaml("a: 2024-13-45\nb: 2024-01-01 10:00:00") == {"a": "2024-13-45", "b": "2024-01-01 10:00:00"}


@pytest.mark.parametrize("seed", [2**53, 2**64 - 1])
def test_a_seed_may_be_any_that_torch_takes(tmp_path, seed):
    text = f"command: finetune\ndata: {{dataset: shapes, split_seed: {seed}}}\nrun: {{seed: {seed}}}\n"
    (tmp_path / "x.yaml").write_text(text)
    config = parse_config_file(FinetuneConfig, tmp_path / "x.yaml")
    assert config.run.seed == config.data.split_seed == torch.Generator().manual_seed(seed).initial_seed()


def test_aliases_and_merge_keys_of_healthy_files_are_read():
    text = "usual: &usual {epochs: 3, seed: 1}\ntraining: {<<: *usual, seed: 2}\nagain: [*usual, *usual]\n"
    usual = {"epochs": 3, "seed": 1}
    assert parse_yaml(text) == {"usual": usual, "training": {"epochs": 3, "seed": 2}, "again": [usual, usual]}


def test_a_name_of_other_bytes_than_utf_8_survives_a_config(tmp_path):
    config = parse_config(FinetuneConfig, {"data": {"dataset": "caf\udce9"}}, of_a_run=True)
    (tmp_path / "x.yaml").write_text(dump_config(config), encoding="utf-8")
    assert parse_config_file(FinetuneConfig, tmp_path / "x.yaml").data.dataset == "caf\udce9"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, f"more than {DEEPEST}"),
        ("[" * (DEEPEST + 1) + "]" * (DEEPEST + 1), f"more than {DEEPEST}"),
        ('{"a":' * 500 + "1" + "}" * 500, f"more than {DEEPEST}"),
        ("9" * 5000, "more than 100 digits"),
        ('{"a": "\\ud800"}', r"half a letter \(U\+D800\)"),
        ('{"a": 1', "not JSON"),
        ("", "not JSON"),
    ],
)
def test_broken_json_is_one_line(text, reason):
    with pytest.raises(BadContent, match=reason) as caught:
        parse_json(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["[" * 500, {"a]": ["}" * 200, "\udce9", "😀"]}, json.loads("[" * 100 + "]" * 100)])
def test_brackets_in_names_and_odd_letters_are_no_fault(value):
    assert parse_json(json.dumps(value)) == value


@pytest.mark.parametrize("value", [10**30, 10**4000, "9" * 4000, "9" * 5000, float("inf"), "a" * 5000, [[[]]], "a\0b"])
def test_a_knob_of_any_value_is_kept_or_one_line(value):
    for knob in knobs_of(FinetuneConfig):
        tree: dict[str, Any] = {"data": {"dataset": "shapes"}}
        put(tree, knob.path, value)
        try:
            kept = look_up(parse_config(FinetuneConfig, tree).model_dump(), knob.path)
        except SimclrsegError as error:
            kept = str(error)
        assert "\n" not in str(kept) and not (isinstance(kept, int) and kept > 2**53)
