"""Models that are one recipe: how it is called, which seeds count, and what each is compared with."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from simclrseg.config.finetune import FinetuneConfig
from simclrseg.config.pretrain import PretrainConfig
from simclrseg.evaluation.groups import Group, grouped
from simclrseg.knobs.parsing import dump_config, parse_config
from simclrseg.runs.names import BACKBONE_FILE
from simclrseg.runs.run import Run, record_facts
from simclrseg.training.folder import PROLONGED
from simclrseg.weights.find import PRETRAINED_FILE


class Scored:
    """What a model scored on 20 images."""

    def __init__(self, value: float) -> None:
        self.right, self.keys = np.full(20, value), tuple(map(str, range(20)))

    def resampled(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        return {"iou": weights @ self.right / weights.sum(1)}


def model(
    name: str, *, seed: int = 0, value: float = 0.5, start: Path | None = None, training: Any = None, **data: Any
) -> Any:
    """A fine-tuned run in ``runs``, as an evaluation knows it."""
    folder = Path("runs/finetune", name)
    folder.mkdir(parents=True)
    pretrained = {"pretrained": start.name} if start else {}
    tree = {
        "data": {"dataset": "shapes", **data},
        "model": pretrained,
        "run": {"seed": seed},
        "training": training or {},
    }
    (folder / "config.yaml").write_text(dump_config(parse_config(FinetuneConfig, tree)))
    if start:
        record_facts(Run(folder), **{PRETRAINED_FILE: str(start / BACKBONE_FILE)})
    origin = {"pretrained": start.name if start else "none", "encoder": "cnn", "unlabelled": False}
    metadata = SimpleNamespace(data={"data_ratio": data.get("data_ratio", 1.0), "max_images": data.get("max_images")})
    scores = Scored(value)
    return SimpleNamespace(
        name=name, kind="run", path=folder, scores=scores, deciding="iou", origin=origin, metadata=metadata
    )


def pretraining(name: str, seed: int) -> Path:
    folder = Path("runs/pretrain", name).absolute()
    folder.mkdir(parents=True)
    tree = {"data": {"dataset": "shapes"}, "run": {"seed": seed}}
    (folder / "config.yaml").write_text(dump_config(parse_config(PretrainConfig, tree)))
    (folder / BACKBONE_FILE).touch()
    return folder


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)


def groups(*models: Any, baseline: int = 0) -> dict[str, Group]:
    found = grouped(models, models[baseline].name, root=Path("runs"))
    assert len({group.name for group in found}) == len(found)
    return {group.name: group for group in found}


@pytest.mark.parametrize(
    ("names", "called"),
    [
        (("x-s0", "x-s1"), "x"),
        (("x-seed-0", "x-seed-1"), "x"),
        (("x", "x-2"), "x"),
        (("x-seed-0-max_images-20", "x-seed-1-max_images-20"), "x-max_images-20"),
        (("seed-0-of-x", "seed-1-of-x"), "seed-0-of-x"),
    ],
)
def test_a_recipe_has_the_name_of_its_models_without_the_seed_alone(names, called):
    several = [model(name, seed=seed) for seed, name in enumerate(names)]
    assert list(groups(*several, model("other", data_ratio=0.5))) == [called, "other"]


def test_no_recipe_has_the_name_of_another_model():
    several = [model(name, seed=seed, value=0.6) for seed, name in enumerate(("x-2", "x-3"))]
    found = groups(*several, model("x", data_ratio=0.5))
    assert list(found) == ["x-2", "x"]
    assert found["x"].baseline == "x-2"


def test_a_training_that_was_repeated_with_its_seed_is_no_second_seed(caplog):
    repeated = [model("x"), model("x-2"), model("x-3", seed=1, value=0.6)]
    with caplog.at_level(logging.WARNING):
        found = groups(*repeated, model("other", data_ratio=0.5), baseline=1)
    assert [one.name for one in found["x-2"].models] == ["x-2", "x-3"]  # the baseline stays
    assert found["x-2"].metrics["iou"].value == pytest.approx(0.55)
    assert "x repeats x-2 with its seed, and does not count as another" in caplog.text
    assert groups(*(model(name) for name in ("y", "y-2"))) == {}


def test_starts_that_differ_by_the_seed_of_their_pretraining_are_one_recipe():
    starts = [pretraining(f"p-seed-{seed}", seed) for seed in (0, 1)]
    found = groups(*(model(f"x-s{number}", start=start) for number, start in enumerate(starts)), model("other"))
    assert [one.name for one in found["x"].models] == ["x-s0", "x-s1"]


def test_a_training_that_got_its_epochs_in_two_parts_is_of_another_recipe():
    several = [model(f"x-s{seed}", seed=seed) for seed in (0, 1, 2)]
    record_facts(Run(several[2].path), **{PROLONGED: [{"epochs": 30, "from_step": 40}]})
    assert [len(one.models) for one in groups(*several).values()] == [2, 1]
    starts = [pretraining(f"p-s{seed}", seed) for seed in (0, 1, 2)]
    record_facts(Run(starts[2]), **{PROLONGED: [{"epochs": 30, "from_step": 40}]})
    begun = [model(f"y-s{number}", start=start) for number, start in enumerate(starts)]
    assert [len(one.models) for one in groups(*begun).values()] == [2, 1]


def test_a_recipe_of_another_share_is_compared_with_the_baselines_start_of_that_share():
    start = pretraining("p", 0)
    models = [
        model(f"{name}-{ratio}-s{seed}", seed=seed, data_ratio=ratio, start=before)
        for name, before in (("none", None), ("p", start))
        for ratio in (0.2, 0.5)
        for seed in (0, 1)
    ]
    against = {name: group.baseline for name, group in groups(*models).items()}
    assert against == {"none-0.2": None, "none-0.5": "none-0.2", "p-0.2": "none-0.2", "p-0.5": "none-0.5"}


def test_of_several_recipes_with_that_share_it_is_the_baselines_own():
    models = [
        model(f"{side}-{ratio}-s{seed}", seed=seed, data_ratio=ratio, image_size=side)
        for ratio in (0.2, 0.5)
        for side in (64, 32)
        for seed in (0, 1)
    ]
    against = {name: group.baseline for name, group in groups(*models, baseline=2).items()}
    assert against == {"32-0.2": None, "64-0.2": "32-0.2", "64-0.5": "32-0.5", "32-0.5": "32-0.2"}


def test_trainings_by_another_micro_batch_are_of_another_recipe():
    several = [model(f"x-s{seed}", seed=seed) for seed in (0, 1)] + [model("x-s2", seed=2, training={"micro_batch": 2})]
    assert [len(one.models) for one in groups(*several).values()] == [2, 1]
