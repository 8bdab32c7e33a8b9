import errno
import logging
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import IO

import cv2
import numpy as np
import PIL
import pytest

from simclrseg import labels
from simclrseg.data import cache, datasets, stores
from simclrseg.data.augment import PAIR_STRENGTHS, STRENGTHS
from simclrseg.data.cache import Cached, cached
from simclrseg.data.datasets.dataset import Dataset, DatasetOptions, FileDataset
from simclrseg.data.datasets.derived import join
from simclrseg.data.datasets.locate import open_dataset
from simclrseg.data.loader import Loader
from simclrseg.data.samples import MaskPairs, TwoViews
from simclrseg.errors import DataError, ImageError
from simclrseg.images import decode, headers, opening, resizing, srgb, stored_masks, tiff
from simclrseg.images.decode import image_shape
from simclrseg.labels.classes import Classes
from tests.data.fakes import photo
from tests.images import tiffs

N = 9
BROKEN = 4
DiskUsage = namedtuple("DiskUsage", "total used free")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache folder, in which decoded pictures belong."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("SIMCLRSEG_DATA", raising=False)
    return tmp_path / "cache" / "simclrseg" / "decoded"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Photos of several sizes, one of them cut short, with masks of 0 and 255."""
    root = tmp_path / "photos"
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for i in range(N):
        image = photo(i, height=40 + 3 * i, width=60 + 5 * (i % 3))
        cv2.imwrite(str(root / "images" / f"{i}.jpg"), image[:, :, ::-1])
        cv2.imwrite(str(root / "masks" / f"{i}.png"), (image[:, :, 0] > 127).astype(np.uint8) * 255)
    file = root / "images" / f"{BROKEN}.jpg"
    file.write_bytes(file.read_bytes()[:-200])
    return root


class Counting(FileDataset):
    """A dataset that counts what it decodes."""

    def image(self, index: int) -> np.ndarray:
        self.__dict__.setdefault("reads", []).append(index)
        return super().image(index)

    def mask(self, index: int) -> np.ndarray:
        self.__dict__.setdefault("reads", []).append(f"mask {index}")
        return super().mask(index)


def open_set(root: Path, **options: object) -> Dataset:
    dataset = open_dataset(str(root), DatasetOptions(**options))  # type: ignore[arg-type]
    dataset.__class__ = Counting
    dataset.reads = []  # type: ignore[attr-defined]
    return dataset


def memory(monkeypatch: pytest.MonkeyPatch, count: int | None) -> None:
    monkeypatch.setattr(cache, "available_memory", lambda: count)


def disk(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: DiskUsage(count, 0, count))


def decoded(dataset: Dataset, kind: str = "image") -> int:
    return sum(getattr(dataset, kind)(i).nbytes for i in range(N) if i != BROKEN)


def read_all(dataset: Dataset) -> list[np.ndarray]:
    return [dataset.image(i) for i in range(N) if i != BROKEN]


def same(first: list[np.ndarray], second: list[np.ndarray]) -> bool:
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def batches(dataset: Dataset, *, threads: int) -> list[np.ndarray]:
    samples = TwoViews(dataset, range(N), image_size=24, strengths=STRENGTHS["paper"], seed=0)
    loader = Loader(samples, batch_size=4, shuffle=True, drop_last=False, threads=threads)
    return [batch[name].numpy() for epoch in range(3) for batch in loader.epoch(epoch) for name in ("image", "index")]


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("where", ["auto", "ram", "disk", "none"])
def test_batches_are_the_same_whatever_the_cache(photos: Path, where: cache.Where, threads: int) -> None:
    plain = batches(open_set(photos), threads=2)
    assert same(batches(cached(open_set(photos), range(N), where=where), threads=threads), plain)
    assert same(batches(cached(open_set(photos), range(N), where=where), threads=threads), plain)  # a second run


@pytest.mark.parametrize("where", ["ram", "disk"])
def test_pairs_of_photo_and_mask_are_the_same_and_decoded_once(photos: Path, where: cache.Where) -> None:
    def pairs(dataset: Dataset) -> list[np.ndarray]:
        samples = MaskPairs(
            dataset, [i for i in range(N) if i != BROKEN], image_size=40, strengths=PAIR_STRENGTHS["flip"]
        )
        loader = Loader(samples, batch_size=4, shuffle=True, drop_last=False, threads=1)
        return [batch[name].numpy() for epoch in range(2) for batch in loader.epoch(epoch) for name in sorted(batch)]

    dataset = open_set(photos)
    expected = pairs(open_set(photos))
    assert same(pairs(cached(dataset, range(N), where=where, masks=True)), expected)
    assert len(dataset.reads) == len(set(dataset.reads)) == 2 * (N - 1)


def test_pictures_in_a_file_are_not_decoded_by_the_next_run(photos: Path, folder: Path) -> None:
    first = read_all(cached(open_set(photos), range(N), where="disk"))
    assert [path.name.split("-")[:2] for path in folder.iterdir()] == [["photos", "photos"]]
    again = open_set(photos)
    assert same(read_all(cached(again, range(N), where="disk")), first)
    assert again.reads == []


@pytest.mark.parametrize("where", ["auto", "disk"])
def test_a_dry_run_reads_the_file_of_an_earlier_one_and_writes_nothing(
    photos: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, where: cache.Where
) -> None:
    memory(monkeypatch, 0)
    caplog.set_level("INFO", "simclrseg")
    dry = cached(open_set(photos), range(N), where=where, masks=True, write=False)
    assert type(dry) is Counting and not folder.exists() and "its steps are those of a first epoch" in caplog.text
    dry.image(0)
    kept = cached(open_set(photos), range(N), where=where, masks=True)
    kept.image(1)
    kept.mask(1)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    dataset = open_set(photos)
    dry = cached(dataset, range(N), where=where, masks=True, write=False)
    dry.image(1), dry.mask(1), dry.image(2), dry.mask(2)
    assert dataset.reads == [2, "mask 2"]  # type: ignore[attr-defined]
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_dry_run_keeps_pictures_in_ram_as_the_run_would(photos: Path, folder: Path) -> None:
    assert isinstance(cached(open_set(photos), range(N), where="ram", write=False), Cached)
    assert not folder.exists()


def test_other_photos_of_the_set_share_its_file(photos: Path, folder: Path) -> None:
    cached(open_set(photos), [0, 1], where="disk").image(1)
    again = open_set(photos)
    shared = cached(again, range(3), where="disk")
    shared.image(1), shared.image(2)
    assert again.reads == [2]
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize("where", ["ram", "disk"])
def test_an_unreadable_photo_stays_unreadable_with_the_same_words(photos: Path, where: cache.Where) -> None:
    with pytest.raises(ImageError) as plain:
        open_set(photos).image(BROKEN)
    dataset = cached(open_set(photos), range(N), where=where)
    for _ in range(2):
        with pytest.raises(ImageError, match=re.escape(str(plain.value))):
            dataset.image(BROKEN)


def test_a_photo_without_a_header_is_an_error_when_it_is_read_not_before(photos: Path) -> None:
    (photos / "images" / "0.jpg").write_bytes(b"no picture")
    dataset = cached(open_set(photos, masks=False), range(N), where="disk")
    with pytest.raises(ImageError, match=r"0\.jpg"):
        dataset.image(0)


@pytest.mark.parametrize("where", ["ram", "disk"])
def test_a_kept_picture_cannot_be_changed(photos: Path, where: cache.Where) -> None:
    dataset = cached(open_set(photos), range(N), where=where)
    for _ in range(2):
        with pytest.raises(ValueError, match="read-only"):
            dataset.image(0)[:] = 0


def test_generated_pictures_are_not_kept() -> None:
    shapes = open_dataset("shapes")
    for where in ("auto", "ram", "disk"):
        assert cached(shapes, range(10), where=where, masks=True) is shapes


def test_of_a_joined_set_the_photos_in_files_are_kept(photos: Path) -> None:
    files = open_set(photos, masks=False)
    start = len(open_dataset("shapes"))
    joined = cached(join([open_dataset("shapes"), files]), [0, start, start + 1], where="disk")
    assert np.array_equal(joined.image(0), open_dataset("shapes").image(0))
    for _ in range(2):
        assert np.array_equal(joined.image(start + 1), open_set(photos).image(1))
    assert files.reads == [1]


def test_auto_takes_ram_where_a_quarter_of_the_free_memory_is_enough(
    photos: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    needed = sum(3 * (40 + 3 * i) * (60 + 5 * (i % 3)) for i in range(N))  # the cut one has a header
    with caplog.at_level(logging.INFO):
        memory(monkeypatch, 4 * needed)
        cached(open_set(photos), range(N), where="auto").image(0)
        assert not folder.exists()
        assert "9 photos take 0 MB decoded, kept in RAM" in caplog.text
        memory(monkeypatch, 4 * needed - 4)
        cached(open_set(photos), range(N), where="auto").image(0)
    assert folder.exists()
    assert f"kept in {folder} as they are read, 0 MB still to come (--cache auto)" in caplog.text


@pytest.mark.parametrize(
    ("where", "of", "share"), [("ram", memory, 3 / 4), ("auto", disk, 1 / 2), ("disk", disk, 9 / 10)]
)
def test_no_more_than_a_share_of_what_is_free_is_taken(
    photos: Path, monkeypatch: pytest.MonkeyPatch, where: cache.Where, of: Callable[..., None], share: float
) -> None:
    needed = sum(3 * (40 + 3 * i) * (60 + 5 * (i % 3)) for i in range(N))
    memory(monkeypatch, 0)
    of(monkeypatch, math.floor((needed - 1) / share))
    if where == "auto":
        assert not isinstance(cached(open_set(photos), range(N), where=where), Cached)
    else:
        with pytest.raises(DataError, match="may be taken"):
            cached(open_set(photos), range(N), where=where)
    of(monkeypatch, math.ceil(needed / share))
    assert isinstance(cached(open_set(photos), range(N), where=where), Cached)


def test_processes_of_one_machine_share_its_memory(photos: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory(monkeypatch, 4 * decoded(open_set(photos)) * 3 // 2)
    cached(open_set(photos), range(N), where="auto")
    assert not folder.exists()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    cached(open_set(photos), range(N), where="auto")
    assert folder.exists()


def test_where_free_memory_is_unknown_auto_takes_the_disk(
    photos: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory(monkeypatch, None)
    cached(open_set(photos), range(N), where="ram").image(0)
    assert not folder.exists()
    cached(open_set(photos), range(N), where="auto").image(0)
    assert folder.exists()


def test_what_fits_nowhere_is_an_error_of_one_line_or_with_auto_no_cache(
    photos: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    memory(monkeypatch, 1000)
    disk(monkeypatch, 1000)
    with pytest.raises(DataError, match=r"^--cache ram: 9 photos take 0 MB decoded, and 0 MB of memory may be taken"):
        cached(open_set(photos), range(N), where="ram")
    with pytest.raises(DataError, match=r"^--cache disk: 9 photos .* still to be written to .*XDG_CACHE_HOME") as error:
        cached(open_set(photos), range(N), where="disk")
    assert "\n" not in str(error.value)
    dataset = open_set(photos)
    assert cached(dataset, range(N), where="auto") is dataset
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "every epoch decodes" in caplog.text
    assert list(folder.iterdir()) == []


def test_pictures_that_are_in_the_file_need_no_free_disk(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_all(cached(open_set(photos), range(N), where="disk"))
    disk(monkeypatch, 0)
    cached(open_set(photos), [i for i in range(N) if i != BROKEN], where="disk")
    with pytest.raises(DataError, match="still to be written"):
        cached(open_set(photos), range(N), where="disk", masks=True)


def test_a_folder_that_cannot_be_written_is_named(photos: Path, folder: Path) -> None:
    folder.parent.mkdir(parents=True)
    folder.write_text("in the way")
    with pytest.raises(DataError, match=rf"^--cache disk: {folder}.*: .*; set XDG_CACHE_HOME"):
        cached(open_set(photos), range(N), where="disk")


def test_where_no_file_can_be_made_only_the_disk_is_insisted_on(
    photos: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(**options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    monkeypatch.setattr(cache, "available_memory", lambda: 0)
    says = rf"--cache disk: {folder} cannot be written: Permission denied; set XDG_CACHE_HOME"
    with pytest.raises(DataError, match=says):
        cached(open_set(photos), range(N), where="disk")
    assert not isinstance(cached(open_set(photos), range(N), where="auto"), Cached)
    assert f"{folder} cannot be written: Permission denied" in caplog.text


def touch(root: Path) -> None:
    os.utime(root / "images" / "3.jpg", ns=(1, 1))


def replace_photo(root: Path) -> None:
    file = root / "images" / "3.jpg"
    status = file.stat()
    cv2.imwrite(str(file), photo(77, height=49, width=60))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def replace_photo_by_one_of_its_size(root: Path) -> None:
    """As ``cp -p`` and ``tar`` do, which bring the time of modification along."""
    file = root / "images" / "3.jpg"
    status = file.stat()
    content = cv2.imencode(".jpg", photo(77, height=49, width=60), [cv2.IMWRITE_JPEG_QUALITY, 5])[1].tobytes()
    file.write_bytes(content.ljust(status.st_size, b"\0"))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file.stat().st_size == status.st_size


def remove_photo(root: Path) -> None:
    (root / "images" / "8.jpg").unlink()
    (root / "masks" / "8.png").unlink()


@pytest.mark.parametrize("change", [touch, replace_photo, replace_photo_by_one_of_its_size, remove_photo])
def test_a_change_of_the_sources_starts_a_new_file(
    photos: Path, folder: Path, change: object, caplog: pytest.LogCaptureFixture
) -> None:
    read_all(cached(open_set(photos), range(N), where="disk"))
    before = list(folder.iterdir())
    change(photos)  # type: ignore[operator]
    with caplog.at_level(logging.INFO):
        fresh = open_set(photos)
        dataset = cached(fresh, range(8), where="disk")
    assert np.array_equal(dataset.image(3), open_set(photos).image(3))
    assert fresh.reads == [3]
    assert len(list(folder.iterdir())) == 1
    assert not before[0].exists()
    assert f"{before[0]} is removed" in caplog.text


@pytest.fixture
def fresh_decoder() -> Iterator[None]:
    """The decoder's identity is found anew in a test that changes it, and after it."""
    yield
    cache.decoder_identity.cache_clear()


