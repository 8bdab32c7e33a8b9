"""`evaluate --embed`: what pretraining did to the features, as points in the plane."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import nn

from simclrseg import runs
from simclrseg.charts import plots
from simclrseg.config.finetune import FinetuneConfig
from simclrseg.data.datasets.base import UNLABELLED, Dataset
from simclrseg.data.samples import spread
from simclrseg.errors import DataError, SimclrsegError, UsageError
from simclrseg.evaluation.features import features_of, untrained, with_weights
from simclrseg.knobs.files import config_of_run
from simclrseg.metadata import ModelMetadata
from simclrseg.scores import EMBEDDINGS
from simclrseg.scores.projections import silhouette
from simclrseg.scores.results import Evaluated
from simclrseg.system.files import write_rows
from simclrseg.training.machine import Machine
from simclrseg.weights.find import began_with, find_pretrained, is_of_the_hub

log = logging.getLogger(__name__)

MOST = 5_000  # photos
FEWEST = 5

Encoder = Callable[[], nn.Module]


@dataclass(frozen=True)
class Embedding:
    """Photos as points.

    Attributes:
        method: how features became points.
        points: (N, 2) by what had been learned by then.
        silhouettes: of the classes in the features, in cosine distance; empty without classes.
        picture: of them.
    """

    method: str
    points: dict[str, np.ndarray]
    silhouettes: dict[str, float]
    picture: Path

    def facts(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "method": self.method,
            "n": len(next(iter(self.points.values()))),
            "silhouette": self.silhouettes or None,
        }


def check(method: str, network: Any | None, photos: int) -> None:
    """Refuse, before anything is scored, what cannot be drawn.

    Args:
        photos: number of those to be scored; the unreadable ones among them are not known yet.

    Raises:
        DataError: if there are too few photos.
        UsageError: if the method is not installed, or the model is an exported file.
    """
    EMBEDDINGS[method]  # is imported here
    if network is None:
        raise UsageError(
            f"--embed {method} needs features, and an exported file gives only answers",
            "name its run",
            option="embed",
            value=method,
        )
    if photos < FEWEST:
        raise DataError(
            f"--embed {method} needs {FEWEST} photos or more, and {photos} are scored", option="embed", value=method
        )


def embed(model: Evaluated, method: str, *, machine: Machine, batch_size: int, root: Path, folder: Path) -> Embedding:
    """Draw the photos that were scored, as ``draw`` does: before training, after pretraining and after fine-tuning.

    Args:
        root: the folder of all runs.
    """
    assert model.learner is not None  # it was checked
    network = model.learner.model
    encoders = {**dict(_before(model, root)), "after fine-tuning": lambda: network.get_submodule("encoder")}
    return draw(
        encoders,
        model.dataset,
        list(model.indices),
        method=method,
        metadata=model.metadata,
        machine=machine,
        batch_size=batch_size,
        folder=folder,
    )


def _before(model: Evaluated, root: Path) -> Iterator[tuple[str, Encoder]]:
    """The encoder as fine-tuning found it, where that can still be had."""
    config = config_of_run(FinetuneConfig, model.path)
    yield "before pretraining", lambda: untrained(model.metadata, seed=config.run.seed)
    name = config.model.pretrained
    if name == "none":
        return
    file, reason = began_with(runs.Run(model.path), name, root=root), "they are not at hand any more"
    if file is None and is_of_the_hub(name):
        try:
            file = find_pretrained(name, root=root, encoder=model.metadata.encoder).file
        except SimclrsegError as error:
            reason = str(error)
    if file is None:
        log.warning(f"--embed shows nothing of {name}, the weights that {model.name} began with: {reason}")
    else:
        yield "after pretraining", lambda: with_weights(model.metadata, file, name, adapt=config.model.adapt)


def draw(
    encoders: dict[str, Encoder],
    dataset: Dataset,
    indices: list[int],
    *,
    method: str,
    metadata: ModelMetadata,
    machine: Machine,
    batch_size: int,
    folder: Path,
) -> Embedding:
    """Draw what encoders make of photos, side by side: ``embedding.png``, and ``embedding.csv``.

    Args:
        encoders: by what they have learned.
        indices: photos; of more than 5,000 some are taken, evenly.
        method: of EMBEDDINGS.
        metadata: of the network.

    Raises:
        DataError: if there are too few photos.
    """
    labels = dataset.labels
    if labels is not None:
        indices = [index for index in indices if labels[index] != UNLABELLED]
    indices = spread(indices, MOST)
    if len(indices) < FEWEST:
        raise DataError(
            f"--embed {method} needs {FEWEST} photos or more, and {len(indices)} are scored",
            option="embed",
            value=method,
        )
    points: dict[str, np.ndarray] = {}
    silhouettes: dict[str, float] = {}
    for title, encoder in encoders.items():
        features, kept = features_of(
            encoder(), dataset, indices, metadata=metadata, machine=machine, batch_size=batch_size
        )
        points[title] = EMBEDDINGS[method](F.normalize(features, dim=1).numpy())  # as k-NN compares them
        if labels is not None and len(np.unique(labels[list(kept)])) > 1:
            silhouettes[title] = silhouette(features.numpy(), labels[list(kept)])
            log.info(f"{title}: silhouette of the classes {silhouettes[title]:.4f}")
    if not silhouettes:
        log.info(f"{dataset.name} has no classes of photos: the points have one colour, and there is no silhouette")
    classes = dataset.label_names if labels is not None else ()
    ids = labels[list(kept)] if labels is not None else np.zeros(len(kept), np.int64)
    titles = {
        f"{title} (silhouette {silhouettes[title]:.3f})" if title in silhouettes else title: values
        for title, values in points.items()
    }
    picture = folder / "embedding.png"
    plots.scatter(titles, ids, classes, picture)
    rows = [
        {
            "image": dataset.keys[index],
            "class": classes[label] if classes else "",
            **{
                f"{title.replace(' ', '_')}_{axis}": float(values[row, column])
                for title, values in points.items()
                for column, axis in enumerate("xy")
            },
        }
        for row, (index, label) in enumerate(zip(kept, ids, strict=True))
    ]
    write_rows(folder / "embedding.csv", rows)
    return Embedding(method, points, silhouettes, picture)
