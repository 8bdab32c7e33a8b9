"""`evaluate --embed`: what pretraining did to the features, as points in the plane."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import nn

from simclrseg.charts import plots
from simclrseg.config.finetune import FinetuneConfig
from simclrseg.data.datasets.dataset import UNLABELLED, Dataset
from simclrseg.data.samples import spread
from simclrseg.errors import DataError, SimclrsegError, UsageError
from simclrseg.evaluation.features import Reader, untrained, with_weights
from simclrseg.evaluation.results import Evaluated
from simclrseg.knobs.parsing import config_of_run
from simclrseg.runs.run import Run
from simclrseg.scores import EMBEDDINGS
from simclrseg.scores.projections import silhouette
from simclrseg.system.files import write_rows
from simclrseg.weights.find import began_with, find_pretrained, is_of_the_hub

log = logging.getLogger(__name__)

MOST = 5_000  # images
FEWEST = 5

Encoder = Callable[[], nn.Module]


@dataclass(frozen=True)
class Embedding:
    """Images as points.

    Attributes:
        method: how features became points.
        silhouettes: of the classes in the features, in cosine distance; empty without classes.
        table: a row an image, with its points.
    """

    method: str
    silhouettes: dict[str, float]
    table: list[dict[str, Any]] = field(repr=False)
    picture: Path

    def facts(self) -> dict[str, Any]:
        """The JSON form."""
        return {"method": self.method, "n": len(self.table), "silhouette": self.silhouettes or None}

    def rows(self) -> list[dict[str, Any]]:
        """A row an image."""
        return self.table


def check(method: str, network: Any | None, images: int) -> None:
    """Refuse, before anything is scored, what cannot be drawn.

    Args:
        network: None for an exported file.
        images: number of those to be scored; the unreadable ones among them are not known yet.
    """
    EMBEDDINGS[method]  # is imported here, if it is installed
    if network is None:
        raise UsageError(
            f"--embed {method} needs features, and an exported file gives only answers",
            "name its run",
            option="embed",
            value=method,
        )
    _check_number(method, images)


def _check_number(method: str, images: int) -> None:
    if images < FEWEST:
        raise DataError(
            f"--embed {method} needs {FEWEST} photos or more, and {images} are scored", option="embed", value=method
        )


def embed(model: Evaluated, method: str, reader: Reader, *, root: Path, folder: Path) -> Embedding:
    """Draw the images that were scored, as ``draw`` does: before training, after pretraining and after fine-tuning."""
    assert model.learner is not None  # it was checked
    network, config = model.learner.model, config_of_run(FinetuneConfig, model.path)
    encoders: dict[str, Encoder] = {"before pretraining": lambda: untrained(model.metadata, seed=config.run.seed)}
    name, adapt = config.model.pretrained, config.model.adapt
    if name != "none" and (file := _weights_before(model, name, root)) is not None:
        encoders["after pretraining"] = lambda: with_weights(model.metadata, file, name, adapt=adapt)
    encoders["after fine-tuning"] = lambda: network.get_submodule("encoder")
    return draw(encoders, model.dataset, model.scores.indices, reader, method=method, folder=folder)


def _weights_before(model: Evaluated, name: str, root: Path) -> Path | None:
    """The weights that fine-tuning began with, where they can still be had."""
    file, reason = began_with(Run(model.path), name, root=root), "they are not at hand any more"
    if file is None and is_of_the_hub(name):
        try:
            file = find_pretrained(name, root=root, encoder=model.metadata.encoder).file
        except SimclrsegError as error:
            reason = str(error)
    if file is None:
        log.warning(f"--embed shows nothing of {name}, the weights that {model.name} began with: {reason}")
    return file


def draw(
    encoders: dict[str, Encoder],
    dataset: Dataset,
    indices: Sequence[int],
    reader: Reader,
    *,
    method: str,
    folder: Path,
) -> Embedding:
    """Draw what encoders make of images, side by side: ``embedding.png``, and ``embedding.csv``.

    Args:
        encoders: by what they have learned.
        indices: images; of more than 5,000 some are taken, evenly.
    """
    labels = dataset.labels
    if labels is not None:
        indices = [index for index in indices if labels[index] != UNLABELLED]
    indices = spread(indices, MOST)
    _check_number(method, len(indices))
    points: dict[str, np.ndarray] = {}
    silhouettes: dict[str, float] = {}
    for learned, encoder in encoders.items():
        features, kept = reader.features(encoder(), dataset, indices)
        points[learned] = EMBEDDINGS[method](F.normalize(features, dim=1).numpy())  # as k-NN compares them
        if labels is not None and len(np.unique(labels[list(kept)])) > 1:
            silhouettes[learned] = silhouette(features.numpy(), labels[list(kept)])
            log.info(f"{learned}: silhouette of the classes {silhouettes[learned]:.4f}")
    if not silhouettes:
        log.info(f"{dataset.name} has no classes of photos: the points have one colour, and there is no silhouette")
    classes = dataset.label_names if labels is not None else ()
    ids = labels[list(kept)] if labels is not None else np.zeros(len(kept), np.int64)
    titled = {
        f"{learned} (silhouette {silhouettes[learned]:.3f})" if learned in silhouettes else learned: values
        for learned, values in points.items()
    }
    table: list[dict[str, Any]] = [
        {"image": dataset.keys[index], "class": classes[label] if classes else ""}
        for index, label in zip(kept, ids, strict=True)
    ]
    for learned, values in points.items():
        name = learned.replace(" ", "_")
        for row, (x, y) in zip(table, values.tolist(), strict=True):
            row |= {f"{name}_x": x, f"{name}_y": y}
    found = Embedding(method, silhouettes, table, folder / "embedding.png")
    plots.scatter(titled, ids, classes, found.picture)
    write_rows(folder / "embedding.csv", table)
    return found