DECODERS = [cv2, PIL, decode, opening, stored_masks, srgb, resizing, headers, tiff, datasets, labels]


@pytest.mark.parametrize("part", DECODERS, ids=lambda part: part.__name__)
def test_another_decoder_starts_a_new_file(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_decoder: None, part: ModuleType
) -> None:
    read_all(cached(open_set(photos), range(N), where="disk"))
    if part in (cv2, PIL):
        monkeypatch.setattr(part, "__version__", "99.0")
    else:
        assert part.__file__ is not None
        source = Path(shutil.copytree(Path(part.__file__).parent, tmp_path / "source")) / Path(part.__file__).name
        monkeypatch.setattr(part, "__file__", str(source))
        cache.decoder_identity.cache_clear()
        unchanged = open_set(photos)
        read_all(cached(unchanged, range(N), where="disk"))
        assert unchanged.reads == []  # where the source lies does not matter
        changed = source.parent / "folder.py" if part is datasets else source
        changed.write_text(changed.read_text() + "# changed\n")
    cache.decoder_identity.cache_clear()
    again = open_set(photos)
    read_all(cached(again, range(N), where="disk"))
    assert len(again.reads) == N - 1


def test_other_bands_of_the_same_files_start_a_new_file(photos: Path) -> None:
    read_all(cached(open_set(photos), range(N), where="disk"))
    again = open_set(photos)
    again.bands = ("blue", "green", "red")
    read_all(cached(again, range(N), where="disk"))
    assert len(again.reads) == N - 1


