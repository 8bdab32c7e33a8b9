"""Files of labels and lists whose numbers and names no tool writes."""

from __future__ import annotations

import re
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simclrseg.data.datasets.dataset import DatasetOptions
from simclrseg.data.datasets.drawn import drawn_set
from simclrseg.data.datasets.locate import open_dataset
from simclrseg.errors import DataError, ImageError, ModelFileError, UsageError, WeightsError
from simclrseg.exporters.contents import read_program
from simclrseg.images.stored_masks import read_mask, read_stored_mask
from simclrseg.knobs.parsing import parse_config
from simclrseg.labels.classes import classes_beside, read_classes
from simclrseg.models.weights import read_checkpoint
from simclrseg.targets.knobs import LabelledData
from tests.data.datasets.labels import photos, put, yolo
from tests.images.tiffs import tiff

DIGITS = "9" * 5000


def write_yolo(folder: Path, text: str, data: str = "") -> Path:
    photos(folder, "a.png")
    put(folder / "a.txt", text)
    return put(folder / "data.yaml", data) if data else folder


@pytest.mark.parametrize("number", ["254", "999999999"])
def test_a_class_number_that_nothing_names_makes_no_names_for_all_below_it(tmp_path: Path, number: str) -> None:
    folder = write_yolo(tmp_path, yolo(label=number))
    with pytest.raises(DataError, match=f"has labels of class {int(number):,}: 253 classes are possible"):
        open_dataset(str(folder))


@pytest.mark.parametrize("number", [DIGITS, "-1", "1e3"])
def test_what_is_no_class_number_is_named_by_its_line(tmp_path: Path, number: str) -> None:
    folder = write_yolo(tmp_path, yolo() + yolo(label=number))
    with pytest.raises(DataError, match=r"a\.txt, line 2: no class has the number"):
        open_dataset(str(folder))


def test_a_key_of_many_digits_names_no_class(tmp_path: Path) -> None:
    file = write_yolo(tmp_path, yolo(), f"train: .\nnames: \n  ? '{DIGITS}'\n  : pet\n")
    with pytest.raises(DataError, match="names must be a list, or map numbers to names"):
        drawn_set(file, DatasetOptions())


@pytest.mark.parametrize(
    ("place", "reason"), [("/", "is the whole machine"), ("/dev/zero", "/dev/zero: it is a device")]
)
def test_a_place_of_photos_that_has_no_end_is_refused(tmp_path: Path, place: str, reason: str) -> None:
    file = write_yolo(tmp_path, yolo(), f"train: {place}\nnames: [pet]\n")
    with pytest.raises(DataError, match=reason):
        drawn_set(file, DatasetOptions())


@pytest.mark.parametrize("line", [f"{DIGITS}, cat", "0.5, cat"])
def test_a_table_of_classes_takes_numbers_up_to_253(tmp_path: Path, line: str) -> None:
    file = tmp_path / "_classes.csv"
    file.write_text(f"Pixel Value, Class\n0, background\n{line}\n")
    with pytest.raises(DataError, match="write a number from 0 to 253 and a name"):
        classes_beside(file)


def test_a_table_does_not_call_a_class_what_other_files_call_pixels_that_do_not_count(tmp_path: Path) -> None:
    file = tmp_path / "_classes.csv"
    file.write_text("Pixel Value, Class\n0, background\n1, cat\n2, ignore\n")
    with pytest.raises(DataError, match=r"names 2 'ignore', .* give it another name, or store 255 in these pixels"):
        classes_beside(file)


@pytest.mark.parametrize("text", [f"a:{DIGITS},0,0::\n", "? a\n? ", "a: |\n", "a:"])
def test_odd_ends_of_classes_files_are_read_or_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "classes.yaml"
    file.write_text(text)
    with pytest.raises(DataError, match=re.escape(f"classes file {file}")):
        read_classes(str(file))


@pytest.mark.parametrize("fold", [f"1/{DIGITS}", f"{DIGITS}/{DIGITS}", "1/٣"])
def test_a_fold_has_nine_digits_at_most(fold: str) -> None:
    with pytest.raises(UsageError, match="is not K/N, such as 1/5"):
        parse_config(LabelledData, {"dataset": "shapes", "fold": fold})


def zip_with_name(path: Path, *, name: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("éé", "x")
    path.write_bytes(path.read_bytes().replace("éé".encode(), name))
    return path


def test_an_archive_whose_names_are_no_text_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"file\.pth"):
        read_checkpoint(zip_with_name(tmp_path / "file.pth", name=b"\xf2\xad\xc3\xa9"))
    with pytest.raises(ModelFileError, match=r"is no torch\.export program"):
        read_program(zip_with_name(tmp_path / "file.pt2", name=b"\xf2\xad\xc3\xa9"))


def test_floats_beyond_whole_numbers_are_no_class_ids(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 1e30, np.float32)).save(tmp_path / "mask.tif")
    assert read_stored_mask(tmp_path / "mask.tif").values.dtype == np.float32
    with pytest.raises(ImageError, match="does not fit in 8 bits"):
        read_mask(tmp_path / "mask.tif")


def test_a_mask_that_states_bits_of_more_bands_than_it_has_is_one_of_ids(tmp_path: Path) -> None:
    ids = np.arange(16, dtype=np.uint16).reshape(4, 4, 1)
    one = tiff(ids)
    bits = struct.pack("<HHI", 258, 3, 1)  # BitsPerSample, a short
    place = one.index(bits)
    (tmp_path / "mask.tif").write_bytes(
        one[:place] + struct.pack("<HHII", 258, 3, 3, len(one)) + one[place + 12 :] + struct.pack("<HHH", 16, 16, 16)
    )
    stored = read_stored_mask(tmp_path / "mask.tif")
    assert np.array_equal(stored.values, ids[:, :, 0])
