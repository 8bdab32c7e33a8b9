"""Checkpoints of strangers that inflate, go round in circles or hold odd things: soon read, or one line."""

from __future__ import annotations

import os
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from simclrseg.engine.checkpoints import Checkpoints
from simclrseg.errors import SimclrsegError, WeightsError
from simclrseg.exporters.contents import read_program
from simclrseg.models.foreign import tensor_dicts
from simclrseg.models.weights import read_checkpoint
from simclrseg.weights.convert import convert_pickle

WEIGHT = torch.arange(6.0).view(2, 3)
SECONDS = 5


def packed(path: Path, target: Path, **changed: bytes) -> Path:
    """The archive with other contents of some files, whose names end so, compressed."""
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as other:
        for name in archive.namelist():
            other.writestr(name, changed.get(name.rpartition("/")[2].replace(".", "_"), archive.read(name)))
    return target


def pickled(folder: Path, *steps: bytes) -> Path:
    torch.save({"weight": WEIGHT}, folder / "healthy.pth")
    return packed(folder / "healthy.pth", folder / "a.pth", data_pkl=b"\x80\x04" + b"".join(steps) + b".")


def storage(count: int = 6, key: bytes = b"0", kind: bytes = b"FloatStorage") -> bytes:
    text = [b"X" + len(word).to_bytes(4, "little") + word for word in (b"storage", key, b"cpu")]
    return (
        b"("
        + text[0]
        + b"ctorch\n"
        + kind
        + b"\n"
        + text[1]
        + text[2]
        + b"J"
        + count.to_bytes(4, "little", signed=True)
        + b"tQ"
    )


def tensor(storage: bytes, *, offset: int = 0, size: int = 6, stride: int = 1) -> bytes:
    numbers = [b"\x8a\x08" + value.to_bytes(8, "little", signed=True) for value in (offset, size, stride)]
    parts = numbers[0] + b"(" + numbers[1] + b"t(" + numbers[2] + b"t\x89}"
    return b"}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n(" + storage + parts + b"tRs"


def shared(depth: int) -> dict[str, Any]:
    tree: dict[str, Any] = {"weight": WEIGHT}
    for _ in range(depth):
        tree = {"a": tree, "b": tree}
    return tree


def circle() -> dict[str, Any]:
    tree: dict[str, Any] = {"weight": WEIGHT}
    tree["itself"] = [tree]
    return tree | {"again": tree}