def test_other_meanings_of_masks_start_a_new_file_of_masks_only(photos: Path, folder: Path) -> None:
    chosen = [i for i in range(N) if i != BROKEN]
    for dataset in (open_set(photos), open_set(photos)):
        kept = cached(dataset, chosen, where="disk", masks=True)
        assert same([kept.mask(i) for i in chosen], [open_set(photos).mask(i) for i in chosen])
        read_all(kept)
    assert dataset.reads == []
    assert len(list(folder.iterdir())) == 2
    classes = Classes(("ground", "leaf"), ((0, 0, 0), (0, 255, 0)))
    renamed = open_set(photos, classes=classes)
    kept = cached(renamed, chosen, where="disk", masks=True)
    kept.mask(0), read_all(kept)
    assert renamed.reads == ["mask 0"]
    assert len(list(folder.iterdir())) == 2


def test_other_names_of_the_files_bands_start_a_new_file(tmp_path: Path) -> None:
    picture = np.broadcast_to(np.array([10, 20, 30, 40], np.uint8), (9, 8, 4))
    (tmp_path / "a.tif").write_bytes(tiffs.tiff(picture))
    for names, found in (("[p, q, s, t]", [10, 20]), ("[s, q, p, t]", [30, 20])):
        (tmp_path / "bands.yaml").write_text(f"bands: {names}")
        chosen = open_dataset(str(tmp_path), DatasetOptions(bands=("p", "q")))
        for dataset in (chosen, join([chosen, chosen])):
            assert cached(dataset, range(len(dataset)), where="disk").image(0)[0, 0].tolist() == found


