"""Twelve bands through pretraining, and what weights remember of the photos they have seen."""

from __future__ import annotations

import json
import logging
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from simclrseg.commands import prepare_pretrain
from simclrseg.commands.finetune import finetune
from simclrseg.commands.prepare_finetune import prepare as prepare_finetuning
from simclrseg.commands.prepare_pretrain import images_to_train_on
from simclrseg.commands.prepare_pretrain import prepare as prepare_pretraining
from simclrseg.commands.pretrain import pretrain
from simclrseg.config.finetune import FinetuneConfig
from simclrseg.config.pretrain import PretrainConfig, PretrainData
from simclrseg.data.datasets.locate import open_dataset
from simclrseg.data.normalization import Normalization, band_statistics
from simclrseg.data.seen import image_hashes, overlap, warn_if_seen
from simclrseg.errors import DataError, Interrupted, UsageError
from simclrseg.metadata import IMAGENET_MEAN
from simclrseg.models.weights import read_metadata, read_weights
from simclrseg.runs.names import BACKBONE_FILE, ENVIRONMENT, MODEL_FILE
from simclrseg.training.normalization import choose_normalization
from simclrseg.training.session import Session
from tests.data.datasets.patches import write_patch
from tests.data.fakes import photo
from tests.folders import write, write_pairs
from tests.observers import stop_at
from tests.small import HARDWARE, MACHINE, evaluated, export_nothing

PATCHES, PHOTOS = 8, 40


@dataclass(frozen=True)
class Runs:
    """A backbone of 12 bands, one that saw test photos, and models of both."""

    folder: Path
    photos: Path

    def pretrain(self, **data: Any) -> Path:
        config = {
            "data": {"image_size": 32, **data},
            "model": {"backbone": "resnet18", "stem": "imagenet"},
            "training": {"epochs": 1, "batch_size": 4, "optimizer": "adam", "learning_rate": 1e-4},
            "hardware": HARDWARE,
            "console": {"runs": str(self.folder)},
        }
        return pretrain(PretrainConfig.model_validate(config)).run

    def finetune(self, pretrained: str, **data: Any) -> Path:
        config = {
            "data": {"dataset": str(self.photos), "image_size": 32, **data},
            "model": {"pretrained": pretrained},
            "training": {"epochs": 1, "batch_size": 8},
            "hardware": HARDWARE,
            "console": {"runs": str(self.folder)},
        }
        return finetune(FinetuneConfig.model_validate(config)).run


def write_photos(folder: Path) -> Path:
    """Photos with masks and a list of test photos."""
    photos = [photo(index, height=32, width=32) for index in range(PHOTOS)]
    masks = [(image[:, :, 0] > 127).astype(np.uint8) * 255 for image in photos]
    write_pairs(folder, {str(index): (photos[index], masks[index]) for index in range(PHOTOS)})
    (folder / "test.txt").write_text("\n".join(map(str, range(10))))
    return folder


def figures(tmp_path: Path, **values: Any) -> str:
    (tmp_path / "figures.yaml").write_text(yaml.safe_dump(values))
    return str(tmp_path / "figures.yaml")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("bands")
    for number in range(PATCHES):
        write_patch(folder / "data" / "bigearthnet", f"p{number}", value=150 * number)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIMCLRSEG_DATA", str(folder / "data"))
        made = Runs(folder / "runs", write_photos(folder / "photos"))
        made.pretrain(dataset=["bigearthnet"])
    return made


@pytest.fixture(scope="module")
def twelve(runs: Runs) -> Path:
    return runs.folder / "pretrain" / "bigearthnet"


