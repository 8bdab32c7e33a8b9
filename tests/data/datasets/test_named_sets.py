"""The named sets: found, fetched or missed."""

from __future__ import annotations

import pickle
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torchvision
from PIL import Image

from simclrseg.data.datasets import DATASETS, cats_vs_dogs, eurosat, fetch
from simclrseg.data.datasets.dataset import DatasetOptions
from simclrseg.data.datasets.locate import data_root, open_dataset
from simclrseg.data.datasets.shapes import SIDE, Shapes
from simclrseg.errors import DataError
from simclrseg.labels.classes import numbered_classes
from simclrseg.metadata import voc_colours


def copy_cifar(real_data: Path, into: Path) -> Path:
    folder = into / "cifar-10-batches-py"
    folder.mkdir()
    for file in (real_data / "cifar10" / "cifar-10-batches-py").iterdir():
        shutil.copyfile(file, folder / file.name)
    return folder


FILES = [name for name in DATASETS if name != "shapes"]


def test_oxford_pets_has_its_lists_masks_and_breeds(real_data, monkeypatch):
    monkeypatch.setenv("SIMCLRSEG_DATA", str(real_data))
    pets = open_dataset("oxford_pets")
    assert (len(pets), len(pets.official["trainval"]), len(pets.official["test"])) == (1076, 561, 515)
    assert pets.classes == ("background", "pet")
    assert pets.border == "pet"
    assert all(pets.has_mask(index) for index in range(len(pets)))
    for index in range(0, len(pets), 40):
        assert pets.image(index).shape[:2] == pets.mask(index).shape
        breed = pets.label_names[pets.labels[index]]
        assert pets.keys[index].startswith(f"oxford-iiit-pet/images/{breed}_")


def test_the_border_counts_as_the_user_says(real_data, monkeypatch):
    monkeypatch.setenv("SIMCLRSEG_DATA", str(real_data))
    pet, background, ignore = (
        open_dataset("oxford_pets", DatasetOptions(border=rule)).mask(0) for rule in ("pet", "background", "ignore")
    )
    border = ignore == 255
    assert border.any()
    assert (pet[border] == 1).all()
    assert (background[border] == 0).all()
    np.testing.assert_array_equal(pet[~border], ignore[~border])


def test_a_trimap_with_other_values_is_named(tmp_path):
    base = tmp_path / "oxford-iiit-pet"
    (base / "images").mkdir(parents=True)
    (base / "annotations" / "trimaps").mkdir(parents=True)
    for split, stem in (("trainval", "Abyssinian_1"), ("test", "pug_2")):
        (base / "annotations" / f"{split}.txt").write_text(f"{stem} 1 1 1\n")
        Image.new("RGB", (3, 2)).save(base / "images" / f"{stem}.jpg")
        Image.fromarray(np.array([[1, 2, 3], [0, 9, 1]], np.uint8)).save(base / "annotations/trimaps" / f"{stem}.png")
    dataset = DATASETS["oxford_pets"](tmp_path, DatasetOptions())
    with pytest.raises(DataError, match=r"Abyssinian_1\.png has values \[0, 1, 2, 3, 9\]"):
        dataset.mask(0)


def test_cats_and_dogs_have_labels(real_data, monkeypatch):
    monkeypatch.setenv("SIMCLRSEG_DATA", str(real_data))
    dataset = open_dataset("cats_vs_dogs")
    assert (len(dataset), dataset.label_names, dataset.official) == (1500, ("cat", "dog"), {})
    for index in (0, -1):
        assert dataset.keys[index].startswith(dataset.label_names[dataset.labels[index]])


@pytest.mark.parametrize("names", [("Cat", "Dog"), ("cats", "dogs")])
def test_other_spellings_of_cat_and_dog_are_found(tmp_path, names):
    for name in names:
        (tmp_path / name).mkdir()
        Image.new("RGB", (3, 3)).save(tmp_path / name / "1.jpg")
    assert DATASETS["cats_vs_dogs"](tmp_path, DatasetOptions()).labels.tolist() == [0, 1]


