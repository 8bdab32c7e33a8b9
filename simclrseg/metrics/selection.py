"""Which images to label next, by their features: typical ones of clusters, or uncertain ones unlike those labelled."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from simclrseg.metrics.representation import rows_at_once

NEIGHBOURS = 20  # whose mean distance says how typical an image is
MOST_CLUSTERS = 500
FITTED = 20_000  # images that k-means looks at, of more
RESTARTS, ROUNDS = 3, 50  # of k-means
FEW_CLUSTERS = 50  # up to which it is started again: with more of them one start is as good as another
NEAR = 0.35
"""Distance of near duplicates, as a fraction of the usual distance of two images.

Of pets, in the features of two encoders, copies that were resized or saved with less quality are at 0.03 to 0.49,
mostly below 0.3; the nearest other photo is at 0.62 to 0.98."""


@dataclass(frozen=True)
class Choice:
    """An image that was chosen.

    Attributes:
        place: row of its features.
        score: of those that could be chosen it had the highest one.
        facts: what the score is made of, by name.
    """

    place: int
    score: float
    facts: dict[str, float | int]


class _Distances:
    """Distance of each image to the nearest one that is labelled or chosen; without any 2, the largest there is."""

    def __init__(self, features: Tensor, labelled: Tensor) -> None:
        self.features = features
        self.nearest = features.new_full((len(features),), 2.0)
        self.usual = usual_distance(features)
        self.open = ~labelled
        if labelled.any():
            for rows in labelled.nonzero()[:, 0].split(rows_at_once(features)):
                self._include(rows)

    def choose(self, place: int) -> None:
        """Let nothing like this image be chosen from now on."""
        self.open[place] = False
        self._include(torch.tensor([place]))

    def _include(self, places: Tensor) -> None:
        closest = (self.features @ self.features[places].T).amax(1)  # cosines
        torch.minimum(self.nearest, (2 - 2 * closest).clamp(min=0).sqrt(), out=self.nearest)
        self.open &= self.nearest >= NEAR * self.usual


@torch.no_grad()
def typical(features: Tensor, labelled: Tensor, count: int) -> list[Choice]:
    """Choose typical images of clusters in which nothing is labelled (TypiClust, Hacohen et al. 2022, alg. 1).

    There are as many clusters as images that are labelled or to be chosen, 500 at most. Those with the fewest labelled
    images come first, of these the largest; each gives the image whose 20 neighbours in the cluster are nearest.
    Clusters of fewer than 5 images, which the paper drops, have their turn too: a small set may have no others. Near
    duplicates of what is labelled or chosen are passed over.

    Args:
        features: (N, D) float32; they are normalised in place.
        labelled: (N,) bool, which are labelled already.
        count: how many to choose.

    Returns:
        At most so many; fewer where all others are labelled or near duplicates. The score is
        the typicality; facts: ``cluster``, its ``size``, and how many of it are ``labelled``.
    """
    F.normalize(features, dim=1, out=features)
    distances = _Distances(features, labelled)
    number = min(int(labelled.sum()) + count, MOST_CLUSTERS, len(features))
    clusters = kmeans(features, number, torch.Generator().manual_seed(0))
    members = [(clusters == cluster).nonzero()[:, 0] for cluster in range(number)]
    members = [rows for rows in members if len(rows)]
    taken = [int(labelled[rows].sum()) for rows in members]
    before = list(taken)
    scores: dict[int, Tensor] = {}
    chosen: list[Choice] = []
    while len(chosen) < count:
        order = [cluster for cluster, rows in enumerate(members) if distances.open[rows].any()]
        if not order:
            break
        cluster = min(order, key=lambda one: (taken[one], -len(members[one])))
        rows = members[cluster]
        if cluster not in scores:
            scores[cluster] = typicality(features[rows])
        best = int(scores[cluster].where(distances.open[rows], scores[cluster].new_tensor(-1)).argmax())
        score = float(scores[cluster][best])
        facts: dict[str, float | int] = {"cluster": cluster, "size": len(rows), "labelled": before[cluster]}
        chosen.append(Choice(int(rows[best]), score, facts))
        distances.choose(int(rows[best]))
        taken[cluster] += 1
    return chosen


@torch.no_grad()
def unsure(features: Tensor, uncertainty: Tensor, labelled: Tensor, count: int) -> list[Choice]:
    """Choose images of which a model is unsure and that are unlike those labelled, one after the other.

    The score is uncertainty times distance to the nearest image that is labelled or chosen before, so that what is
    chosen is diverse (k-centers of Sener & Savarese 2018, weighted). Near duplicates are passed over.

    Args:
        features: (N, D) float32; they are normalised in place.
        uncertainty: (N,), 0 where the model is sure; of labelled images it is not looked at.
        labelled: (N,) bool.

    Returns:
        At most so many. Facts: ``uncertainty``, and ``distance`` in [0, 2].
    """
    F.normalize(features, dim=1, out=features)
    distances = _Distances(features, labelled)
    weights = uncertainty.clamp(min=1e-9)  # where it is sure of all, distance decides
    chosen: list[Choice] = []
    while len(chosen) < count and distances.open.any():
        scores = (weights * distances.nearest).where(distances.open, weights.new_tensor(-1))
        best = int(scores.argmax())
        facts = {"uncertainty": float(uncertainty[best]), "distance": float(distances.nearest[best])}
        chosen.append(Choice(best, float(scores[best]), facts))
        distances.choose(best)
    return chosen


@torch.no_grad()
def typicality(features: Tensor) -> Tensor:
    """1 / mean distance to the nearest neighbours (Hacohen et al. 2022, eq. 1), at most half of all and 20.

    Args:
        features: (N, D) unit vectors.

    Returns:
        (N,), above 0; 0 for one alone.
    """
    if len(features) == 1:
        return features.new_zeros(1)
    neighbours = min(NEIGHBOURS, max(1, len(features) // 2))
    found = []
    for block in features.split(rows_at_once(features)):
        cosines = (block @ features.T).topk(min(neighbours + 1, len(features)), dim=1).values  # itself among them
        distances = (2 - 2 * cosines).clamp(min=0).sqrt()
        found.append(distances.sum(1) / neighbours)
    return 1 / (torch.cat(found) + 1e-5)


@torch.no_grad()
def kmeans(features: Tensor, clusters: int, generator: torch.Generator) -> Tensor:
    """Cluster unit vectors by k-means from k-means++ (Arthur & Vassilvitskii 2007), of few clusters the best of three.

    Of more than 20,000 images some, evenly spread, find the centers.

    Args:
        features: (N, D), N at least ``clusters``.

    Returns:
        (N,) int64 from 0; some numbers may not occur.
    """
    some = features[:: -(-len(features) // FITTED)] if len(features) > FITTED else features
    best, least = None, float("inf")
    for _ in range(RESTARTS if clusters <= FEW_CLUSTERS else 1):
        centers = _seeded(some, clusters, generator)
        nearest, distances = _assigned(some, centers)
        for _ in range(ROUNDS):
            sums = torch.zeros_like(centers).index_add_(0, nearest, some)
            sizes = torch.bincount(nearest, minlength=clusters)
            centers = torch.where(sizes[:, None] > 0, sums / sizes.clamp(min=1)[:, None], centers)
            before = nearest
            nearest, distances = _assigned(some, centers)
            if torch.equal(nearest, before):
                break
        if best is None or float(distances.sum()) < least:
            best, least = centers, float(distances.sum())
    assert best is not None
    return _assigned(features, best)[0]


def _seeded(features: Tensor, clusters: int, generator: torch.Generator) -> Tensor:
    """Centers (K, D): images, each drawn in proportion to its squared distance from those before."""
    first = int(torch.randint(len(features), (), generator=generator))
    chosen, squares = [first], (2 - 2 * features @ features[first]).clamp(min=0)
    while len(chosen) < clusters:
        weights = squares if squares.sum() > 0 else torch.ones_like(squares)  # all the others are copies
        draw = torch.rand((), generator=generator, dtype=torch.float64) * weights.double().sum()
        place = int((weights.double().cumsum(0) < draw).sum().clamp(max=len(features) - 1))
        chosen.append(place)
        squares = torch.minimum(squares, (2 - 2 * features @ features[place]).clamp(min=0))
    return features[chosen]


def _assigned(features: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest center of each image, and its squared distance less 1, the square of a unit vector."""
    nearest, squares = [], []
    lengths = centers.square().sum(1)
    for block in features.split(rows_at_once(centers)):
        least = (lengths - 2 * block @ centers.T).min(1)
        nearest.append(least.indices)
        squares.append(least.values)
    return torch.cat(nearest), torch.cat(squares)


def usual_distance(features: Tensor) -> float:
    """Root of the mean squared distance of two unit vectors (N, D); 0 where all are the same."""
    return float((2 - 2 * features.mean(0).square().sum()).clamp(min=0).sqrt())
