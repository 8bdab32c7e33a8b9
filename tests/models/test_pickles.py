"""Checkpoints of torch.save: what is in them beside tensors does no harm and is in no one's way."""

from __future__ import annotations

import argparse
import collections
import datetime
import functools
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from simclrseg.errors import WeightsError
from simclrseg.models import pickles
from simclrseg.models.foreign import tensor_dicts
from simclrseg.models.pickles import Stranger, read_pickle

WEIGHT = torch.arange(6.0).view(2, 3)


class Callback:
    """As of a training tool; its class is not there when the file is read."""

    def __init__(self) -> None:
        self.best = {"path": Path("runs/best.ckpt"), "score": np.float64(0.5)}

    def __setstate__(self, state: Any) -> None:
        raise AssertionError("was called")


class Slots:
    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 3


class Settings(dict[str, Any]):
    """As lightning's and omegaconf's dicts of settings."""


class Entries(list[Any]):
    """As omegaconf's and fvcore's lists."""


STRANGERS: dict[str, Any] = {
    "paths": [Path("runs"), PureWindowsPath("c:/runs")],
    "numpy": [np.float32(3), np.arange(4), np.dtype("f4"), np.random.default_rng(0)],
    "argparse": argparse.Namespace(out=Path("runs"), rate=0.1),
    "callback": Callback(),
    "slots": Slots(),
    "settings": Settings(rate=0.1, deeper=Settings(a=1)),
    "list": Entries([1, 2]),
    "times": [datetime.datetime(2024, 1, 2), datetime.timedelta(seconds=3)],
    "collections": [collections.defaultdict(list, a=[1]), collections.Counter("aab"), collections.deque([1]), {1, 2}],
    "functions": [functools.partial(print, 3), len, torch.relu, type(None), frozenset({1})],
    "torch": [torch.float16, torch.device("cpu"), torch.Size([2]), torch.Generator, nn.ReLU(), torch.optim.SGD],
    "buffer": nn.Buffer(torch.ones(2)),
    "keyed by one": {Path("a"): 1, np.int64(3): 2, (Path("b"), 1): 3},
    "sparse": torch.eye(3).to_sparse(),
}


@pytest.mark.parametrize("stranger", STRANGERS)
@pytest.mark.parametrize("kind", ["zip", "legacy"])
def test_strangers_beside_the_tensors_are_in_no_ones_way(tmp_path, stranger, kind):
    content = {"before": STRANGERS[stranger], "state_dict": {"weight": WEIGHT}, "after": STRANGERS[stranger]}
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=kind == "zip")
    found = dict(tensor_dicts(read_pickle(tmp_path / "a.pth")))
    assert torch.equal(found["state_dict"]["weight"], WEIGHT)


def test_tensors_are_as_torch_reads_them(tmp_path):
    whole = torch.randn(4, 6)
    content = {
        "view": whole[1:3, ::2],
        "transposed": whole.T,
        "parameter": nn.Parameter(whole),
        "buffer": nn.Buffer(whole),
        "half": whole.half(),
        "bfloat": whole.bfloat16(),
        "bytes": torch.arange(5, dtype=torch.uint8),
        "bools": whole > 0,
        "scalar": torch.tensor(3),
        "empty": torch.empty(0, 3),
        "complex": torch.randn(3, dtype=torch.complex64),
    }
    for zipped in (True, False):
        torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
        expected, found = torch.load(tmp_path / "a.pth", weights_only=True), read_pickle(tmp_path / "a.pth")
        assert found.keys() == expected.keys()
        for key, tensor in found.items():
            assert torch.equal(tensor, expected[key]) and tensor.dtype == expected[key].dtype, key


def test_what_lies_in_a_settings_object_is_found(tmp_path):
    torch.save(
        {"model": Settings(weight=WEIGHT), "args": argparse.Namespace(ema={"weight": WEIGHT})}, tmp_path / "a.pth"
    )
    assert [place for place, _ in tensor_dicts(read_pickle(tmp_path / "a.pth"))] == ["model", "args.ema"]


def test_a_pickled_module_gives_its_state(tmp_path):
    network = nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm1d(3), nn.ModuleDict({"head": nn.Linear(2, 3)}))
    network[0].again = network[1]  # shared
    torch.save({"model": network, "epoch": 3}, tmp_path / "a.pth")
    ((place, tensors),) = tensor_dicts(read_pickle(tmp_path / "a.pth"))
    assert place == "model"
    expected = {key: tensor for key, tensor in network.state_dict().items() if not key.startswith("1.")}
    assert tensors.keys() == expected.keys() and "0.again.weight" in expected
    assert all(torch.equal(tensors[key], tensor) for key, tensor in expected.items())


