"""Several datasets as one."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from simclrseg.data.datasets.dataset import Dataset, DatasetOptions
from simclrseg.data.datasets.derived import join
from simclrseg.data.datasets.locate import open_dataset
from simclrseg.errors import DataError


class Flat(Dataset):
    """Photos of one grey value each."""

    def __init__(self, name, values, *, test=(), labels=None, label_names=()):
        super().__init__(
            name, [f"{v}.png" for v in values], official={"test": test}, labels=labels, label_names=label_names
        )
        self.values = values

    def image(self, index):
        return np.full((4, 4, 3), self.values[index], np.uint8)


def test_one_dataset_stays_itself():
    only = Flat("a", [1, 2])
    assert join([only]) is only


def test_photos_follow_one_another_and_keys_stay_unique():
    joined = join([Flat("a", [1, 2]), Flat("a", [1]), Flat("b", [7, 8, 9])])
    assert [int(joined.image(i)[0, 0, 0]) for i in range(len(joined))] == [1, 2, 1, 7, 8, 9]
    assert len(set(joined.keys)) == len(joined) == 6


def test_published_lists_are_joined_at_their_new_places():
    joined = join([Flat("a", [1, 2], test=[1]), Flat("b", [7, 8, 9], test=[0, 2])])
    assert joined.official["test"] == (1, 2, 4)


def test_labels_are_kept_where_they_mean_what_the_first_ones_mean():
    cats = Flat("a", [1, 2], labels=np.array([0, 1]), label_names=("cat", "dog"))
    more = Flat("b", [3], labels=np.array([1]), label_names=("cat", "dog"))
    cars = Flat("c", [4], labels=np.array([0]), label_names=("car",))
    assert join([cats, more]).labels.tolist() == [0, 1, 1]
    joined = join([Flat("d", [5, 6]), cats, cars])
    assert joined.labels.tolist() == [-1, -1, 0, 1, -1]
    assert joined.labels.dtype == np.int64
    assert joined.label_names == ("cat", "dog")
    assert join([Flat("d", [5]), Flat("e", [6])]).labels is None


def test_sets_whose_bands_differ_by_name_alone_are_told_apart():
    photos, others = Dataset("photos", ["1"]), Dataset("others", ["1"], bands=["band1", "band2", "band3"])
    with pytest.raises(
        DataError, match=r"others has band1, .* up to 255 and photos red, green, blue up to 255: pretrain"
    ):
        join([photos, others])


def test_the_range_of_deep_photos_is_kept_where_it_is_one(caplog):
    eight, twelve, more = Dataset("a", ["1"]), Dataset("b", ["1"], reach=(0, 4095)), Dataset("c", ["1"], reach=(0, 1))
    assert join([eight, twelve]).reach == (0, 4095) and join([eight, eight]).reach is None
    assert not caplog.messages
    assert join([eight, twelve, more]).reach is None
    (line,) = caplog.messages
    assert line.startswith("in c values from 0 to 1 become 0 to 255 and in b values from 0 to 4,095: ")


def test_deep_photos_of_several_ranges_are_each_brought_to_8_bits_by_their_own(tmp_path):
    parts = []
    for name, top in (("twelve", 4095), ("sixteen", 65535)):
        (tmp_path / name).mkdir()
        Image.fromarray(np.linspace(0, top, 256).reshape(16, 16).astype(np.uint16)).save(tmp_path / name / "a.png")
        parts.append(open_dataset(str(tmp_path / name), DatasetOptions(masks=False)))
    joined = join(parts)
    assert [part.reach for part in parts] == [(0, 4095), (0, 65535)]
    for image in (joined.image(0), joined.image(1)):
        assert image.min() == 0 and image.max() == 255