@pytest.mark.parametrize("content", [b"\0", b"]0"])
def test_an_archive_that_inflates_is_refused_before_it_does(tmp_path, content):
    path = pickled(tmp_path, content * (40_000_000 // len(content)))
    with pytest.raises(WeightsError, match=r"would unpack to 40 MB from 0\.\d: ") as caught:
        read_checkpoint(path)
    assert os.path.getsize(path) < 1e6 and "\n" not in str(caught.value)
    (tmp_path / "last").mkdir()
    path.rename(tmp_path / "last" / "state.pt")
    with pytest.raises(SimclrsegError, match="would unpack to"):
        Checkpoints(tmp_path).load_last()


def test_a_program_that_inflates_is_refused_before_it_does(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pt2", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/extra/simclrseg.json", bytes(40_000_000))
    with pytest.raises(SimclrsegError, match="would unpack to 40 MB"):
        read_program(tmp_path / "a.pt2")


def test_a_checkpoint_that_was_packed_anew_is_read(tmp_path):
    torch.save({"weight": torch.randn(1000, 1000)}, tmp_path / "a.pth")
    content, _ = read_checkpoint(packed(tmp_path / "a.pth", tmp_path / "b.pth"))
    assert content["weight"].shape == (1000, 1000)


ENDLESS = {
    "a key of keys": b"})" + b"2\x86" * 60 + b"K\x01s",
    "a deep key": b"})" + b"\x85" * 200_000 + b"K\x01s",
    "a deep key of a dict of pairs": b"()" + b"\x85" * 200_000 + b"K\x01d",
    "a set of keys": b"()" + b"2\x86" * 60 + b"\x91",
    "a set that grows": b"\x8f()" + b"2\x86" * 60 + b"\x90",
    "an ordered dict": b"ccollections\nOrderedDict\n](])" + b"\x85" * 200_000 + b"aK\x01aetR",
    "a deep list": b"]" * 200_000 + b"a" * 199_999,
    "a storage's key": b"(X\x07\0\0\0storagectorch\nFloatStorage\n)" + b"\x85" * 200_000 + b"X\x03\0\0\0cpuK\x06tQ",
    "marks": b"(" * 4_000_000,
    "digits": b"I" + b"9" * 1_000_000 + b"\n",
    "bytes": b"\x96" + (1 << 36).to_bytes(8, "little") + b"abc",
    "text": b"\x8d" + (1 << 40).to_bytes(8, "little") + b"abc",
}


@pytest.mark.parametrize("fault", ENDLESS)
def test_a_pickle_that_would_take_for_ever_is_read_soon_or_refused(tmp_path, fault):
    path = pickled(tmp_path, ENDLESS[fault])
    start, said, found = time.monotonic(), "is no whole checkpoint", list[Any]()
    try:
        found = list(tensor_dicts(read_checkpoint(path)[0]))
    except WeightsError as error:
        said = str(error)
    assert "is no whole checkpoint" in said and "\n" not in said and not found
    assert time.monotonic() - start < SECONDS


@pytest.mark.parametrize(
    "steps",
    [
        tensor(storage(2**31 - 1)),
        tensor(storage(-1)),
        tensor(storage(kind=b"EvilStorage")),
        tensor(storage(kind=b"QInt8Storage")),
        tensor(storage(key=b"../../../etc/passwd")),
        tensor(storage(), offset=-1),
        tensor(storage(), offset=2**62),
        tensor(storage(), stride=-1),
    ],
)
def test_a_tensor_outside_of_its_storage_is_one_line(tmp_path, steps):
    with pytest.raises(WeightsError, match="is no whole checkpoint") as caught:
        read_checkpoint(pickled(tmp_path, steps))
    assert "\n" not in str(caught.value)


def test_a_tensor_that_stands_for_far_more_than_is_stored_is_left_out(tmp_path):
    assert list(tensor_dicts(read_checkpoint(pickled(tmp_path, tensor(storage(), size=10**10, stride=0)))[0])) == []
    content, _ = read_checkpoint(pickled(tmp_path, tensor(storage(), size=100, stride=0)))
    assert content["w"].shape == (100,)


def test_names_that_share_memory_are_not_written_apart_for_ever(tmp_path):
    weight = torch.zeros(1000, 1000)
    torch.save({str(number): weight for number in range(1000)}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="1,000 tensors that share memory, and would take 4,000 MB apart"):
        convert_pickle(tmp_path / "a.pth", tmp_path / "a.safetensors")
    torch.save({"model": {"w": weight}, "ema": {"w": weight}}, tmp_path / "b.pth")
    convert_pickle(tmp_path / "b.pth", tmp_path / "b.safetensors")
    assert (tmp_path / "b.safetensors").stat().st_size > 8_000_000 and not (tmp_path / "a.safetensors").exists()


@pytest.mark.filterwarnings("ignore")  # torch says of each odd kind that it may change
@pytest.mark.parametrize(
    "beside",
    [
        lambda: torch.quantize_per_tensor(torch.zeros(4, 3), 0.1, 0, torch.qint8),
        lambda: torch.eye(3).to_sparse(),
        lambda: torch.eye(3).to_sparse_csr(),
        lambda: torch.zeros(10**6, 10**6, device="meta"),
        lambda: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]),
        lambda: torch.zeros(3, dtype=torch.complex64),
        lambda: np.array([{}, [1]], dtype=object),
        lambda: shared(50),
        circle,
    ],
)
def test_odd_tensors_and_circles_beside_weights_are_in_no_ones_way(tmp_path, beside):
    torch.save({"state_dict": {"weight": WEIGHT}, "odd": beside()}, tmp_path / "a.pth")
    start = time.monotonic()
    found = dict(tensor_dicts(read_checkpoint(tmp_path / "a.pth")[0]))
    assert torch.equal(found["state_dict"]["weight"], WEIGHT)
    assert time.monotonic() - start < SECONDS


def test_a_key_that_is_a_storage_is_not_written_out():
    tree = {torch.storage.TypedStorage(99, _internal=True): {"weight": torch.zeros(3)}}
    assert [place for place, _ in tensor_dicts(tree)] == ["TypedStorage"]
