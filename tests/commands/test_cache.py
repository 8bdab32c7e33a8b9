"""--cache and the strengths of the augmentation, from the command line to what is trained."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from simclrseg.config.finetune import FinetuneConfig
from simclrseg.config.pretrain import PretrainConfig
from simclrseg.data.augment import STRENGTHS
from simclrseg.data.cache import cached
from simclrseg.data.datasets.dataset import FileDataset
from simclrseg.data.split_file import SPLIT_FILE
from simclrseg.errors import UsageError
from simclrseg.knobs.parsing import dump_config, parse_config
from simclrseg.runs.claim import claim
from simclrseg.runs.names import CHECKPOINT
from simclrseg.runs.run import record_facts
from simclrseg.system.files import write_text
from simclrseg.targets.segment.examination import open_masks
from tests.data.fakes import photo
from tests.folders import write_pairs
from tests.small import HARDWARE


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "simclrseg" / "decoded"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    images = [photo(i, height=40, width=48) for i in range(20)]
    pairs = {str(i): (image, (image[:, :, 0] > 127).astype(np.uint8)) for i, image in enumerate(images)}
    return write_pairs(tmp_path / "photos", pairs)


def pretraining(photos: Path, **data: Any) -> PretrainConfig:
    tree = {
        "data": {"dataset": [str(photos)], "image_size": 32, **data},
        "model": {"backbone": "cnn"},
        "training": {"epochs": 2, "batch_size": 8},
        "hardware": HARDWARE,
        "console": {"runs": str(photos.parent / "runs")},
    }
    return parse_config(PretrainConfig, tree)


def test_pretraining_learns_the_same_whatever_the_cache(photos, folder):
    from simclrseg.commands.pretrain import pretrain

    plain, kept = (load_file(pretrain(pretraining(photos, cache=where)).backbone) for where in ("none", "disk"))
    assert all(np.array_equal(plain[name], kept[name]) for name in plain)
    assert len(list(folder.iterdir())) == 1


@pytest.mark.usefixtures("short_dry_runs")
@pytest.mark.parametrize("command", ["pretrain", "finetune"])
def test_a_dry_run_leaves_no_cache_behind(photos, folder, command):
    from simclrseg.commands.finetune import finetune
    from simclrseg.commands.pretrain import pretrain

    config = pretraining(photos, cache="disk").model_dump()
    config["run"] = {"dry_run": True}
    if command == "pretrain":
        result = pretrain(parse_config(PretrainConfig, config))
    else:
        data = {"dataset": str(photos), "image_size": 32, "cache": "disk"}
        result = finetune(
            parse_config(
                FinetuneConfig,
                {
                    "data": data,
                    "model": {"backbone": "cnn"},
                    "training": {"batch_size": 8},
                    "hardware": HARDWARE,
                    "run": {"dry_run": True},
                    "console": config["console"],
                },
            )
        )
    assert result.images_per_second > 0 and not folder.exists()


def test_finetuning_keeps_photos_and_masks(photos, folder, monkeypatch, unexported):
    from simclrseg.commands.finetune import finetune

    tree = {
        "data": {"dataset": str(photos), "image_size": 32, "cache": "disk"},
        "model": {"backbone": "cnn"},
        "training": {"epochs": 1, "batch_size": 8},
        "hardware": HARDWARE,
        "console": {"runs": str(photos.parent / "runs")},
    }
    config = parse_config(FinetuneConfig, tree)
    split = json.loads((finetune(config).run / SPLIT_FILE).read_text())
    files = sorted(folder.iterdir())
    assert [path.name.split("-")[1] for path in files] == ["masks", "photos"]
    dataset = open_masks(config.data)
    read = [dataset.keys.index(key) for key in split["train"] + split["validation"]]
    assert len(read) == 16  # without the fifth that is for the test
    kept = cached(dataset, read, where="disk", masks=True)
    monkeypatch.setattr(FileDataset, "image", pytest.fail)
    monkeypatch.setattr(FileDataset, "mask", pytest.fail)
    assert all(kept.image(index).any() and kept.mask(index).size for index in read)


def test_a_resumed_run_may_keep_its_pictures_elsewhere_but_not_augment_otherwise(photos):
    from simclrseg.training.folder import resumed_run

    config = pretraining(photos)
    run = claim(Path(config.console.runs), "pretrain", "begun")
    record_facts(run, started="now")
    write_text(run.folder / "config.yaml", dump_config(config))
    (run.folder / CHECKPOINT).parent.mkdir(parents=True, exist_ok=True)
    (run.folder / CHECKPOINT).touch()

    def resumed(**data: Any) -> PretrainConfig:
        asked = pretraining(photos, **data)
        return asked.model_copy(update={"run": asked.run.model_copy(update={"resume": "begun"})})

    run, _ = resumed_run("pretrain", resumed(cache="none"))
    assert run.name == "begun"
    with pytest.raises(UsageError, match=r"data\.crop_scale cannot differ"):
        resumed_run("pretrain", resumed(crop_scale=0.5))


def test_strengths_are_the_presets_unless_they_are_given(photos):
    from simclrseg.commands.prepare_pretrain import strengths_of

    assert strengths_of(pretraining(photos).data) == STRENGTHS["seed"]
    config = pretraining(
        photos,
        augmentation="paper",
        crop_scale=0.3,
        color_strength=0.25,
        blur_probability=0.0,
        grayscale_probability=0.1,
    )
    assert strengths_of(config.data) == replace(
        STRENGTHS["paper"],
        crop_scale=(0.3, 1.0),
        brightness=0.2,
        contrast=0.2,
        saturation=0.2,
        hue=0.05,
        blur_probability=0.0,
        grayscale_probability=0.1,
    )


@pytest.mark.parametrize(
    ("knob", "value"),
    [
        ("crop_scale", 0),
        ("crop_scale", 1.1),
        ("color_strength", 2.6),  # a hue shift beyond half a turn
        ("blur_probability", 1.5),
        ("grayscale_probability", -0.1),
        ("cache", "tape"),
    ],
)
def test_an_impossible_value_names_its_knob(photos, knob, value):
    with pytest.raises(UsageError, match=f"data.{knob}"):
        pretraining(photos, **{knob: value})
