"""Embeddings against scikit-learn."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.metrics import silhouette_score

from simclrseg.errors import UsageError
from simclrseg.scores import EMBEDDINGS
from simclrseg.scores.projections import pca, silhouette

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 3, 60)
FEATURES = RNG.normal(0, 1, (60, 8)) + 3 * np.eye(8)[LABELS]


def test_principal_components_are_scikit_learns_up_to_their_sign() -> None:
    ours, theirs = pca(FEATURES), PCA(2).fit_transform(FEATURES)
    assert ours.shape == (60, 2)
    assert np.abs(ours) == pytest.approx(np.abs(theirs))


def test_principal_components_do_not_flip_between_runs() -> None:
    assert pca(FEATURES[::-1])[::-1] == pytest.approx(pca(FEATURES))


def test_silhouette_is_scikit_learns() -> None:
    assert silhouette(FEATURES, LABELS) == pytest.approx(silhouette_score(FEATURES, LABELS, metric="cosine"))
    alone = np.where(np.arange(60) == 7, 9, LABELS)
    assert silhouette(FEATURES, alone) == pytest.approx(silhouette_score(FEATURES, alone, metric="cosine"))


def test_one_class_has_no_silhouette() -> None:
    assert np.isnan(silhouette(FEATURES, np.zeros(60, int)))


def test_umap_that_is_not_installed_is_one_line_before_there_are_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)  # as if it could not be imported
    monkeypatch.delitem(sys.modules, "simclrseg.scores.umap_projection", raising=False)
    with pytest.raises(UsageError, match=r"pip install 'simclrseg\[umap\]'"):
        EMBEDDINGS["umap"]


def test_every_embedding_can_be_found() -> None:
    assert EMBEDDINGS["pca"] is pca
    assert set(EMBEDDINGS) == {"pca", "umap"}