def test_short_cifar_batches_are_read_and_their_sizes_said(real_data, monkeypatch):
    monkeypatch.setenv("SIMCLRSEG_DATA", str(real_data))
    dataset = open_dataset("cifar10")
    assert (len(dataset.official["trainval"]), len(dataset.official["test"])) == (5000, 1000)
    assert "data_batch_1 1,000" in dataset.summary[1]
    index = next(iter((real_data / "cifar10/png/test/cat").iterdir()))
    key = dataset.keys.index(f"test_batch/{int(index.stem):05d}")
    with Image.open(index) as picture:
        np.testing.assert_array_equal(dataset.image(key), np.asarray(picture.convert("RGB")))
    assert dataset.label_names[dataset.labels[key]] == "cat"


def test_a_cifar_batch_that_would_run_code_is_refused(real_data, tmp_path):
    class Evil:
        def __reduce__(self):
            return (exec, ("raise SystemExit('it ran')",))

    folder = copy_cifar(real_data, tmp_path)
    (folder / "test_batch").write_bytes(pickle.dumps({"data": Evil(), "labels": []}))
    with pytest.raises(DataError, match=r"test_batch is not a batch file.*exec has no place in it"):
        DATASETS["cifar10"](tmp_path, DatasetOptions())


@pytest.mark.parametrize("name", FILES)
def test_a_set_that_is_absent_is_one_line_with_folder_layout_and_address(tmp_path, monkeypatch, name):
    def no_network(*args, **kwargs):
        raise OSError("Network\nis unreachable")

    monkeypatch.setenv("SIMCLRSEG_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(torchvision.datasets, "OxfordIIITPet", no_network)
    monkeypatch.setattr(torchvision.datasets, "CIFAR10", no_network)
    monkeypatch.setattr(torchvision.datasets, "VOCSegmentation", no_network)
    monkeypatch.setattr(torchvision.datasets, "EuroSAT", no_network)
    for module in (cats_vs_dogs, eurosat):
        monkeypatch.setattr(module, "reach_hub", no_network)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=10**11))
    with pytest.raises(DataError) as caught:
        open_dataset(name)
    message = str(caught.value)
    assert str(tmp_path / "data" / name) in message
    assert "expected there" in message
    assert "https://" in message
    assert "\n" not in message
    assert ("Network is unreachable" in message) == (name != "bigearthnet")  # 66 GB, by hand
    assert not (tmp_path / "data").exists()


def test_what_is_fetched_is_put_in_place_whole(tmp_path, monkeypatch, real_data):
    def download(root, **options):
        copy_cifar(real_data, Path(root))

    monkeypatch.setenv("SIMCLRSEG_DATA", str(tmp_path))
    monkeypatch.setattr(torchvision.datasets, "CIFAR10", download)
    assert len(open_dataset("cifar10")) == 6000
    assert [child.name for child in (tmp_path / "cifar10").iterdir()] == ["cifar-10-batches-py"]


def test_what_is_fetched_says_nothing_on_stdout(tmp_path, capsys):
    def download(folder):
        print("torchvision talks")  # noqa: T201
        (folder / "x").touch()

    source = fetch.Source("toy", "a file x", "https://example.org", download=1, disk=1)
    fetch.fetch(source, tmp_path / "toy", download, entries=("x",))
    assert capsys.readouterr().out == ""
    assert (tmp_path / "toy" / "x").exists()


def test_cats_and_dogs_from_the_hub_become_two_folders(tmp_path, monkeypatch):
    import datasets

    rows = datasets.Dataset.from_dict(
        {"image": [{"bytes": b"first", "path": None}, {"bytes": b"second", "path": None}], "labels": [1, 0]},
        features=datasets.Features({"image": datasets.Image(), "labels": datasets.ClassLabel(names=["cat", "dog"])}),
    )
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **kwargs: rows)
    monkeypatch.setattr(cats_vs_dogs, "reach_hub", lambda: None)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=10**10))
    cats = DATASETS["cats_vs_dogs"](tmp_path / "cats", DatasetOptions())
    assert (tmp_path / "cats" / "dog" / "dog.0.jpg").read_bytes() == b"first"
    assert (tmp_path / "cats" / "cat" / "cat.1.jpg").read_bytes() == b"second"
    assert [cats.label_names[label] for label in cats.labels] == ["cat", "dog"]


def test_a_full_disk_is_noticed_before_the_first_byte(tmp_path):
    source = fetch.Source("huge", "all of it", "https://example.org", download=1, disk=10**18)
    with pytest.raises(DataError, match=r"needs 1000000000\.0 GB"):
        fetch.fetch(source, tmp_path / "huge", lambda folder: pytest.fail("it began"), entries=("x",))
    assert not (tmp_path / "huge").exists()


