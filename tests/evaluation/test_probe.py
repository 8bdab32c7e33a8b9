"""The page of backbones: every figure before and after pretraining, photos beside those that are like them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from simclrseg.cli.summary import summary
from simclrseg.config.pretrain import PretrainConfig
from simclrseg.errors import DataError, UsageError
from simclrseg.evaluation.probe_page import write_page
from simclrseg.evaluation.probed import Probed, ProbedSeveral
from simclrseg.scores.wording import words
from tests.evaluation.test_report import Parsed
from tests.small import Pipeline, evaluated, evaluation


@pytest.fixture(scope="module")
def probed(pipeline: Pipeline) -> Probed:
    return evaluation(pipeline.runs, pipeline.pretrained.run, sections={"features": {"embed": "pca"}})


@pytest.fixture
def alone(pipeline: Pipeline, tmp_path) -> Path:
    """The same weights without their run."""
    return Path(shutil.copy(pipeline.pretrained.backbone, tmp_path / "weights.safetensors"))


def page_of(result: Probed | ProbedSeveral) -> Parsed:
    return Parsed((result.folder / "report.html").read_text(encoding="utf-8"))


def test_every_figure_stands_on_the_page_before_and_after_with_its_meaning(probed: Probed):
    page, facts = page_of(probed), probed.facts()
    assert list(facts["metrics"]) == list(facts["without_learning"]) == list(facts["differences"])
    for name, after in facts["metrics"].items():
        before = facts["without_learning"][name]
        assert f"{after:.4f}" in page.text and f"{before:.4f} before" in page.text
        assert page.text.count(words(name)) >= 3  # on its card, in the table, and explained
        assert facts["differences"][name]["value"] == pytest.approx(after - before)
    low, high = facts["differences"]["knn_accuracy"]["interval"]
    assert low <= facts["differences"]["knn_accuracy"]["value"] <= high
    assert all(f"{line}." in page.text for line in probed.verdicts) and len(probed.verdicts) == 2


def test_what_a_start_has_brought_is_not_said_to_be_of_pretraining(probed: Probed):
    metadata = probed.backbone.metadata.model_copy(update={"pretrained": "imagenet"})
    begun = replace(probed, backbone=replace(probed.backbone, metadata=metadata))
    for one, other in zip(begun.verdicts, probed.verdicts, strict=True):
        assert " with random weights and " in one and " after pretraining, which began with imagenet: " in one
        assert " before and " in other and " after pretraining: " in other


def test_the_page_of_a_backbone_opens_anywhere_and_shows_what_the_run_left(probed: Probed):
    page = page_of(probed)
    assert page.open == [] and len({found["id"] for _, found in page.found if "id" in found}) > 5
    assert all(image["src"].startswith("data:image/webp;base64,") and image["alt"] for image in page.all("img"))
    targets = {found.get("id") for _, found in page.found}
    assert all(link["href"].removeprefix("#") in targets for link in page.all("a"))
    alts = [image["alt"] for image in page.all("img")]
    assert f"Features of {probed.name} as points, before and after pretraining" in alts
    assert f"Views of photos that {probed.name} was trained with" in alts
    assert len(page.all("svg")) == 6  # a curve for each number that was logged


@pytest.mark.parametrize(
    ("method", "shown"),
    [
        ("simclr", "a column is two random views of one photo, and it learned to call them alike."),
        ("reconstruction", "a column is one photo with parts cut out, and whole, as it learned to paint it."),
        (
            "distillation",
            "a column is a photo as it was changed at random, and it learned to see that as its teacher does.",
        ),
    ],
)
def test_the_page_says_what_the_views_of_its_method_are(probed: Probed, tmp_path, method, shown):
    own = {"distillation": {"teacher": "imagenet"}} if method == "distillation" else {}
    config = PretrainConfig.model_validate({"data": {"dataset": ["shapes"]}, "model": {"method": method}, **own})
    result = replace(probed, folder=tmp_path, backbone=replace(probed.backbone, config=config))
    write_page(result)
    assert f"What the network saw: {shown}" in page_of(result).text


def test_photos_stand_beside_the_five_that_are_most_like_them(probed: Probed):
    page, (before, after) = page_of(probed), probed.neighbours
    labels, asking = probed.dataset.labels, [probed.indices[place] for place in range(4)]
    assert {int(labels[index]) for index in asking} == set(range(4))  # the first test photo of each class
    assert before.places.shape == after.places.shape == (len(probed.indices), 5)
    assert not set(after.places.ravel().tolist()) & set(probed.indices)  # neighbours are training photos
    right = [labels[side.places[:4]] == labels[asking][:, None] for side in (before, after)]
    assert page.text.count("✓") == np.sum(right) and page.text.count("✗") == np.size(right) - np.sum(right)
    every = labels[after.places] == labels[list(probed.indices)][:, None]
    assert after.alike.value == pytest.approx(every.mean())


def test_a_notebook_shows_the_figures_of_a_backbone_and_of_several(probed: Probed):
    shown = Parsed(probed._repr_html_())
    assert len(shown.all("table")) == 1 and all(str(found) in shown.text for found in probed.metrics.values())
    several = ProbedSeveral(probed.folder, [probed, probed], {})
    assert Parsed(several._repr_html_()).text.count(f"to {probed.metrics['knn_accuracy'].value:.4f}") == 2


def test_several_backbones_stand_side_by_side_and_are_compared_on_the_same_photos(pipeline: Pipeline, alone):
    result = evaluation(pipeline.runs, pipeline.pretrained.run, alone, dataset="shapes")
    facts, page = result.facts(), page_of(result)
    assert [one["name"] for one in facts["backbones"]] == ["shapes", "weights"] and facts["baseline"] == "shapes"
    assert facts["differences"]["weights"]["knn_accuracy"] == {"value": 0.0, "interval": [0.0, 0.0]}
    assert "whether weights is better than shapes cannot be told: k-NN accuracy +0.0000" in facts["verdicts"][0]
    own = facts["backbones"][0]
    cell = f"{own['without_learning']['knn_accuracy']:.4f} to {own['metrics']['knn_accuracy']:.4f}"
    assert [row["k-NN accuracy"] for row in facts["table"]] == [cell, cell] and cell in page.text
    assert (result.folder / "weights" / "per_image.csv").is_file()
    assert summary(result)["table"] == facts["table"]
    ids = [found["id"] for _, found in page.found if "id" in found]
    assert len(ids) == len(set(ids))


def test_backbones_that_cannot_be_compared_are_refused_before_anything_is_written(pipeline: Pipeline, alone, tmp_path):
    runs, backbone = tmp_path / "runs", pipeline.pretrained.run
    with pytest.raises(UsageError, match=r"is a backbone and .* is none: evaluate each kind alone"):
        evaluated(runs, backbone, pipeline.finetuned.run)
    for twice in (backbone, backbone / "backbone.safetensors"):
        with pytest.raises(UsageError, match="is named twice: name each backbone once"):
            evaluated(runs, backbone, twice)
    with pytest.raises(UsageError, match="name photos to probe it with by --dataset"):
        evaluated(runs, backbone, alone)
    assert not (runs / "evaluate").exists()


def test_backbones_of_other_photos_are_compared_on_photos_that_are_named(pipeline: Pipeline, tmp_path):
    from simclrseg.commands.pretrain import pretrain
    from simclrseg.config.pretrain import PretrainConfig
    from tests.small import SMALL_PRETRAIN, changed, in_runs

    other = in_runs(changed(SMALL_PRETRAIN, "data", dataset=[str(grey(tmp_path / "grey", 70))]), tmp_path)
    other = pretrain(PretrainConfig.model_validate(changed(other, "training", epochs=1))).run
    with pytest.raises(DataError, match=r"not scored on the same images .* or all on others with --dataset"):
        evaluated(tmp_path, pipeline.pretrained.run, other)
    assert not (tmp_path / "evaluate").exists()


def grey(folder: Path, count: int) -> Path:
    """Photos of plain grey without classes, with names that are markup."""
    folder.mkdir()
    for number in range(count):
        cv2.imwrite(str(folder / f"<b>{number}&.png"), np.full((32, 40, 3), 3 * number, np.uint8))
    return folder


@pytest.mark.parametrize("count", [1, 2, 12])
def test_photos_without_classes_have_neighbours_among_themselves(pipeline: Pipeline, alone, tmp_path, count):
    result: Any = evaluation(pipeline.runs, alone, dataset=str(grey(tmp_path / "grey", count)))
    page = page_of(result)
    assert result.hits == {} and result.verdicts == [] and "knn" not in page.text
    assert page.all("b") == [] and ("<b>0&" in page.text) == (count > 1)  # of a lone photo there is no other
    for side in result.neighbours:
        assert side.places.shape == (count, min(5, count - 1)) and side.alike is None
        assert all(own not in row for own, row in zip(result.indices, side.places, strict=True))
    assert "✓" not in page.text and f"{result.metrics['alignment'].value:.4f}" in page.text
