"""Sets of the Hub, read by its own library from local files: parquet, what it has saved, and folders."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from simclrseg.config.pretrain import PretrainData
from simclrseg.data.cache import Cached, cached
from simclrseg.data.datasets import hub
from simclrseg.data.datasets.dataset import DatasetOptions
from simclrseg.data.datasets.locate import open_dataset
from simclrseg.errors import DataError
from tests.data.fakes import photo

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Caches of our own and of the library below the test's folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "library")
    datasets.disable_progress_bars()
    return tmp_path


def picture(seed: int, *, mask: bool = False) -> dict[str, object]:
    array = photo(seed, height=12, width=16)
    array = (array[:, :, 0] > 127).astype(np.uint8) if mask else array[:, :, ::-1]
    return {"bytes": cv2.imencode(".png", array)[1].tobytes(), "path": None}


def table(count: int, first: int = 0, **columns: object) -> datasets.Dataset:
    """Photos with classes and masks, and a column of text; further columns are lists of pictures."""
    seeds = range(first, first + count)
    features = {
        "text": datasets.Value("string"),
        "photo": datasets.Image(),
        "kind": datasets.ClassLabel(names=["cat", "dog", "owl"]),
        "mask": datasets.Image(),
    }
    content = {
        "text": [f"no. {seed}" for seed in seeds],
        "photo": [picture(seed) for seed in seeds],
        "kind": [seed % 3 for seed in seeds],
        "mask": [picture(seed, mask=True) for seed in seeds],
    }
    for column, values in columns.items():
        if values is None:
            del features[column], content[column]
        else:
            features[column], content[column] = (
                (datasets.Image() if not isinstance(values[0], int) else datasets.ClassLabel(3)),
                values,
            )
    return datasets.Dataset.from_dict(content, features=datasets.Features(features))


def parquet(folder: Path, **parts: datasets.Dataset) -> str:
    (folder / "data").mkdir(parents=True)
    for split, part in parts.items():
        part.to_parquet(folder / "data" / f"{split}-00000.parquet")
    return f"hf:{folder}"


def saved(folder: Path, **parts: datasets.Dataset) -> str:
    datasets.DatasetDict(parts).save_to_disk(folder)
    return f"hf:{folder}"


@pytest.mark.parametrize("save", [parquet, saved])
def test_columns_are_found_by_their_types_and_parts_are_lists(tmp_path: Path, save) -> None:
    name = save(tmp_path / "set", train=table(5), test=table(3, first=5))
    dataset = open_dataset(name)
    assert len(dataset) == 8
    assert dataset.official == {"train": (0, 1, 2, 3, 4), "test": (5, 6, 7)}
    assert dataset.labels.tolist() == [0, 1, 2, 0, 1, 2, 0, 1] and dataset.label_names == ("cat", "dog", "owl")
    assert dataset.classes == ("background", "foreground")
    for index in range(8):
        np.testing.assert_array_equal(dataset.image(index), photo(index, height=12, width=16))
        np.testing.assert_array_equal(dataset.mask(index), photo(index, height=12, width=16)[:, :, 0] > 127)
    assert dataset.keys[5] == "photo/test/0000000.png"


def test_pictures_are_written_once_and_kept_decoded_like_those_of_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = parquet(tmp_path / "set", train=table(4))
    first = open_dataset(name)
    monkeypatch.setattr(hub, "fetch", lambda *args, **options: pytest.fail("written again"))
    again = open_dataset(name)
    assert isinstance(cached(again, range(4), where="ram", masks=True), Cached)
    assert [again.path(index) for index in range(4)] == [first.path(index) for index in range(4)]
    assert again.official == {}  # one part is no split


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_photos_of_12_bits_have_their_own_range_whatever_file_the_table_holds(tmp_path: Path, suffix: str) -> None:
    values = np.linspace(0, 4000, 12 * 16).astype(np.uint16).reshape(12, 16)
    cell = {"bytes": cv2.imencode(suffix, values)[1].tobytes(), "path": None}
    features = datasets.Features({"photo": datasets.Image()})
    name = saved(tmp_path / "set", train=datasets.Dataset.from_dict({"photo": [cell] * 3}, features=features))
    dataset = open_dataset(name)
    assert dataset.reach == (0, 4095) and dataset.image(0).max() == 249


def test_pictures_that_another_process_is_writing_or_was_killed_over_are_written_anew(tmp_path: Path) -> None:
    name = parquet(tmp_path / "set", train=table(4))
    first = open_dataset(name)
    root = first.path(0).parents[2]
    for column in ("photo", "mask"):  # each is put in place when all are whole
        shutil.rmtree(root / column)
    (root / ".simclrseg-x" / "photo" / "train").mkdir(parents=True)
    again = open_dataset(name)
    assert again.keys == first.keys and again.has_mask(3)
    np.testing.assert_array_equal(again.image(3), photo(3, height=12, width=16))


def test_a_changed_set_is_not_taken_for_the_old_one(tmp_path: Path) -> None:
    old = open_dataset(saved(tmp_path / "set", train=table(3)))
    new = open_dataset(saved(tmp_path / "set", train=table(3, first=7)))
    np.testing.assert_array_equal(new.image(0), photo(7, height=12, width=16))
    assert old.path(0) != new.path(0)


def test_a_folder_of_classes_is_read_from_its_own_files(tmp_path: Path) -> None:
    for index, kind in enumerate("aabb"):
        (tmp_path / "set" / kind).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "set" / kind / f"{index}.png"), photo(index, height=12, width=16)[:, :, ::-1])
    dataset = open_dataset(f"hf:{tmp_path / 'set'}")
    assert dataset.labels.tolist() == [0, 0, 1, 1] and dataset.label_names == ("a", "b")
    assert dataset.path(2) == tmp_path / "set" / "b" / "2.png"
    assert not (tmp_path / "cache").exists()  # nothing was copied


def test_pretraining_leaves_masks_unread(tmp_path: Path) -> None:
    name = parquet(tmp_path / "set", train=table(3, mask=[{"bytes": b"broken", "path": None}] * 3))
    assert not open_dataset(name, DatasetOptions(masks=False)).has_masks


def test_an_empty_cell_is_a_photo_without_a_mask(tmp_path: Path) -> None:
    masks = [picture(0, mask=True), None, picture(2, mask=True)]
    dataset = open_dataset(parquet(tmp_path / "set", train=table(3, mask=masks)))
    assert [dataset.has_mask(index) for index in range(3)] == [True, False, True]


def test_a_row_without_a_photo_is_left_out(tmp_path: Path) -> None:
    photos = [picture(0), None, picture(2), None]
    name = parquet(tmp_path / "set", train=table(4, photo=photos), test=table(2, first=4))
    dataset = open_dataset(name)
    assert len(dataset) == 4 and len(set(dataset.keys)) == 4
    assert dataset.official == {"train": (0, 1), "test": (2, 3)}
    assert dataset.labels.tolist() == [0, 2, 1, 2]
    assert "left out: 2 rows without a photo" in dataset.summary
    np.testing.assert_array_equal(dataset.image(1), photo(2, height=12, width=16))
    np.testing.assert_array_equal(dataset.mask(1), photo(2, height=12, width=16)[:, :, 0] > 127)


def test_a_part_without_a_photo_is_no_list(tmp_path: Path) -> None:
    name = parquet(tmp_path / "set", train=table(4), test=table(2, first=4, photo=[None, None]))
    assert open_dataset(name).official == {}


def test_an_empty_column_of_masks_is_one_line(tmp_path: Path) -> None:
    name = parquet(tmp_path / "set", train=table(3).map(lambda row: {"mask": None}))
    with pytest.raises(DataError, match="column 'mask' holds no masks; name another with --mask-column"):
        open_dataset(name)


def test_a_number_of_classes_holds_as_for_a_folder(tmp_path: Path) -> None:
    ids = np.array([[0, 2]], np.uint8).repeat(12, axis=0).repeat(8, axis=1)
    masks = [{"bytes": cv2.imencode(".png", ids)[1].tobytes(), "path": None}] * 3
    name = parquet(tmp_path / "set", train=table(3, mask=masks))
    with pytest.raises(DataError, match="1 occurs in no mask"):
        open_dataset(name)
    assert len(open_dataset(name, DatasetOptions(class_count=3)).classes) == 3


def test_flags_name_columns_where_types_do_not_tell(tmp_path: Path) -> None:
    name = parquet(tmp_path / "set", train=table(3, left=[picture(9)] * 3, colour=[2, 1, 0]))
    options = DatasetOptions(image_column="left", mask_column="mask", label_column="colour")
    dataset = open_dataset(name, options)
    np.testing.assert_array_equal(dataset.image(0), photo(9, height=12, width=16))
    assert dataset.labels.tolist() == [2, 1, 0]
    by_text = open_dataset(name, DatasetOptions(label_column="text"))
    assert by_text.label_names == ("no. 0", "no. 1", "no. 2")
    assert open_dataset(name).labels is None  # kind or colour: nobody said


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"photo": None, "mask": None}, {}, r"no column of images \(it has text \(string\), kind \(int64\)\)"),
        ({"photo": None, "left": [picture(1)] * 2}, {}, r"several columns of images \(mask, left\).*--image-column"),
        ({}, {"image_column": "foto"}, r"--image-column foto: there is no such column; .* has text \(string\), photo"),
        ({}, {"image_column": "text"}, "--image-column text: that column holds no images"),
        ({}, {"mask_column": "kind"}, "--mask-column kind: that column holds no masks"),
        ({}, {"label_column": "mask"}, "--label-column mask: that column holds no classes"),
        ({"mask": [picture(1)] * 2}, {}, "is an RGB mask"),
    ],
)
def test_columns_that_do_not_fit_are_one_line(tmp_path: Path, columns: dict, options: dict, message: str) -> None:
    name = parquet(tmp_path / "set", train=table(2, **columns))
    with pytest.raises(DataError, match=message) as caught:
        open_dataset(name, DatasetOptions(**options))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["hf:nobody/nothing", "hf:nobody/nothing/part@main"])
def test_without_a_network_it_is_one_line_at_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent() -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr(hub, "reach_hub", silent)
    with pytest.raises(
        DataError, match=r"hf:nobody/nothing.* cannot be opened \(Couldn't reach.*fetched before"
    ) as caught:
        open_dataset(name)
    assert "\n" not in str(caught.value)
    assert not datasets.config.HF_HUB_OFFLINE  # as it was


def test_what_is_no_name_of_a_set_says_how_one_looks(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is called hf:owner/name, and there is no such folder"):
        open_dataset("hf:nothing")
    (tmp_path / "set").mkdir()
    with pytest.raises(DataError, match="cannot be opened"):
        open_dataset(f"hf:{tmp_path / 'set'}")


def test_a_set_of_the_hub_is_a_dataset_in_the_configuration() -> None:
    assert PretrainData.model_validate({"dataset": ["hf:owner/name"]}).dataset == ["hf:owner/name"]
    with pytest.raises(ValueError, match="neither a dataset nor a folder"):
        PretrainData.model_validate({"dataset": ["hf:"]})
