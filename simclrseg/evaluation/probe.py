"""`evaluate` of a backbone: what its features are good for, before anything is fine-tuned."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from simclrseg import runs
from simclrseg.config.evaluate import EvaluateConfig
from simclrseg.config.pretrain import PretrainConfig, PretrainData
from simclrseg.data.augment import STRENGTHS, adjusted
from simclrseg.data.datasets.base import Dataset, DatasetOptions
from simclrseg.data.datasets.locate import open_dataset
from simclrseg.data.loader import Loader
from simclrseg.data.samples import TwoViews, spread
from simclrseg.data.splits import Split
from simclrseg.errors import RunError, UsageError, WeightsError
from simclrseg.evaluation import embedding
from simclrseg.evaluation.features import Reader, untrained, with_weights
from simclrseg.evaluation.results import figures
from simclrseg.evaluation.scored import batch_size_of, open_report, sized
from simclrseg.images.bands import parsed_bands
from simclrseg.knobs.files import config_of_run
from simclrseg.metadata import ModelMetadata
from simclrseg.metrics.representation import alignment, effective_rank, knn_predictions, linear_predictions, uniformity
from simclrseg.models.weights import read_metadata
from simclrseg.runs import BACKBONE_FILE
from simclrseg.scores.doubts import few_images, pretraining_doubts
from simclrseg.scores.intervals import interval_of_mean
from simclrseg.scores.results import Estimate
from simclrseg.system.files import write_json, write_rows
from simclrseg.targets.base import check_bands, elsewhere
from simclrseg.targets.classify.target import ClassificationTarget
from simclrseg.training.machine import Machine
from simclrseg.weights.seen import warn_if_seen

log = logging.getLogger(__name__)

MOST = 5_000  # images of the figures that need no labels
PREDICTORS_ONLY = ("minimum", "at", "empty", "baseline", "classes", "size")  # knobs without a meaning for a backbone


@dataclass(frozen=True)
class Backbone:
    """A pretrained encoder in a file.

    Attributes:
        path: what was named, a run's folder or a file.
        config: of the run; None for a file alone.
    """

    name: str
    path: Path
    file: Path
    metadata: ModelMetadata
    config: PretrainConfig | None

    @property
    def data(self) -> PretrainData | None:
        return self.config.data if self.config else None


def find_backbone(names: Sequence[str], root: Path) -> Backbone | None:
    """The pretraining run of that name or folder, or the backbone in that file; None where it is something else.

    A name that a fine-tuned run bears too is that run's.

    Raises:
        RunError: if the run has no backbone yet.
        UsageError: if there are several models, one of them a backbone.
        WeightsError: if the file cannot be read, or does not say what it holds.
    """
    found = [backbone for name in names if (backbone := _find(name, root)) is not None]
    if found and len(names) > 1:
        raise UsageError(
            f"{found[0].path} is a backbone, and these are scored one at a time: evaluate it alone",
            option="models",
            path=found[0].path,
        )
    return found[0] if found else None


def _find(name: str, root: Path) -> Backbone | None:
    path = Path(name)
    if path.suffix == ".safetensors" and not path.is_dir():
        if path.name == BACKBONE_FILE and (path.parent / runs.ENVIRONMENT).is_file():
            return _of_run(runs.Run(path.parent))
        metadata = read_metadata(path)
        if metadata is None:
            raise WeightsError(
                f"{path} does not say which encoder it holds: only backbones of `pretrain` are scored", path=path
            )
        return Backbone(path.stem, path, path, metadata, None) if metadata.task == "backbone" else None
    for folder in (path, root / "pretrain" / name):
        run = runs.Run(folder)
        if run.holds(runs.ENVIRONMENT) and run.kind == "pretrain":
            taken = folder != path and (root / "finetune" / name / runs.ENVIRONMENT).is_file()
            return None if taken else _of_run(run)
    return None


def _of_run(run: runs.Run) -> Backbone:
    file = run.folder / BACKBONE_FILE
    if not file.is_file():
        raise RunError(
            f"run {run.name!r} holds no {BACKBONE_FILE} yet",
            f"finish it with `simclrseg pretrain --resume {run.word}{runs.option(run.root)}`",
        )
    metadata = read_metadata(file)
    if metadata is None:
        raise WeightsError(f"{file} does not say which encoder it holds", "pretrain again", path=file)
    return Backbone(run.name, run.folder, file, metadata, config_of_run(PretrainConfig, run.folder))


@dataclass(frozen=True)
class Probed:
    """What the features of an encoder are good for: the metrics of n images, those by labels first."""

    folder: Path
    backbone: Path
    dataset: str
    split: str
    n: int
    metrics: Mapping[str, Estimate]
    without_learning: Mapping[str, float]
    embedding: embedding.Embedding | None
    missed: ClassVar = ()  # no value is asked for

    def facts(self) -> dict[str, Any]:
        """The JSON form."""
        return {**self.found(), "report": str(self.folder)}

    def found(self) -> dict[str, Any]:
        """The content of ``metrics.json``."""
        place = {"backbone": str(self.backbone), "dataset": self.dataset, "split": self.split, "n": self.n}
        drawn = {"embedding": self.embedding.facts()} if self.embedding else {}
        return {**place, **figures(self.metrics, self.without_learning), **drawn}


def evaluate_backbone(found: Backbone, config: EvaluateConfig, machine: Machine) -> Probed:
    """Score an encoder: weighted k-NN and a linear probe by labels, alignment, uniformity and rank without.

    Nothing is written where it raises SimclrsegError for what a user can mend.
    """
    metadata, method = found.metadata, config.features.embed
    fields = type(config.data).model_fields
    given = ["ood"] if config.uncertainty.ood else []
    given += [name for name in PREDICTORS_ONLY if getattr(config.data, name) != fields[name].default]
    if given:
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
    backbone = with_weights(metadata, found.file, found.name)
    reader = Reader(metadata, machine, batch_size_of(config.data.batch_size, found.file.parent))
    with open_report(config, found.name, scored=[str(found.path)]) as folder, sized(reader.batch_size):
        seed = found.config.run.seed if found.config else 0
        bare = untrained(metadata, seed=seed)
        metrics, free = probe(found, backbone, bare, reader, dataset, split, scored, folder)
        values = {name: estimate.value for name, estimate in metrics.items()}
        for doubt in [*few_images(len(scored)), *pretraining_doubts(values, free)]:
            log.warning(doubt)
        drawn = None
        if method is not None:
            encoders = {"before pretraining": lambda: bare, "after pretraining": lambda: backbone}
            drawn = embedding.draw(encoders, dataset, scored, reader, method=method, folder=folder)
        part = "test" if split else "photos without labels"
        result = Probed(folder, found.path, dataset.name, part, len(scored), metrics, free, drawn)
        write_json(folder / "metrics.json", result.found())
    return result


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
    options = DatasetOptions(
        masks=False,
        image_column=data.image_column,
        label_column=data.label_column,
        reach=found.metadata.reach,
        bands=parsed_bands(data.bands) if data.bands else (),
        model_bands=found.metadata.bands,
    )
    dataset = open_dataset(name, options)
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


def probe(
    found: Backbone,
    backbone: nn.Module,
    bare: nn.Module,
    reader: Reader,
    dataset: Dataset,
    split: Split | None,
    scored: Sequence[int],
    folder: Path,
) -> tuple[dict[str, Estimate], dict[str, float]]:
    """The figures, and those by labels, which come first, of the ``bare`` network, which is untrained.

    ``per_image.csv`` has what was said of each image.
    """
    features, kept = reader.features(backbone, dataset, scored)
    metrics: dict[str, Estimate] = {}
    free: dict[str, float] = {}
    if split is not None:
        assert dataset.labels is not None  # or there were no split
        labels, names = torch.from_numpy(dataset.labels), dataset.label_names

        def labelled(encoder: nn.Module, part: Sequence[int]) -> tuple[Tensor, Tensor]:
            these, places = reader.features(encoder, dataset, part)
            return these, labels[list(places)]

        def answers(encoder: nn.Module, asked: Tensor) -> dict[str, Tensor]:
            """Classes of some features of this encoder, by how they are found."""
            train, validation = labelled(encoder, split.train), labelled(encoder, split.validation)
            bank, bank_labels = (torch.cat(both) for both in zip(train, validation, strict=True))
            linear, decay = linear_predictions(train, validation, asked)
            log.info(f"linear probe: weight decay {decay:g}, chosen on {len(validation[1]):,} validation photos")
            return {"knn_accuracy": knn_predictions(bank, bank_labels, asked), "linear_accuracy": linear}

        truth = labels[list(kept)]
        rows = [
            {"image": dataset.keys[index], "true": names[label]}
            for index, label in zip(kept, truth.tolist(), strict=True)
        ]
        for name, ids in answers(backbone, features).items():
            hits = (ids == truth).double().numpy()
            metrics[name] = Estimate(float(hits.mean()), interval_of_mean(hits))
            for row, label in zip(rows, ids.tolist(), strict=True):
                row[name.removesuffix("_accuracy")] = names[label]
        log.info("the same of the network untrained:")
        for name, ids in answers(bare, reader.features(bare, dataset, scored)[0]).items():
            free[name] = float((ids == truth).double().mean())
        write_rows(folder / "per_image.csv", rows)
    some = features[spread(range(len(features)), MOST)]
    metrics["alignment"] = Estimate(_alignment(found, backbone, reader, dataset, spread(kept, MOST)))
    if len(some) > 1:
        metrics["uniformity"] = Estimate(float(uniformity(some)))
    metrics["effective_rank"] = Estimate(float(effective_rank(some)))
    return metrics, free


@torch.inference_mode()
def _alignment(found: Backbone, backbone: nn.Module, reader: Reader, dataset: Dataset, indices: Sequence[int]) -> float:
    """Alignment of two views of each image by the pretraining's augmentation; of a file alone by the usual one."""
    data = found.data or PretrainData(dataset=["shapes"])
    strengths = adjusted(STRENGTHS[data.augmentation], **data.strengths)
    samples = TwoViews(dataset, indices, image_size=found.metadata.image_size, strengths=strengths, seed=0)
    threads = reader.machine.workers
    batches = Loader(samples, batch_size=reader.batch_size, shuffle=False, drop_last=False, threads=threads)
    total, images = 0.0, 0
    for batch in batches.epoch(0):
        first, second = (reader.pooled(backbone, batch["image"][:, view]) for view in (0, 1))
        total += float(alignment(first, second)) * len(first)
        images += len(first)
    return total / images
