"""`evaluate` of backbones: what their features are good for, before and after pretraining."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from simclrseg.config.evaluate import EvaluateConfig
from simclrseg.config.pretrain import PretrainData
from simclrseg.data.augment import STRENGTHS, adjusted
from simclrseg.data.datasets.dataset import Dataset
from simclrseg.data.datasets.locate import open_dataset
from simclrseg.data.loader import Loader
from simclrseg.data.samples import TwoViews, spread
from simclrseg.data.seen import warn_if_seen
from simclrseg.data.splits import Split
from simclrseg.errors import DataError, UsageError
from simclrseg.evaluation import embedding
from simclrseg.evaluation.backbones import Backbone
from simclrseg.evaluation.features import Reader, untrained, with_weights
from simclrseg.evaluation.probe_page import write_page
from simclrseg.evaluation.probed import Neighbours, Probed, ProbedSeveral
from simclrseg.evaluation.scored import batch_size_of, open_report, own_folder, sized
from simclrseg.metrics.representation import (
    alignment,
    effective_rank,
    knn_predictions,
    linear_predictions,
    nearest,
    uniformity,
)
from simclrseg.scores.doubts import few_images, pretraining_doubts
from simclrseg.scores.intervals import Floats, interval_of_mean
from simclrseg.scores.results import Estimate
from simclrseg.system.files import write_json, write_rows
from simclrseg.targets.base import check_bands, elsewhere, opening
from simclrseg.targets.classify.target import ClassificationTarget
from simclrseg.training.machine import Machine

log = logging.getLogger(__name__)

MOST = 5_000  # images of the figures that need no labels
NEIGHBOURS = 5  # nearest photos that are looked at
PREDICTORS_ONLY = ("minimum", "at", "empty", "baseline", "classes", "size")  # knobs without a meaning for a backbone


@dataclass(frozen=True)
class Asked:
    """A backbone, and the images that it is scored on.

    Attributes:
        split: of labelled images; None where there are no labels.
        scored: images, as indices in the dataset.
    """

    backbone: Backbone
    dataset: Dataset
    split: Split | None
    scored: tuple[int, ...]
    reader: Reader

    @property
    def images(self) -> list[tuple[str, str, Path | None]]:
        """What tells the images from those of another set: two folders may hold the same names."""
        return [(self.dataset.name, self.dataset.keys[index], self.dataset.path(index)) for index in self.scored]


def evaluate_backbones(found: Sequence[Backbone], config: EvaluateConfig, machine: Machine) -> Probed | ProbedSeveral:
    """Score encoders: weighted k-NN and a linear probe by labels, alignment, uniformity and rank without.

    Nothing is written where it raises SimclrsegError for what a user can mend.
    """
    asked = [_ask(one, config, machine) for one in found]
    first = asked[0]
    for other in asked[1:]:
        if other.images != first.images:
            raise DataError(
                f"{first.backbone.name} and {other.backbone.name} are not scored on the same images "
                f"({len(first.scored):,} of {first.dataset.name} and {len(other.scored):,} of {other.dataset.name}): "
                "evaluate each alone, or all on others with --dataset"
            )
    name = "comparison" if len(asked) > 1 else found[0].name
    paths = [str(one.path) for one in found]
    method = config.features.embed
    with open_report(config, name, scored=paths) as folder, sized(max(one.reader.batch_size for one in asked)):
        if len(asked) == 1:
            result = _probed(first, folder, method=method)
            write_json(folder / "metrics.json", result.found())
            write_page(result)
            return result
        probed = []
        for number, one in enumerate(asked, start=1):
            log.info(f"backbone {one.backbone.path}:")
            own = own_folder(folder, number, one.backbone.name, one.backbone.path)
            probed.append(_probed(one, own, method=method))
        several = ProbedSeveral(folder, probed, _differences(probed))
        write_json(folder / "metrics.json", several.found())
        write_page(several)
        return several


def _differences(probed: Sequence[Probed]) -> dict[str, dict[str, Estimate]]:
    """What the others have more than the first, by labels and on the same images."""
    first = probed[0]
    for one in probed:
        if one.indices != first.indices:
            raise DataError(
                f"{first.name} and {one.name} could not read the same photos", "repair them, or leave them out"
            )
    return {one.name: {name: _mean(hits - first.hits[name]) for name, hits in one.hits.items()} for one in probed[1:]}


def _ask(found: Backbone, config: EvaluateConfig, machine: Machine) -> Asked:
    """Check what is asked of a backbone, and open its images."""
    metadata, method = found.metadata, config.features.embed
    if given := [*config.uncertainty.changed(["ood"]), *config.data.changed(PREDICTORS_ONLY)]:
        flag = f"--{given[0]}".replace("minimum", "min")
        raise UsageError(
            f"{flag} needs a model that predicts, and {found.path} is a backbone: fine-tune it first",
            option=given[0],
            path=found.path,
        )
    dataset, split = images_to_probe(found, config.data.dataset)
    check_bands(dataset, metadata, remedy="name others with --dataset")
    if config.data.split != "test":
        raise UsageError(
            f"--split {config.data.split}: a backbone is probed on test photos only, leave it out",
            option="split",
            value=config.data.split,
        )
    scored = split.test if split else spread(dataset.official.get("test") or range(len(dataset)), MOST)
    if method is not None:
        embedding.check(method, found, len(scored))
    warn_if_seen(dataset, scored, metadata)
    reader = Reader(metadata, machine, batch_size_of(config.data.batch_size, found.file.parent))
    return Asked(found, dataset, split, tuple(scored), reader)


def images_to_probe(found: Backbone, name: str | None) -> tuple[Dataset, Split | None]:
    """Labelled images and their split: of ``--dataset``, else those that were pretrained on.

    A set without labels is taken too, without a split: there are figures that need none.
    """
    if name is None:
        if found.data is None:
            raise UsageError(
                f"{found.path} is a file without its run", "name photos to probe it with by --dataset", option="dataset"
            )
        name, *others = found.data.dataset
        if others:
            raise UsageError(
                f"{found.path} was pretrained on {', '.join(found.data.dataset)}",
                "name one of them by --dataset",
                option="dataset",
            )
    data = elsewhere(found.data.model_dump() if found.data else {}, name)
    dataset = open_dataset(name, replace(opening(data, found.metadata), masks=False))
    if dataset.labels is None or len(dataset.label_names) < 2:
        for line in dataset.summary:
            log.info(line)
        log.warning(
            f"{name} has no classes to tell apart, so there is no k-NN and no linear probe: --dataset names others"
        )
        return dataset, None
    target = ClassificationTarget(data, dataset)
    target.tell()
    return dataset, target.split


def _probed(asked: Asked, folder: Path, *, method: str | None) -> Probed:
    """The figures of a backbone, and those of the same network untrained; ``per_image.csv`` has what was said of each.

    Args:
        method: to draw features by; None for no picture of them.
    """
    found, dataset = asked.backbone, asked.dataset
    bare = untrained(found.metadata, seed=found.config.run.seed if found.config else 0)
    backbone = with_weights(found.metadata, found.file, found.name)
    after = _look(backbone, asked)
    log.info("the same of the network untrained:")
    before = _look(bare, asked)
    aligned = _alignments(asked, (bare, backbone), spread(after.indices, MOST))
    sides = []
    for looked, distance in zip((before, after), aligned, strict=True):
        some = looked.features[spread(range(len(looked.features)), MOST)]
        figures = {name: _mean(hits) for name, hits in looked.hits.items()} | {"alignment": Estimate(distance)}
        if len(some) > 1:
            figures["uniformity"] = Estimate(float(uniformity(some)))
        figures["effective_rank"] = Estimate(float(effective_rank(some)))
        sides.append(figures)
    differences = {
        name: _mean(after.hits[name] - before.hits[name])
        if name in after.hits
        else Estimate(estimate.value - sides[0][name].value)
        for name, estimate in sides[1].items()
    }
    values, free = ({name: side[name].value for name in side} for side in reversed(sides))
    started = bool(found.metadata.pretrained)
    doubts = few_images(len(after.indices))
    doubts += pretraining_doubts(values, {name: free[name] for name in after.hits}, untrained=started)
    for doubt in doubts:
        log.warning(doubt)
    rows = []
    if asked.split is not None:
        assert dataset.labels is not None  # or there were no split
        names = dataset.label_names
        for place, index in enumerate(after.indices):
            row: dict[str, Any] = {"image": dataset.keys[index], "true": names[dataset.labels[index]]}
            for name, ids in after.answers.items():
                row[name] = names[ids[place]]
            for name, ids in before.answers.items():
                row[f"{name}_untrained"] = names[ids[place]]
            rows.append(row)
        write_rows(folder / "per_image.csv", rows)
    drawn = None
    if method is not None:
        encoders = {"before pretraining": lambda: bare, "after pretraining": lambda: backbone}
        drawn = embedding.draw(encoders, dataset, asked.scored, asked.reader, method=method, folder=folder)
    part = "test" if asked.split else "photos without labels"
    return Probed(
        folder,
        found,
        dataset,
        part,
        after.indices,
        metrics=sides[1],
        before=sides[0],
        differences=differences,
        hits=after.hits,
        table=rows,
        neighbours=(before.neighbours, after.neighbours),
        embedding=drawn,
        doubts=doubts,
    )


@dataclass(frozen=True)
class Looked:
    """What an encoder makes of n images that can be read.

    Attributes:
        features: (n, D).
        answers: classes (n,) by how they were found; empty without labels.
        hits: 1 where an answer is right, (n,), by metric.
    """

    features: Tensor
    indices: tuple[int, ...]
    answers: dict[str, np.ndarray]
    hits: dict[str, Floats]
    neighbours: Neighbours


def _look(encoder: nn.Module, asked: Asked) -> Looked:
    """Features of the images that are scored, their classes as those that the split trains with say, and neighbours."""
    reader, dataset, split = asked.reader, asked.dataset, asked.split
    features, kept = reader.features(encoder, dataset, asked.scored)
    if split is None:  # they are neighbours of each other
        places = nearest(features, features, min(NEIGHBOURS + 1, len(features))).tolist()
        others = [[place for place in row if place != own][:NEIGHBOURS] for own, row in enumerate(places)]
        shortest = min(map(len, others))
        among = np.array(kept)[np.array([row[:shortest] for row in others], np.int64).reshape(len(others), shortest)]
        return Looked(features, kept, {}, {}, Neighbours(among, None))
    assert dataset.labels is not None  # or there were no split
    labels = torch.from_numpy(dataset.labels)

    def labelled(part: Sequence[int]) -> tuple[Tensor, tuple[int, ...]]:
        return reader.features(encoder, dataset, part)

    (train, trained), (validation, validated) = labelled(split.train), labelled(split.validation)
    bank, banked = torch.cat([train, validation]), np.array([*trained, *validated])
    linear, decay = linear_predictions((train, labels[list(trained)]), (validation, labels[list(validated)]), features)
    log.info(f"linear probe: weight decay {decay:g}, chosen on {len(validated):,} validation photos")
    knn = knn_predictions(bank, labels[torch.from_numpy(banked)], features)
    answers = {"knn": knn.numpy(), "linear": linear.numpy()}
    truth = dataset.labels[list(kept)]
    hits = {f"{name}_accuracy": (ids == truth).astype(np.float64) for name, ids in answers.items()}
    places = banked[nearest(bank, features, min(NEIGHBOURS, len(bank))).numpy()]
    alike = (dataset.labels[places] == truth[:, None]).mean(1)
    return Looked(features, kept, answers, hits, Neighbours(places, _mean(alike)))


def _mean(values: Floats) -> Estimate:
    """The mean over images (n,), with its interval."""
    return Estimate(float(values.mean()), interval_of_mean(values))


@torch.inference_mode()
def _alignments(asked: Asked, encoders: Sequence[nn.Module], indices: Sequence[int]) -> list[float]:
    """Alignment of two views of each image in each encoder, by the pretraining's augmentation.

    Of a file alone by the usual one.
    """
    reader, data = asked.reader, asked.backbone.data or PretrainData(dataset=["shapes"])
    strengths = adjusted(STRENGTHS[data.augmentation], **data.strengths)
    size, threads = asked.backbone.metadata.image_size, reader.machine.workers
    samples = TwoViews(asked.dataset, indices, image_size=size, strengths=strengths, seed=0)
    batches = Loader(samples, batch_size=reader.batch_size, shuffle=False, drop_last=False, threads=threads)
    totals, images = [0.0] * len(encoders), 0
    for batch in batches.epoch(0):
        for place, encoder in enumerate(encoders):
            first, second = (reader.pooled(encoder, batch["image"][:, view]) for view in (0, 1))
            totals[place] += float(alignment(first, second)) * len(first)
        images += len(batch["image"])
    return [total / images for total in totals]
