"""Figures of embeddings, against closed forms and spelled-out references."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from simclrseg.metrics import representation
from simclrseg.metrics.representation import (
    alignment,
    effective_rank,
    knn_among,
    knn_predictions,
    linear_layer,
    linear_predictions,
    nearest,
    uniformity,
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_alignment_is_zero_for_equal_views_and_four_for_opposite_ones() -> None:
    z = normal(7, 5)
    assert alignment(z, 3 * z).item() == pytest.approx(0, abs=1e-6)  # lengths do not count
    assert alignment(z, -z).item() == pytest.approx(4)


def test_alignment_of_unrelated_views_is_two() -> None:
    assert alignment(normal(4000, 64), normal(4000, 64, seed=1)).item() == pytest.approx(2, abs=0.02)


def test_uniformity_equals_its_definition() -> None:
    z = normal(9, 4)
    unit = (z / z.norm(dim=1, keepdim=True)).tolist()
    pairs = [math.exp(-2 * math.dist(a, b) ** 2) for i, a in enumerate(unit) for b in unit[:i]]
    assert uniformity(z).item() == pytest.approx(math.log(sum(pairs) / len(pairs)), rel=1e-5)


def test_uniformity_of_one_point_and_of_opposite_points() -> None:
    assert uniformity(torch.ones(1, 3)).item() == 0  # no pair
    assert uniformity(torch.ones(5, 3)).item() == pytest.approx(0, abs=1e-5)
    assert uniformity(torch.tensor([[1.0, 0], [-2, 0]])).item() == pytest.approx(-8)


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_effective_rank_of_equal_singular_values_is_their_number(rank: int) -> None:
    q, _ = torch.linalg.qr(normal(40, rank))
    basis, _ = torch.linalg.qr(normal(16, rank, seed=1))
    assert effective_rank(5 * q @ basis.T).item() == pytest.approx(rank, rel=1e-3)
    assert effective_rank((5 * q @ basis.T).T).item() == pytest.approx(rank, rel=1e-3)


def test_effective_rank_equals_its_definition() -> None:
    x = normal(30, 12) * torch.logspace(0, -3, 12)
    values = np.linalg.svd(x.double().numpy(), compute_uv=False)
    share = values / values.sum()
    assert effective_rank(x).item() == pytest.approx(math.exp(-(share * np.log(share)).sum()), rel=1e-6)


def test_effective_rank_of_features_that_are_all_the_same_is_one() -> None:
    assert effective_rank(normal(1, 512).expand(256, 512)).item() == pytest.approx(1, abs=1e-3)
    assert effective_rank(torch.zeros(8, 4)).item() == 0


def test_effective_rank_of_what_is_not_finite_is_nan() -> None:
    assert math.isnan(effective_rank(torch.tensor([[1.0, math.nan]])).item())


def reference_knn(bank: np.ndarray, labels: np.ndarray, queries: np.ndarray, k: int, temperature: float) -> np.ndarray:
    """One query and one neighbour after the other."""
    bank = bank / np.linalg.norm(bank, axis=1, keepdims=True)
    answers = []
    for query in queries / np.linalg.norm(queries, axis=1, keepdims=True):
        similarity = bank @ query
        votes = np.zeros(labels.max() + 1)
        for place in np.argsort(-similarity)[:k]:
            votes[labels[place]] += math.exp(similarity[place] / temperature)
        answers.append(int(votes.argmax()))
    return np.array(answers)


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (20, 0.07), (20, 1.0), (500, 0.1)])
def test_knn_equals_a_loop_over_queries_and_neighbours(monkeypatch, k: int, temperature: float) -> None:
    bank, queries = normal(150, 6).double(), normal(40, 6, seed=1).double()
    labels = torch.randint(0, 4, (150,), generator=torch.Generator().manual_seed(2))
    answers = reference_knn(bank.numpy(), labels.numpy(), queries.numpy(), k, temperature)
    for workspace in (64 << 20, 7 * 150 * 8):  # in one block, and in blocks of 7 that do not divide 40
        monkeypatch.setattr(representation, "WORKSPACE", workspace)
        found = knn_predictions(bank, labels, queries, neighbours=k, temperature=temperature)
        assert found.tolist() == answers.tolist()


def test_near_neighbours_outvote_many_far_ones() -> None:
    bank = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    labels = torch.tensor([0, 1, 1, 1])
    query = torch.tensor([[1.0, 0.1]])
    assert knn_predictions(bank, labels, query).tolist() == [0]
    assert knn_predictions(bank, labels, query, temperature=10.0).tolist() == [1]


def test_every_fifth_image_asks_the_others_and_never_itself() -> None:
    features, labels = torch.eye(10), torch.arange(10) % 5
    features[6], labels[6] = features[5], labels[5]
    labels[0] = 7  # a class that no other has
    assert knn_among(features, labels) == 0.5


def test_autocast_changes_nothing() -> None:
    bank, queries = normal(60, 8), normal(30, 8, seed=1)
    labels = torch.arange(60) % 3
    plain = uniformity(bank), effective_rank(bank), knn_predictions(bank, labels, queries).tolist()
    with torch.autocast("cpu", torch.bfloat16):
        assert (uniformity(bank), effective_rank(bank), knn_predictions(bank, labels, queries).tolist()) == plain


def test_the_linear_layer_is_scikit_learns_logistic_regression():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 90)
    features = rng.normal(0, 1, (90, 5)) + np.eye(5)[labels]
    decay = 0.01
    theirs = LogisticRegression(C=1 / (90 * decay), tol=1e-10, max_iter=1000).fit(features, labels)
    ours = linear_layer(torch.from_numpy(features), torch.from_numpy(labels), 3, decay=decay).numpy()
    assert pytest.approx(theirs.coef_, abs=1e-4) == ours[:-1].T
    bias = ours[-1] - ours[-1].mean()  # which no penalty pins
    assert bias == pytest.approx(theirs.intercept_ - theirs.intercept_.mean(), abs=1e-4)


def test_the_linear_probe_finds_classes_that_a_line_divides_whatever_the_units():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(120) % 3
    features = (torch.randn(120, 6, generator=generator) + 6 * torch.eye(6)[labels]) * 1e-3 + 5
    first, second = (features[:60], labels[:60]), (features[60:90], labels[60:90])
    predicted, decay = linear_predictions(first, second, features[90:])
    assert (predicted == labels[90:]).float().mean() > 0.9 and decay in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)


def test_the_probe_takes_the_decay_that_validation_likes_best():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 2, (40,), generator=generator)
    signal = labels[:, None] + 0.8 * torch.randn(40, 1, generator=generator)
    features = torch.cat([signal, torch.randn(40, 60, generator=generator)], dim=1)
    first, second = (features[:20], labels[:20]), (features[20:], labels[20:])

    def accuracy(decay: float) -> float:
        mean, std = first[0].mean(0), first[0].std(0, correction=0)
        weights = linear_layer((first[0] - mean) / std, first[1], 2, decay=decay)
        said = ((second[0] - mean) / std @ weights[:-1] + weights[-1]).argmax(1)
        return float((said == second[1]).float().mean())

    decays = (10.0, 1e-3)
    _, chosen = linear_predictions(first, second, features[:5], decays=decays)
    assert chosen == max(decays, key=accuracy)


def test_the_probe_learns_from_the_validation_part_too_once_the_decay_is_chosen():
    labels = torch.cat([torch.arange(40) % 2, torch.arange(30) % 3, torch.full((5,), 2)])
    features = 0.3 * normal(75, 3) + 2 * torch.eye(3)[labels]  # the third class is in the validation part alone
    first, second = (features[:40], labels[:40]), (features[40:70], labels[40:70])
    predicted, _ = linear_predictions(first, second, features[70:])
    assert predicted.tolist() == [2] * 5


def test_the_nearest_are_those_of_the_largest_cosine_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    bank, queries = normal(40, 6), normal(11, 6, seed=1)
    cosines = torch.cosine_similarity(queries[:, None], bank[None], dim=2)
    expected = cosines.argsort(dim=1, descending=True)[:, :7]
    assert (nearest(bank, queries, 7) == expected).all()
    monkeypatch.setattr(representation, "WORKSPACE", 1)  # a query at a time
    assert (nearest(3 * bank, queries, 7) == expected).all()
