"""A record of seen photos against plain sets."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simclrseg.data.cache import cached
from simclrseg.data.datasets.derived import join
from simclrseg.data.datasets.locate import open_dataset
from simclrseg.data.datasets.shapes import Shapes
from simclrseg.data.seen import Overlap, image_hashes, joined, overlap, record
from simclrseg.errors import DataError
from tests.data.fakes import photo


def hashes(first: int, last: int) -> list[bytes]:
    return [hashlib.sha256(b"%d" % number).digest()[:6] for number in range(first, last)]


def test_a_record_that_is_not_full_knows_every_photo() -> None:
    text = record(hashes(0, 50))
    assert overlap(text, hashes(40, 70)) == Overlap(seen=10, judged=30)
    assert overlap(text, hashes(50, 70)) == Overlap(seen=0, judged=20)
    assert overlap("", hashes(0, 9)) == Overlap(seen=0, judged=9)


def test_a_full_record_finds_the_share_that_was_seen() -> None:
    text = record(hashes(0, 20_000), most=2000)
    found = overlap(text, hashes(15_000, 25_000), most=2000)
    assert 800 < found.judged < 1200  # a tenth of them
    assert found.seen / found.judged == pytest.approx(0.5, abs=0.06)
    assert overlap(text, hashes(20_000, 40_000), most=2000).seen == 0


@pytest.mark.parametrize("most", [30, 60, 1000])
def test_two_records_joined_are_the_record_of_both(most: int) -> None:
    first, second = hashes(0, 50), hashes(30, 120)
    both = joined(record(first, most=most), record(second, most=most), most=most)
    assert both == record(first + second, most=most)
    assert joined("", record(second, most=most), most=most) == record(second, most=most)


def test_a_full_record_joined_with_a_short_one_promises_no_more_than_it_knows() -> None:
    """Hashes above the full one's largest were dropped there, so that nothing above it can be judged."""
    full, short = record(hashes(0, 1000), most=100), record(hashes(5000, 5010), most=100)
    both = joined(full, short, most=100)
    assert overlap(both, hashes(0, 1000), most=100).seen == overlap(both, hashes(0, 1000), most=100).judged


@pytest.mark.parametrize("text", ["%%%", "~", "~%", "~AAE", "~/////w==", "~D///fw==", "~" + "A" * 2_000_000])
def test_a_damaged_record_is_an_error(text: str) -> None:
    with pytest.raises(DataError, match="is damaged"):
        overlap(text, hashes(0, 1))


@pytest.mark.parametrize(("count", "letters"), [(1, 12), (2, 16), (505, 4.4), (4096, 3.8), (50_000, 0.32)])
def test_a_record_takes_few_letters_a_photo_and_is_read_back_whole(count: int, letters: float) -> None:
    text = record(hashes(0, count))
    assert len(text) <= letters * count
    found = overlap(text, hashes(0, count))
    assert found.seen == found.judged == min(count, 4096)


def test_a_record_of_an_older_version_is_read_and_joined() -> None:
    old = base64.b64encode(b"".join(sorted(hashes(0, 50)))).decode()
    assert overlap(old, hashes(40, 70)) == Overlap(seen=10, judged=30)
    assert joined(old, record(hashes(50, 60))) == record(hashes(0, 60))


def test_photos_that_were_not_seen_are_hardly_ever_taken_for_one_that_was() -> None:
    assert overlap(record(hashes(0, 4000)), hashes(10_000, 30_000)).seen == 0


def test_a_photo_has_the_same_hash_wherever_it_lies(tmp_path: Path) -> None:
    for folder, name, seed in (("a", "x", 0), ("a", "y", 1), ("b", "z", 0)):
        (tmp_path / folder).mkdir(exist_ok=True)
        Image.fromarray(photo(seed, height=20, width=30)).save(tmp_path / folder / f"{name}.png")
    (tmp_path / "a" / "w.png").write_bytes(b"")
    first, second = open_dataset(str(tmp_path / "a")), open_dataset(str(tmp_path / "b"))
    _, x, y = image_hashes(first, range(3))
    assert image_hashes(second, [0]) == [x] != [y]
    assert image_hashes(join([second, first]), [0, 2, 3]) == [x, x, y]
    assert image_hashes(cached(first, range(3), where="ram"), [1]) == [x]
    (tmp_path / "a" / "x.png").unlink()
    assert image_hashes(first, [1]) == []


def test_generated_photos_are_known_by_their_pixels() -> None:
    assert image_hashes(Shapes(9), range(9)) == image_hashes(Shapes(20), range(9))
    assert not set(image_hashes(Shapes(9, seed=1), range(9))) & set(image_hashes(Shapes(9), range(9)))
    assert np.unique([len(one) for one in image_hashes(Shapes(9), range(9))]).tolist() == [6]