def test_masks_that_ignore_what_photos_do_not_hold_change_with_the_photos(tmp_path: Path) -> None:
    for name in ("images", "masks"):
        (tmp_path / "set" / name).mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "set" / "masks" / "a.png"), np.eye(8, dtype=np.uint8))
    for rows in (3, 1):
        picture = np.random.default_rng(0).random((8, 8, 4), np.float32)
        picture[:rows] = np.nan
        (tmp_path / "set" / "images" / "a.tif").write_bytes(tiffs.tiff(picture, sample_format=3))
        kept = cached(open_set(tmp_path / "set"), [0], where="disk", masks=True)
        assert [(kept.mask(0) == 255).sum() for _ in range(2)] == [8 * rows, 8 * rows]


def test_a_damaged_file_is_noticed_and_its_pictures_are_decoded_again(photos: Path, folder: Path) -> None:
    expected = read_all(cached(open_set(photos), range(N), where="disk"))
    file = next(folder.iterdir())
    content = bytearray(file.read_bytes())
    for damaged in (content[:-1] + bytes([content[-1] ^ 1]), content[:-500], content[:40], b"x" * len(content), b""):
        file.write_bytes(damaged)
        for _ in range(2):
            again = open_set(photos)
            assert same(read_all(cached(again, range(N), where="disk")), expected)
        assert again.reads == []  # mended by the first reader