@pytest.fixture(scope="module")
def saw_tests(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backbone that saw some of the test photos, normalised by the figures of a file."""
    file = figures(tmp_path_factory.mktemp("figures"), mean=[0.1, 0.2, 0.3], std=[0.4, 0.5, 0.6])
    return runs.pretrain(dataset=[str(runs.photos)], include_test=True, max_images=20, normalization=file)


@pytest.fixture(scope="module")
def model(runs: Runs, saw_tests: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        export_nothing(patch)
        return runs.finetune(str(saw_tests))


def test_a_backbone_of_12_bands_says_so_with_the_statistics_of_its_set(twelve: Path, runs: Runs, monkeypatch) -> None:
    monkeypatch.setenv("SIMCLRSEG_DATA", str(runs.folder.parent / "data"))
    metadata = read_metadata(twelve / BACKBONE_FILE)
    dataset = open_dataset("bigearthnet")
    assert (metadata.in_channels, metadata.bands, metadata.full_scale) == (12, dataset.bands, 10_000)
    assert Normalization(metadata.mean, metadata.std) == band_statistics(dataset, range(PATCHES), threads=1)
    tensors, _ = read_weights(twelve / BACKBONE_FILE)
    assert tensors["conv1.weight"].shape[1] == 12
    assert cv2.imread(str(twelve / "augmentations.png")).std() > 10  # views to look at


@pytest.mark.usefixtures("short_dry_runs")
def test_the_loss_of_bands_is_a_warning(runs: Runs, twelve: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = {
        "data": {"dataset": [str(runs.photos)], "image_size": 32},
        "model": {"backbone": "resnet18", "init": str(twelve)},
        "training": {"batch_size": 4},
        "hardware": HARDWARE,
        "run": {"dry_run": True},
    }
    with caplog.at_level(logging.WARNING):
        pretrain(PretrainConfig.model_validate(config))
    assert "which costs accuracy: first layer adapted from 12 bands to 3" in caplog.text


def test_photos_have_their_own_normalisation_where_the_weights_had_other_bands(runs: Runs, twelve: Path) -> None:
    source, photos = read_metadata(twelve / BACKBONE_FILE), open_dataset(str(runs.photos))
    chosen = choose_normalization(None, photos, [0], source=source, threads=1)
    assert chosen.mean == IMAGENET_MEAN  # reflectances have other means than photos


def test_weights_and_the_models_made_of_them_keep_their_figures(saw_tests: Path, model: Path) -> None:
    for file in (saw_tests / BACKBONE_FILE, model / MODEL_FILE):
        metadata = read_metadata(file)
        assert (metadata.mean, metadata.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


def test_weights_say_that_they_saw_a_test_list_where_they_or_their_start_did(
    runs: Runs, saw_tests: Path, tmp_path: Path
) -> None:
    bare = write_photos(tmp_path / "bare")
    (bare / "test.txt").unlink()

    def said(folder: Path, start: str = "none", **data: Any) -> bool:
        made = {"dataset": [str(folder)], "image_size": 32, **data}
        model, training = {"backbone": "resnet18", "init": start}, {"batch_size": 4, "epochs": 1}
        tree = {"data": made, "model": model, "training": training, "hardware": HARDWARE}
        facts = prepare_pretraining(Session("pretrain", PretrainConfig.model_validate(tree), MACHINE)).facts
        return bool(facts["include_test"])

    assert said(runs.photos, include_test=True) and not said(runs.photos)
    assert not said(bare, include_test=True)  # it has no such list
    assert said(bare, str(saw_tests))


def test_fine_tuning_on_photos_of_a_test_list_is_said_too(runs: Runs) -> None:
    for split, told in (("official", False), ("random", True)):
        data = {"dataset": str(runs.photos), "image_size": 32, "test_split": split}
        tree = {"data": data, "model": {"backbone": "cnn"}, "training": {"batch_size": 4}, "hardware": HARDWARE}
        found = prepare_finetuning(Session("finetune", FinetuneConfig.model_validate(tree), MACHINE))
        assert found.metadata.include_test is told


def test_evaluate_warns_of_test_photos_that_pretraining_saw(
    runs: Runs, model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    metadata = read_metadata(model / MODEL_FILE)
    assert metadata.include_test
    test = [index for index, key in enumerate(open_dataset(str(runs.photos)).keys) if int(Path(key).stem) < 10]
    count = overlap(metadata.seen, image_hashes(open_dataset(str(runs.photos)), test)).seen
    assert 0 < count < 10
    with caplog.at_level(logging.WARNING):
        evaluated(runs.folder, model)
        evaluated(runs.folder, model, split="train")  # says once what it was trained on, in words of its own
    told = [record.message for record in caplog.records if "to be scored" in record.message]
    assert told == [
        f"{count} of 10 photos to be scored were seen in training, with or without labels "
        f"({metadata.dataset}, begun with {metadata.pretrained}): expect lower scores on new photos",
        "27 of 27 photos to be scored were trained on by photos-photos: expect lower scores on new photos",
    ]


def test_copies_of_photos_that_were_trained_on_are_found_out(
    runs: Runs, model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy = write_photos(tmp_path / "copy")
    (copy / "test.txt").write_text("\n".join(map(str, range(20, 30))))
    with caplog.at_level(logging.WARNING):
        evaluated(runs.folder, model, dataset=str(copy))
    assert "10 of 10 photos to be scored were seen in training" in caplog.text


def test_nothing_is_said_of_photos_that_were_left_out(
    runs: Runs, twelve: Path, caplog: pytest.LogCaptureFixture
) -> None:
    photos = open_dataset(str(runs.photos))
    warn_if_seen(photos, range(len(photos)), read_metadata(twelve / BACKBONE_FILE))
    assert not caplog.records


def test_a_set_of_other_bands_cannot_be_scored(runs: Runs, model: Path, monkeypatch) -> None:
    from simclrseg.targets.segment import examination

    def other_bands(name: str, options: object) -> object:
        dataset = open_dataset(str(runs.photos))
        dataset.bands = ("red", "green", "blue", "nir")
        return dataset

    monkeypatch.setattr(examination, "open_dataset", other_bands)
    with pytest.raises(DataError, match=r"has the bands red, green, blue, nir up to 255, but the model was trained on"):
        evaluated(runs.folder, model, dataset=str(runs.photos))


def test_a_smaller_subset_is_among_the_larger_and_leaves_test_photos_out(runs: Runs) -> None:
    def chosen(count: int | None, seed: int = 0) -> set[int]:
        data = PretrainData.model_validate({"dataset": [str(runs.photos)], "max_images": count})
        return set(images_to_train_on(data, seed=seed)[1])

    whole, large, small = chosen(None), chosen(20), chosen(7)
    assert (len(whole), len(large), len(small)) == (PHOTOS - 10, 20, 7)
    assert small < large < whole and chosen(7) == small != chosen(7, seed=1)
    assert chosen(1000) == whole


def test_of_several_sets_a_photo_is_learned_from_once_and_a_copy_of_a_test_photo_never(
    runs: Runs, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in (3, 20, 21):  # the first of them tests
        write(tmp_path / "more" / f"copy of {number}.png", photo(number, height=32, width=32))
    write(tmp_path / "more" / "new.png", photo(PHOTOS, height=32, width=32))
    (tmp_path / "more" / "broken.png").write_bytes(b"no picture")

    def chosen(**data: Any) -> list[str]:
        names = [str(runs.photos), str(tmp_path / "more")]
        dataset, indices = images_to_train_on(PretrainData.model_validate({"dataset": names, **data}), seed=0)
        return [Path(dataset.keys[index]).stem for index in indices if index >= PHOTOS]

    with caplog.at_level(logging.INFO):
        assert chosen() == ["broken", "new"]  # what is wrong with the first is told when it is read
    assert "3 photos that are there twice, or that a published test list has too, are left out" in caplog.text
    assert chosen(include_test=True) == ["broken", "new"]


def test_photos_that_only_begin_alike_are_no_copies(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(6):  # BMPs begin with the lowest rows, which are more than 64 KiB of black
        picture = np.zeros((200, 200, 3), np.uint8)
        picture[:60] = photo(number, height=60, width=200)
        for folder in ("all",) if number < 4 else ("all", "more"):
            write(tmp_path / folder / f"{number}.bmp", picture)
    names = [str(tmp_path / "all"), str(tmp_path / "more")]
    with caplog.at_level(logging.INFO):
        _, indices = images_to_train_on(PretrainData.model_validate({"dataset": names}), seed=0)
    assert indices == [*range(6)]
    assert "2 photos that are there twice" in caplog.text


def test_a_run_that_began_with_copies_goes_on_with_them(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (20, 21):
        write(tmp_path / "more" / f"{number}.png", photo(number, height=32, width=32))
    config = {
        "data": {"image_size": 32, "dataset": [str(runs.photos), str(tmp_path / "more")]},
        "model": {"backbone": "cnn"},
        "training": {"epochs": 2, "batch_size": 4},
        "hardware": HARDWARE,
        "console": {"runs": str(tmp_path / "runs")},
    }
    with monkeypatch.context() as before:
        before.setattr(prepare_pretrain, "first_of_each", lambda parts, known: ([parts[0][1]], 0))
        with pytest.raises(Interrupted):
            pretrain(PretrainConfig.model_validate(config), observers=[stop_at(epoch=1, by=signal.SIGTERM)])
    run = next((tmp_path / "runs" / "pretrain").iterdir())
    began = json.loads((run / ENVIRONMENT).read_text())
    pretrain(PretrainConfig.model_validate(config | {"run": {"resume": run.name}}))
    now = json.loads((run / ENVIRONMENT).read_text())
    assert now["finished"] and (now["photos"], now["photos_hash"]) == (began["photos"], began["photos_hash"])
    anew = pretrain(PretrainConfig.model_validate(config | {"run": {"name": "anew"}})).run
    assert json.loads((anew / ENVIRONMENT).read_text())["photos"] == began["photos"] - 2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mean": [0.1], "std": [0.2]}, "has 1 means, but photos has the bands red, green, blue"),
        ({"mean": [120, 110, 100], "std": [0.2, 0.2, 0.2]}, r"means lie in \[0, 1\]"),
        ({"mean": [0.1, 0.1, 0.1], "std": [0.2, 0.2, 0]}, "every mean needs a std above 0"),
        ({"means": [0.1]}, r"cannot be read \(it has no key mean\): write `mean"),
    ],
)
def test_figures_that_do_not_fit_are_one_line(runs: Runs, tmp_path: Path, values: dict, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        runs.pretrain(dataset=[str(runs.photos)], normalization=figures(tmp_path, **values))
    assert "\n" not in str(caught.value)


def test_imagenets_figures_are_no_figures_of_12_bands(runs: Runs, monkeypatch) -> None:
    monkeypatch.setenv("SIMCLRSEG_DATA", str(runs.folder.parent / "data"))
    with pytest.raises(UsageError, match="not for the 12 bands of bigearthnet: pass --normalization dataset"):
        runs.pretrain(dataset=["bigearthnet"], normalization="imagenet")


def test_a_normalisation_that_is_nothing_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"'datset' is neither imagenet, dataset nor a file: did you mean 'dataset'\?"):
        PretrainData.model_validate({"dataset": ["shapes"], "normalization": "datset"})
