"""Which images are chosen: typical ones of clusters, and uncertain ones unlike what is labelled."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from simclrseg.metrics import representation, selection
from simclrseg.metrics.selection import NEAR, kmeans, typical, typicality, unsure, usual_distance

SIZES = (30, 20, 12, 8)
NONE = torch.zeros(sum(SIZES), dtype=torch.bool)


@pytest.fixture
def clouds() -> tuple[Tensor, Tensor]:
    """Features (70, 6) in four clouds of different sizes, and the cloud of each; cloud by cloud."""
    generator = torch.Generator().manual_seed(0)
    centers = F.normalize(torch.eye(6)[:4] * 5 + 0.1 * torch.rand(4, 6, generator=generator), dim=1)
    cloud = torch.arange(4).repeat_interleave(torch.tensor(SIZES))
    return 2 * centers[cloud] + 0.4 * torch.randn(70, 6, generator=generator), cloud


def test_typicality_equals_its_definition(clouds):
    features = F.normalize(clouds[0][:30], dim=1)
    for row, found in zip(features, typicality(features), strict=True):
        nearest = sorted(math.dist(row, other) for other in features.tolist())[1:16]  # 15 of 30, itself left out
        assert float(found) == pytest.approx(15 / sum(nearest), rel=1e-3)


def test_each_cloud_gives_its_most_typical_image_the_largest_cloud_first(clouds):
    features, cloud = clouds
    chosen = typical(features.clone(), NONE, 4)
    assert [int(cloud[one.place]) for one in chosen] == [0, 1, 2, 3]
    assert [(one.facts["size"], one.facts["labelled"]) for one in chosen] == [(size, 0) for size in SIZES]
    unit = F.normalize(features, dim=1)
    for one in chosen:
        own = (cloud == cloud[one.place]).nonzero()[:, 0]
        assert one.place == own[typicality(unit[own]).argmax()]


def test_clouds_in_which_something_is_labelled_come_after_all_others(clouds):
    features, cloud = clouds
    labelled = torch.zeros(70, dtype=torch.bool)
    labelled[[0, 31]] = True
    assert {int(cloud[one.place]) for one in typical(features.clone(), labelled, 2)} == {2, 3}


def test_clouds_give_one_image_after_the_other_which_are_not_labelled_by_that(clouds, monkeypatch):
    monkeypatch.setattr(selection, "MOST_CLUSTERS", 4)
    chosen = typical(clouds[0].clone(), NONE, 8)
    assert [int(clouds[1][one.place]) for one in chosen] == [0, 1, 2, 3] * 2
    assert {one.facts["labelled"] for one in chosen} == {0}


def test_nothing_nearly_the_same_as_a_chosen_or_labelled_image_is_chosen(clouds):
    features, _ = clouds
    features = torch.cat([features, features + 1e-3])
    labelled = torch.zeros(140, dtype=torch.bool)
    labelled[3] = True
    for choose in (typical, lambda *given: unsure(given[0], torch.ones(140), *given[1:])):
        chosen = [one.place for one in choose(features.clone(), labelled, 140)]
        unit = F.normalize(features[[3, *chosen]], dim=1)
        distances = torch.cdist(unit, unit) + 9 * torch.eye(len(unit))
        assert 3 not in chosen and 73 not in chosen and len(chosen) < 70
        assert distances.min() >= NEAR * usual_distance(F.normalize(features, dim=1)) - 1e-4


def test_unsure_ones_equal_a_search_in_loops(clouds):
    features, _ = clouds
    doubt = torch.rand(70, generator=torch.Generator().manual_seed(1))
    labelled = torch.zeros(70, dtype=torch.bool)
    labelled[:5] = True
    unit = F.normalize(features, dim=1)
    known, expected = list(range(5)), []
    for _ in range(6):
        nearest = {place: min(math.dist(unit[place], unit[one]) for one in known) for place in range(5, 70)}
        limit = NEAR * usual_distance(unit)
        best = max((place for place in nearest if nearest[place] >= limit), key=lambda p: float(doubt[p]) * nearest[p])
        expected.append((best, float(doubt[best]) * nearest[best]))
        known.append(best)
    found = unsure(features.clone(), doubt, labelled, 6)
    assert [one.place for one in found] == [place for place, _ in expected]
    assert [one.score for one in found] == pytest.approx([score for _, score in expected], rel=1e-3)


def test_a_model_that_is_sure_of_all_leaves_it_to_the_distance(clouds):
    chosen = unsure(clouds[0].clone(), torch.zeros(70), NONE, 4)
    assert len({int(clouds[1][one.place]) for one in chosen}) == 4


def test_the_same_images_are_chosen_each_time(clouds):
    first, second = (typical(clouds[0].clone(), NONE, 9) for _ in range(2))
    assert first == second and len(first) == 9


def test_more_than_there_are_gives_all_that_differ_once(clouds):
    few = clouds[0][:3].clone()
    assert sorted(one.place for one in typical(few, NONE[:3], 20)) == [0, 1, 2]
    same = torch.ones(6, 4)
    assert len(typical(same, NONE[:6], 2)) == 2  # where all are one point nothing tells copies apart


def test_clusters_are_the_clouds_though_only_some_images_make_them(clouds, monkeypatch):
    monkeypatch.setattr(selection, "FITTED", 30)
    found = kmeans(F.normalize(clouds[0], dim=1), 4, torch.Generator().manual_seed(0))
    pairs = set(zip(found.tolist(), clouds[1].tolist(), strict=True))
    assert len(pairs) == len({cluster for cluster, _ in pairs}) == 4


def test_little_memory_changes_nothing(clouds, monkeypatch):
    labelled = torch.zeros(70, dtype=torch.bool)
    labelled[::9] = True
    whole = typical(clouds[0].clone(), labelled, 12)
    monkeypatch.setattr(representation, "WORKSPACE", 700)
    parts = typical(clouds[0].clone(), labelled, 12)
    assert [one.place for one in parts] == [one.place for one in whole]