def test_dicts_that_hold_the_same_dicts_again_and_again_are_looked_at_once():
    tree: dict[str, Any] = {"weight": WEIGHT}
    for _ in range(40):
        tree = {"a": tree, "b": tree}  # 2^40 ways to the tensor
    module: dict[str, Any] = {"_modules": {}, "_parameters": {"weight": WEIGHT}}
    for _ in range(40):
        module = {"_modules": {"a": module, "b": module}}
    assert len(list(tensor_dicts({"tree": tree, "module": module}))) == 2


class Call:
    """Calls a function where it is unpickled."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None, items: Any = None, pairs: Any = None) -> None:
        self.call = function, arguments, state, items and iter(items), pairs and iter(pairs)

    def __reduce__(self) -> Any:
        return self.call

    def __call__(self) -> None:
        """Only what can be called may be named as what is called."""


class Evil:
    def __setstate__(self, code: str) -> None:
        exec(code)

    def __getstate__(self) -> Any:
        return self.code

    def extend(self, codes: list[str]) -> None:
        exec(codes[0])

    append = __setitem__ = exec

    def __init__(self, code: str) -> None:
        self.code = code


DISGUISES: dict[str, Callable[[str], Any]] = {
    "system": lambda code: Call(os.system, f"{sys.executable} -c {code!r}"),
    "exec": lambda code: Call(exec, code),
    "eval": lambda code: Call(eval, f"exec({code!r})"),
    "partial": lambda code: Call(Call(functools.partial, exec, code)),
    "subprocess": lambda code: Call(subprocess.call, [sys.executable, "-c", code]),
    "numpy": lambda code: Call(np._core.multiarray.scalar, np.dtype("O"), pickle.dumps(Call(exec, code))),
    "storage": lambda code: Call(torch.storage._load_from_bytes, pickle.dumps(Call(exec, code))),
    "namespace": lambda code: argparse.Namespace(inside=Call(exec, code)),
    "setstate": Evil,
    "extend": lambda code: Call(Evil, "pass", items=[code]),
    "setitem": lambda code: Call(Evil, "pass", pairs=[("a", code)]),
    "of a result": lambda code: Call(Call(getattr, Call(__import__, "builtins"), "exec"), code),
    "type": lambda code: Call(Call(type, "a", (), {"__init__": exec}), code),
    "rebuild": lambda code: Call(torch._tensor._rebuild_from_type_v2, exec, dict, (code,), {}),
    "parameter": lambda code: Call(torch._utils._rebuild_parameter, Call(exec, code), True, {}),
    "hooks": lambda code: Call(
        torch._utils._rebuild_tensor_v2, Call(exec, code), 0, (1,), (1,), False, Call(exec, code)
    ),
}


@pytest.mark.parametrize("kind", ["zip", "legacy"])
@pytest.mark.parametrize("disguise", DISGUISES)
def test_no_disguise_makes_a_pickle_run(tmp_path, disguise, kind):
    path, mark = tmp_path / "evil.pth", tmp_path / "mark"
    code = f"open({str(mark)!r}, 'w').close()"
    evil = DISGUISES[disguise](code)
    torch.save({"x": evil, "state_dict": {"weight": WEIGHT}}, path, _use_new_zipfile_serialization=kind == "zip")
    if disguise == "hooks":  # a tensor without numbers
        with pytest.raises(WeightsError, match="no whole checkpoint"):
            read_pickle(path)
    else:
        assert torch.equal(dict(tensor_dicts(read_pickle(path)))["state_dict"]["weight"], WEIGHT)
    assert not mark.exists()
    if disguise in ("exec", "system", "partial", "setstate", "extend", "of a result"):
        torch.load(path, weights_only=False)
        assert mark.exists(), "the test would not see it"


def program(*steps: bytes) -> bytes:
    return b"\x80\x04" + b"".join(steps) + b"."


def text(word: str) -> bytes:
    return b"\x8c" + bytes([len(word)]) + word.encode()


EXEC = b"cbuiltins\nexec\n"
PROGRAMS: dict[str, Callable[[str], bytes]] = {
    "INST": lambda code: b"(" + b"V" + code.encode() + b"\nibuiltins\nexec\n",
    "OBJ": lambda code: b"(" + EXEC + text(code) + b"o",
    "STACK_GLOBAL": lambda code: text("builtins") + text("exec") + b"\x93" + text(code) + b"\x85R",
    "dotted": lambda code: text("os") + text("path.os.system") + b"\x93" + text("touch mark") + b"\x85R",
    "memo": lambda code: EXEC + b"q\x00" + text(code) + b"\x85q\x010h\x00h\x01R",
    "NEWOBJ": lambda code: b"cbuiltins\ntype\n" + text(code) + b"\x85\x81",
    "NEWOBJ_EX": lambda code: b"cbuiltins\ntype\n" + text(code) + b"\x85}\x92",
    "BUILD of a function": lambda code: b"ctorch._utils\n_rebuild_tensor_v2\n}" + text("__code__") + text(code) + b"sb",
    "BUILD of a class": lambda code: b"ccollections\nOrderedDict\n}" + text("__missing__") + EXEC + b"sb",
    "BUILD of slots": lambda code: b"ccollections\nOrderedDict\n)RN}" + text("__class__") + EXEC + b"s\x86b",
    "APPEND to what is called": lambda code: b"ccollections\nOrderedDict\n)R" + text(code) + b"a",
    "a call of a string": lambda code: text("exec") + text(code) + b"\x85R",
    "a call of None": lambda code: b"N" + text(code) + b"\x85R",
    "a call of a storage's class": lambda code: b"ctorch\nFloatStorage\n" + text(code) + b"\x85R",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_no_program_of_steps_runs(tmp_path, name, monkeypatch):
    mark = tmp_path / "mark"
    monkeypatch.chdir(tmp_path)
    content = program(PROGRAMS[name](f"open({str(mark)!r}, 'w').close()"))
    torch.save({}, tmp_path / "a.pth")
    with zipfile.ZipFile(tmp_path / "a.pth") as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "evil.pth", "w") as archive:
        for record, data in records.items():
            archive.writestr(record, content if record.endswith("data.pkl") else data)
    try:
        found = read_pickle(tmp_path / "evil.pth")
    except WeightsError:
        found = None
    assert found is None or isinstance(found, (Stranger, pickles.Name, dict))
    assert not mark.exists()
    if name in ("INST", "OBJ", "STACK_GLOBAL", "memo"):
        pickle.loads(content)
        assert mark.exists(), "the test would not see it"


def test_nothing_is_imported_or_taken_from_copyregs_table(tmp_path):
    import copyreg

    sys.modules.pop("antigravity", None)
    copyreg.add_extension("os", "system", 77)
    try:
        for content in (b"cantigravity\nfly\n)R", b"\x82\x4d" + text("true") + b"\x85R"):
            (tmp_path / "a.pth").write_bytes(program(content))
            with pytest.raises(WeightsError):
                read_pickle(tmp_path / "a.pth")
    finally:
        copyreg.remove_extension("os", "system", 77)
    assert "antigravity" not in sys.modules


def test_reading_leaves_torchs_own_functions_as_they_were(tmp_path):
    before = torch._utils._rebuild_tensor_v2.__defaults__
    (tmp_path / "a.pth").write_bytes(
        program(b"ctorch._utils\n_rebuild_tensor_v2\n}" + text("__defaults__") + b"N\x85sb")
    )
    with pytest.raises(WeightsError):
        read_pickle(tmp_path / "a.pth")
    assert torch._utils._rebuild_tensor_v2.__defaults__ == before


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\x80\x02garbage", "is no whole checkpoint"),
        (b"PK\x03\x04" + b"\0" * 100, "is no whole checkpoint"),
    ],
)
def test_what_torch_did_not_save_is_said_in_one_line(tmp_path, content, reason):
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(WeightsError, match=rf"a\.pth {reason}") as caught:
        read_pickle(tmp_path / "a.pth")
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
def test_a_torchscript_program_is_refused(tmp_path):
    torch.jit.save(torch.jit.script(nn.Linear(1, 1)), tmp_path / "script.pt")
    with pytest.raises(WeightsError, match="is a TorchScript program"):
        read_pickle(tmp_path / "script.pt")


def test_the_environment_does_not_decide_what_is_read(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "1")
    torch.save({"a": Path("runs"), "weight": WEIGHT}, tmp_path / "a.pth")
    assert torch.equal(read_pickle(tmp_path / "a.pth")["weight"], WEIGHT)


@pytest.mark.parametrize("kind", ["float8_e4m3fn", "float8_e5m2", "uint16", "uint32"])
def test_tensors_of_types_without_a_storage_of_their_own_are_read(tmp_path, kind):
    tensor = torch.arange(6).view(2, 3).to(getattr(torch, kind))
    torch.save({"weight": tensor, "row": tensor[1]}, tmp_path / "a.pth")
    found = read_pickle(tmp_path / "a.pth")
    assert found["weight"].dtype == tensor.dtype and found["weight"].shape == (2, 3)
    assert found["row"].float().tolist() == [3.0, 4.0, 5.0]
