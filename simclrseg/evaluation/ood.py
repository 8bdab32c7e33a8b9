"""`evaluate --ood`: does a model know when it does not know?"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from simclrseg.charts import plots
from simclrseg.data.datasets.dataset import Dataset, DatasetOptions
from simclrseg.data.datasets.locate import open_dataset
from simclrseg.data.samples import spread
from simclrseg.data.seen import Overlap, image_hashes, overlap
from simclrseg.errors import DataError, UsageError
from simclrseg.evaluation.detection import (
    Detection,
    detection,
    energy,
    entropy,
    max_softmax,
    mutual_information,
    pair_logits,
    pair_probabilities,
)
from simclrseg.evaluation.features import Reader
from simclrseg.evaluation.results import Evaluated
from simclrseg.images.depth import Range
from simclrseg.metadata import ModelMetadata
from simclrseg.models.dropout import dropout_layers, sampling
from simclrseg.system.files import write_rows
from simclrseg.targets.base import check_bands

log = logging.getLogger(__name__)

MOST = 10_000  # images of another dataset
DRAWS = 20  # of Monte-Carlo dropout, where nothing else is asked for
PIXELS = 256  # of each image

Level = Literal["image", "pixel"]
# images (N, S, S, bands) -> by score, (N,) of images or (N, S, S) of pixels; higher is more out of distribution
Scorer = Callable[[np.ndarray], dict[str, np.ndarray]]


class Other(NamedTuple):
    """Images of another kind: what the user called them, their dataset, and those of it that are taken."""

    name: str
    dataset: Dataset
    indices: Sequence[int]


@dataclass(frozen=True)
class OutOfDistribution:
    """The scores of one or more other datasets.

    Attributes:
        detections: by dataset, as the user called it, level and score.
        draws: of Monte-Carlo dropout; 0 without.
        picture: of the scores of images.
    """

    detections: dict[str, dict[Level, dict[str, Detection]]]
    draws: int
    picture: Path

    def facts(self) -> dict[str, Any]:
        """The JSON form."""
        facts: dict[str, Any] = {}
        for name, levels in self.detections.items():
            some = next(iter(levels["image"].values()))
            facts[name] = {"inside": some.inside, "outside": some.outside, "mc_samples": self.draws or None}
            for level, scores in levels.items():
                facts[name][level] = {
                    score: {curve: value.facts() for curve, value in found.estimates().items()}
                    for score, found in scores.items()
                }
        return facts

    def rows(self) -> list[dict[str, Any]]:
        """A row a dataset, level and score."""
        rows = []
        for name, levels in self.detections.items():
            for level, scores in levels.items():
                for score, found in scores.items():
                    row: dict[str, Any] = {"dataset": name, "level": level, "score": score}
                    for curve, value in found.estimates().items():
                        row |= value.columns(curve)
                    rows.append(row)
        return rows


def open_others(names: Sequence[str], reach: Range | None, bands: tuple[str, ...]) -> list[Other]:
    """The datasets of ``--ood`` and their images: those of a published test list, else all; 10,000 at most.

    Args:
        reach: the model's range of values in photos of more than 8 bits.
        bands: the model's.
    """
    found = []
    for name in dict.fromkeys(names):
        dataset = open_dataset(name, DatasetOptions(masks=False, reach=reach, model_bands=bands))
        listed = dataset.official.get("test")
        chosen = spread(listed or range(len(dataset)), MOST)
        log.info(f"--ood {name}: {len(chosen):,} photos" + (" of the test list" if listed else ""))
        found.append(Other(name, dataset, chosen))
    return found


def check(
    others: Sequence[Other], dataset: Dataset, network: Any | None, metadata: ModelMetadata, samples: int | None
) -> int:
    """Refuse what cannot be told, before anything is scored, and say how many draws of dropout there will be.

    Args:
        dataset: the model's own images.
        network: None for an exported file.
        samples: draws that were asked for; None for as many as are usual, where the model allows any.
    """
    own = _identities(dataset, range(len(dataset)))
    for other in others:
        check_bands(other.dataset, metadata, remedy="choose another --ood")
        if shared := len(own & _identities(other.dataset, other.indices)):
            raise DataError(
                f"--ood {other.name} is what the model is scored on, or has {shared:,} photos of it",
                "choose a dataset of another kind",
                option="ood",
                value=other.name,
            )
        found = overlap(metadata.seen, image_hashes(other.dataset, other.indices)) if metadata.seen else Overlap(0, 0)
        if found.seen:
            log.warning(
                f"--ood {other.name}: {found.seen:,} of its {found.judged:,} photos were seen in training, with or "
                "without labels: how well these are told apart says little of a kind that is new to the model"
            )
    if network is None:
        if samples is not None:
            raise UsageError(
                "--mc-samples needs dropout, and an exported file has none left", "name its run", option="mc_samples"
            )
        log.info("of an exported file, which has no logits and no dropout, --ood reads msp and entropy only")
        return 0
    if not dropout_layers(network.model):
        reason = "the model was trained without dropout, so its mutual information would be exactly 0"
        if samples is not None:
            raise UsageError(
                f"--mc-samples {samples}: {reason}; fine-tune with --dropout 0.1", option="mc_samples", value=samples
            )
        log.info(f"no mutual information: {reason}")
        return 0
    return DRAWS if samples is None else samples


def _identities(dataset: Dataset, indices: Iterable[int]) -> set[object]:
    """Identities of images, whatever their folder is called by: their files, or keys where they have no file."""
    resolved = cache(Path.resolve)  # of folders, which are few
    paths = ((index, dataset.path(index)) for index in indices)
    return {
        (dataset.name, dataset.keys[index]) if path is None else resolved(path.parent) / path.name
        for index, path in paths
    }


def measure(
    model: Evaluated, others: Sequence[Other], reader: Reader, *, draws: int, folder: Path
) -> OutOfDistribution:
    """Score the model's own images and the others', and write ``ood.csv`` and ``ood.png``."""
    scorer = _scorer(model, reader.machine.device, draws=draws)
    torch.manual_seed(0)  # dropout draws from it
    own = _score(scorer, model.dataset, model.scores.indices, reader)
    detections: dict[str, dict[Level, dict[str, Detection]]] = {}
    drawn = {f"{model.dataset.name}, its own": own}  # another may bear the same name
    for name, dataset, indices in others:
        theirs = drawn[name] = _score(scorer, dataset, indices, reader)
        levels = detections[name] = {}
        for (level, score), inside in own.items():
            levels.setdefault(level, {})[score] = detection(inside, theirs[level, score])
        _tell(name, levels)
    result = OutOfDistribution(detections, draws, folder / "ood.png")
    write_rows(folder / "ood.csv", result.rows())
    panels = {
        score: {title: values["image", score] for title, values in drawn.items()}
        for level, score in own
        if level == "image"
    }
    plots.histograms(panels, result.picture)
    return result


def _scorer(model: Evaluated, device: torch.device, *, draws: int) -> Scorer:
    """The model as a function of images that says how strange they are; a file gives probabilities only."""
    if model.learner is None:
        binary = model.metadata.threshold is not None
        return lambda images: _of_probabilities(pair_probabilities(model.predict(images), binary=binary))
    network, normalize = model.learner.model.to(device).eval(), model.learner.normalize

    @torch.inference_mode()
    def score(images: np.ndarray) -> dict[str, np.ndarray]:
        inputs = normalize(torch.from_numpy(images).to(device))
        logits = pair_logits(network(inputs).float().cpu().numpy())
        scores = {**_of_probabilities(_softmax(logits)), "energy": energy(logits)}
        if draws:
            with sampling(network):
                drawn = (_softmax(pair_logits(network(inputs).float().cpu().numpy())) for _ in range(draws))
                scores["mutual_information"] = mutual_information(drawn)
        return scores

    return score


def _score(
    scorer: Scorer, dataset: Dataset, indices: Sequence[int], reader: Reader
) -> dict[tuple[Level, str], np.ndarray]:
    """Scores of images (n,), and of some pixels of each (n, PIXELS) where pixels have scores, by level and name.

    An image's score is the mean over its pixels, all of those that it holds: of tiles all, padding left out.
    """
    means: dict[str, dict[int, float]] = {}
    samples: dict[str, dict[int, list[np.ndarray]]] = {}
    passed: dict[int, int] = {}  # pixels of an image so far
    skipped: list[str] = []
    pixels = reader.metadata.image_size**2
    places = np.random.default_rng(0).choice(pixels, min(PIXELS, pixels), replace=False)  # the same in every image
    for frames in reader.read(dataset, indices, skipped):
        found = scorer(frames.images)
        for place, frame in enumerate(frames.each):
            index, count, before = frame.index, int(np.count_nonzero(frame.held)), passed.get(frame.index, 0)
            passed[index] = before + count
            ranks = places * frame.total // pixels - before
            inside = ranks[(ranks >= 0) & (ranks < count)]
            for score, values in found.items():
                mean = means.setdefault(score, {})
                if values.ndim == 1:
                    mean[index] = values[place]
                    continue
                flat = values[place][frame.held]
                mean[index] = mean.get(index, 0.0) + float(flat.sum()) / frame.total
                samples.setdefault(score, {}).setdefault(index, []).append(flat[inside])
    if skipped:
        log.warning(f"{dataset.name}: {len(skipped)} photos could not be scored; the first: {skipped[0]}")
    scores: dict[tuple[Level, str], np.ndarray] = {}
    for score, mean in means.items():
        scores["image", score] = np.array([*mean.values()])
        if score in samples:
            scores["pixel", score] = np.stack([np.concatenate(parts) for parts in samples[score].values()])
    return scores


def _of_probabilities(probabilities: np.ndarray) -> dict[str, np.ndarray]:
    return {"msp": max_softmax(probabilities), "entropy": entropy(probabilities)}


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
    return shares


def _tell(name: str, levels: dict[Level, dict[str, Detection]]) -> None:
    """Say what was found, and warn of scores that point the wrong way."""
    turned = []
    for level, scores in levels.items():
        words = (f"{score} {found.estimates()['auroc']}" for score, found in scores.items())
        log.info(f"{name} told apart by {level}, AUROC: {'; '.join(words)}")
        turned += [f"{score} per {level} {found.auroc:.3f}" for score, found in scores.items() if found.auroc < 0.5]
    if turned:
        log.warning(
            f"--ood {name}: AUROC below 0.5 ({', '.join(turned)}): there the model is surer of {name} than of its own "
            "photos, and such photos cannot be refused by it"
        )