def test_a_file_that_another_process_made_meanwhile_is_replaced_and_not_emptied(
    photos: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_all(cached(open_set(photos), range(N), where="disk"))
    with open(next(folder.iterdir()), "rb") as held:  # by a reader
        before = held.read()
        was_there = iter([False])

        def open_a_moment_ago(path: Path, mode: str, **options: int) -> IO[bytes]:
            if not next(was_there, True):
                raise FileNotFoundError
            return Path(path).open(mode, **options)  # type: ignore[call-overload]

        monkeypatch.setattr(stores, "open", open_a_moment_ago, raising=False)
        cached(open_set(photos), range(N), where="disk")
        held.seek(0)
        assert held.read() == before
    assert len(list(folder.iterdir())) == 1


def test_a_picture_whose_pixels_do_not_fit_on_the_disk_is_not_marked_as_there(photos: Path, folder: Path) -> None:
    resource = pytest.importorskip("resource", reason="Unix alone limits the size of files")
    dataset = cached(open_set(photos), range(N), where="disk")
    path = next(folder.iterdir())
    marks_end = path.stat().st_size - sum(3 * math.prod(image_shape(file)) for file in (photos / "images").iterdir())
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (marks_end + 1000, limits[1]))
    try:
        dataset.image(0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    after = path.read_bytes()
    assert after[marks_end : marks_end + 1000] != before[marks_end : marks_end + 1000]
    assert after[:marks_end] == before[:marks_end]


def test_a_file_that_is_removed_meanwhile_does_no_harm(
    photos: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = cached(open_set(photos), range(N), where="disk")
    expected = read_all(dataset)
    shutil.rmtree(folder)
    assert same(read_all(dataset), expected)
    assert len(caplog.records) == 1
    assert "takes no more" in caplog.text


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_disk_that_fills_up_ends_the_filling_with_one_line(
    photos: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    source = open_set(photos)
    dataset = cached(source, range(N), where="disk")
    dataset.image(0)

    def open_on_a_full_disk(path: Path, mode: str, **options: int) -> IO[bytes]:
        return Path("/dev/full" if "+" in mode else path).open(mode, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(stores, "open", open_on_a_full_disk, raising=False)
    for _ in range(2):
        assert same(read_all(dataset), read_all(open_set(photos)))
    assert len(caplog.records) == 1
    assert "No space left on device" in caplog.text
    assert source.reads.count(0) == 1
    assert source.reads.count(1) == 2


def test_ram_is_guarded_where_the_size_was_underestimated(
    photos: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sizes = [image.nbytes for image in read_all(open_set(photos))]
    memory(monkeypatch, 4 * sum(sizes[:4]))
    source = open_set(photos)
    contents = {file: file.read_bytes() for file in (photos / "images").iterdir()}
    for file in contents:
        cv2.imwrite(str(file), np.zeros((4, 4, 3), np.uint8))
    dataset = cached(source, range(N), where="auto")
    for file, content in contents.items():  # which have grown since
        file.write_bytes(content)
    expected = read_all(dataset)
    source.reads.clear()
    assert same(read_all(dataset), expected)
    assert source.reads == [5, 6, 7, 8]  # 0 to 3 are kept
    assert len(caplog.records) == 1
    assert "the cache in RAM is full" in caplog.text


def test_the_size_of_many_photos_is_estimated_from_a_sample(
    photos: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    exact = 1000 * sum(3 * math.prod(image_shape(file)) for file in (photos / "images").iterdir())
    asked: list[Path] = []
    monkeypatch.setattr(cache, "known_shape", lambda path: asked.append(path) or image_shape(path))
    memory(monkeypatch, 10**9)
    source = open_set(photos)
    with caplog.at_level(logging.INFO):
        cached(source, [*range(N)] * 1000, where="ram")
    (said,) = caplog.messages
    assert int(re.findall(r"9,000 photos take (\d+) MB decoded", said)[0]) == pytest.approx(exact / 1e6, rel=0.05)
    assert len(asked) == 2000


def test_many_threads_fill_one_file(photos: Path) -> None:
    expected = read_all(open_set(photos))
    stores = [cached(open_set(photos), range(N), where="disk") for _ in range(2)]  # as two processes would
    with ThreadPoolExecutor(8) as pool:
        for pictures in pool.map(read_all, stores * 10):
            assert same(pictures, expected)


def test_a_kill_while_the_file_is_filled_leaves_only_whole_pictures(tmp_path: Path) -> None:
    root = tmp_path / "many"
    root.mkdir()
    for i in range(60):
        cv2.imwrite(str(root / f"{i:02d}.png"), photo(i, height=100, width=150), [cv2.IMWRITE_PNG_COMPRESSION, 9])
    program = f"""
        from simclrseg.data.cache import cached
        from simclrseg.data.datasets.locate import open_dataset
        dataset = cached(open_dataset({str(root)!r}), range(60), where="disk")
        for i in range(60):
            dataset.image(i)
            print(i, flush=True)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for _ in range(10):
            process.stdout.readline()
        time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    source = open_set(root)
    dataset = cached(source, range(60), where="disk")
    pictures = [dataset.image(i) for i in range(60)]
    assert same(pictures, [open_set(root).image(i) for i in range(60)])
    assert 0 < len(source.reads) <= 50


def test_a_cached_set_is_the_set_in_everything_else(photos: Path) -> None:
    plain = open_set(photos)
    kept = cached(plain, range(N), where="ram", masks=True)
    assert isinstance(kept, Cached)
    assert len(kept) == N
    for name in ("name", "keys", "classes", "colours", "labels", "label_names", "official", "border", "summary"):
        assert getattr(kept, name) == getattr(plain, name)
    for name in ("has_mask", "path", "mask_path"):
        assert getattr(kept, name)(1) == getattr(plain, name)(1)


@pytest.mark.parametrize("where", ["ram", "disk"])
def test_odd_photos_are_kept_as_they_are_decoded(real_data: Path, where: cache.Where) -> None:
    root = real_data / "odd_images"
    plain, source = open_set(root, masks=False), open_set(root, masks=False)
    kept = cached(source, range(len(plain)), where=where)
    for index in [*range(len(plain))] * 2:
        try:
            expected = plain.image(index)
        except ImageError as error:
            with pytest.raises(ImageError, match=re.escape(str(error))):
                kept.image(index)
        else:
            assert np.array_equal(kept.image(index), expected)
            assert source.reads.count(index) == 1, plain.keys[index]
