"""Frames: all that a network is to see of pictures, and which of its pixels count."""

from __future__ import annotations

import numpy as np
import pytest

from simclrseg.data.datasets.dataset import Dataset
from simclrseg.errors import DataError
from simclrseg.images.depth import Blank
from simclrseg.images.framing import Framing
from simclrseg.metadata import Resize
from simclrseg.scores.reading import Frames, read_frames

SIDE = 32


class Scenes(Dataset):
    """Grey pictures of some sizes, which hold nothing in their first rows."""

    def __init__(self, *shapes: tuple[int, int], empty: int = 0) -> None:
        super().__init__("scenes", [f"{number}.tif" for number in range(len(shapes))])
        self.shapes, self.empty = shapes, empty

    def image(self, index: int) -> np.ndarray:
        return np.full((*self.shapes[index], 3), 50 + index, np.uint8)

    def blank(self, index: int) -> Blank | None:
        if not self.empty:
            return None
        blank = np.zeros(self.shapes[index], bool)
        blank[: self.empty] = True
        return blank


def frames_of(scenes: Scenes, resize: Resize, batch_size: int = 4) -> tuple[list[Frames], list[str]]:
    skipped: list[str] = []
    framing = Framing(resize, (SIDE, SIDE), (0, 0, 0))
    options = {"batch_size": batch_size, "workers": 1, "skipped": skipped}
    return list(read_frames(scenes, range(len(scenes)), framing, **options)), skipped


@pytest.mark.parametrize("empty", [0, 7, 33])
@pytest.mark.parametrize("shape", [(50, 70), (32, 32), (10, 100), (64, 96)])
def test_tiles_hold_each_pixel_of_a_picture_once_and_none_that_holds_nothing(shape, empty) -> None:
    if empty >= shape[0]:
        with pytest.raises(
            DataError, match=r"none of the 1 photos could be read; the first: 0\.tif: it holds no values"
        ):
            frames_of(Scenes(shape, empty=empty), "tile")
        return
    batches, _ = frames_of(Scenes(shape, empty=empty), "tile")
    seen = np.zeros(shape, int)
    for frame in (one for frames in batches for one in frames.each):
        top, left, bottom, right = frame.window
        seen[top:bottom, left:right] += frame.held[: bottom - top, : right - left]
        assert not frame.held[bottom - top :].any() and not frame.held[:, right - left :].any()
        assert frame.total == (shape[0] - empty) * shape[1]
        np.testing.assert_array_equal(frame.image[frame.held], 50)
    assert (seen[:empty] == 0).all() and (seen[empty:] == 1).all()
    assert sum(frames.shares.sum() for frames in batches) == pytest.approx(1)


def test_tiles_of_several_pictures_come_in_whole_batches() -> None:
    batches, _ = frames_of(Scenes((64, 64), (20, 20), (64, 32)), "tile", batch_size=3)
    assert [[one.index for one in frames.each] for frames in batches] == [[0, 0, 0], [0, 1, 2], [2]]
    assert batches[1].images.shape == (3, SIDE, SIDE, 3) and batches[1].shares.tolist() == [0.25, 1, 0.5]


@pytest.mark.parametrize(("resize", "held"), [("squash", SIDE * SIDE), ("pad", SIDE * SIDE // 2)])
def test_whole_pictures_hold_neither_padding_nor_what_holds_nothing(resize, held) -> None:
    (whole,), _ = frames_of(Scenes((40, 80)), resize)
    (holed,), _ = frames_of(Scenes((40, 80), empty=10), resize)
    assert whole.held.sum() == held and holed.held.sum() == held * 3 // 4
    assert whole.shares.tolist() == holed.shares.tolist() == [1]
    assert whole.each[0].window == (0, 0, 40, 80)


def test_a_picture_that_holds_nothing_is_named_and_the_others_are_read() -> None:
    batches, skipped = frames_of(Scenes((40, 40), (9, 9), (20, 40), empty=9), "squash")
    assert [one.index for frames in batches for one in frames.each] == [0, 2]
    assert skipped == ["1.tif: it holds no values at all; leave the picture out"]