def test_of_two_processes_that_fetch_a_set_both_have_it(tmp_path):
    def download(folder):
        for place in (folder, tmp_path):  # the other one is sooner
            (place / "x").mkdir()
            (place / "x" / "photo.jpg").write_text(place.name)

    source = fetch.Source("toy", "a folder x", "https://example.org", download=1, disk=1)
    fetch.fetch(source, tmp_path, download, entries=("x",))
    assert (tmp_path / "x" / "photo.jpg").read_text() == tmp_path.name
    assert [child.name for child in tmp_path.iterdir()] == ["x"]


def test_half_a_set_is_not_overwritten(tmp_path):
    (tmp_path / "x").mkdir()
    source = fetch.Source("toy", "a folder x", "https://example.org", download=1, disk=1)
    with pytest.raises(DataError, match="remove it to fetch it anew"):
        fetch.fetch(source, tmp_path, lambda folder: pytest.fail("it began"), entries=("x",))


@pytest.mark.parametrize("name", ["photos", "./photos", "/gone/photos"])
def test_the_folder_of_a_run_that_is_gone_is_to_be_put_back(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=f"^{re.escape(name)}: no such folder; put it back where it was$"):
        open_dataset(name)


def test_a_relative_folder_is_opened_by_its_name(tmp_path, monkeypatch):
    (tmp_path / "holiday").mkdir()
    Image.new("RGB", (3, 3)).save(tmp_path / "holiday" / "1.jpg")
    monkeypatch.chdir(tmp_path)
    assert open_dataset("holiday").name == open_dataset("./holiday/").name == "holiday"


def test_sets_lie_in_the_cache_unless_told_otherwise(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("SIMCLRSEG_DATA", raising=False)
    assert data_root() == tmp_path / "simclrseg" / "data"
    monkeypatch.setenv("SIMCLRSEG_DATA", str(tmp_path / "mine"))
    assert data_root() == tmp_path / "mine"


def test_a_named_set_refuses_a_classes_file_and_rules_for_masks():
    with pytest.raises(DataError, match="brings its own classes"):
        open_dataset("shapes", DatasetOptions(classes=numbered_classes(2)))
    with pytest.raises(DataError, match="--masks is for masks of your own; shapes is read by its own rule"):
        open_dataset("shapes", DatasetOptions(mask_rules={"foreground": None}))


def test_shapes_depend_on_seed_and_index_alone():
    one, two, other = Shapes(), Shapes(), Shapes(seed=1)
    np.testing.assert_array_equal(one.image(7), two.image(7))
    np.testing.assert_array_equal(one.mask(7), two.mask(7))
    assert (one.image(7) != one.image(11)).any()
    assert (one.image(7) != other.image(7)).any()


def test_shapes_have_photos_masks_and_labels():
    dataset = open_dataset("shapes")
    assert len(dataset) == len(set(dataset.keys)) == len(dataset.labels) == 512
    assert dataset.official == {"test": tuple(range(410, 512))}
    for index in range(16):
        image, mask = dataset.image(index), dataset.mask(index)
        assert (image.shape, mask.shape) == ((SIDE, SIDE, 3), (SIDE, SIDE))
        assert set(np.unique(mask)) == {0, 1}
        assert dataset.keys[index].startswith(dataset.label_names[dataset.labels[index]])


def test_no_colour_separates_figures_from_ground():
    dataset = Shapes(200)
    pixels = np.concatenate([dataset.image(index).reshape(-1, 3) for index in range(200)]) // 32
    truth = np.concatenate([dataset.mask(index).ravel() for index in range(200)]).astype(bool)
    code = pixels @ np.array([64, 8, 1])
    half = len(code) // 2
    share = np.bincount(code[:half], truth[:half], 512) / np.maximum(np.bincount(code[:half], minlength=512), 1)
    scores = share[code[half:]]  # the best that colour alone can tell
    best = max(
        (truth[half:] & (scores >= cut)).sum() / (truth[half:] | (scores >= cut)).sum() for cut in np.linspace(0, 1, 21)
    )
    assert best < 0.3


def test_class_colours_are_distinct_and_begin_with_black():
    colours = voc_colours(254)
    assert colours[:3] == ((0, 0, 0), (128, 0, 0), (0, 128, 0))
    assert len(set(colours)) == 254
