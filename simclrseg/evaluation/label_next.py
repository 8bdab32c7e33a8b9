"""`evaluate --label-next`: the photos whose labels would teach most, of those that have none."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from simclrseg.charts import plots
from simclrseg.charts.chart import shortened
from simclrseg.config.evaluate import EvaluateConfig
from simclrseg.config.finetune import FinetuneConfig
from simclrseg.data.datasets.dataset import Dataset
from simclrseg.errors import DataError, UsageError
from simclrseg.evaluation.backbones import find_backbones
from simclrseg.evaluation.detection import entropy, pair_probabilities
from simclrseg.evaluation.features import Reader, with_weights
from simclrseg.evaluation.opened import images_of, target_of
from simclrseg.evaluation.pool import Pool, name_of, pool_of_backbone, pool_of_target
from simclrseg.evaluation.results import Ungated
from simclrseg.evaluation.scored import batch_size_of, model_run, open_report, sized
from simclrseg.exporters import READERS
from simclrseg.images.colours import overlay
from simclrseg.images.framing import Framing, Window
from simclrseg.images.resizing import resize_mask
from simclrseg.inference.outputs import class_colours
from simclrseg.inference.tiling import Predict, to_mask, to_size
from simclrseg.knobs.parsing import config_of_run
from simclrseg.metadata import ModelMetadata
from simclrseg.metrics.selection import Choice, typical, unsure
from simclrseg.runs.names import ENVIRONMENT, MODEL_FILE
from simclrseg.runs.run import Run
from simclrseg.scores.gallery import viewable
from simclrseg.scores.reading import Frames
from simclrseg.scores.wording import duration
from simclrseg.system.files import write_json, write_rows, write_text
from simclrseg.targets.base import check_bands
from simclrseg.targets.learner import predictor
from simclrseg.text import printable
from simclrseg.training.machine import Machine

log = logging.getLogger(__name__)

SHOWN = 100  # photos on the contact sheet
SCORING = ("split", "at", "empty", "baseline", "minimum", "classes", "size")  # knobs of what has labels


@dataclass(frozen=True)
class LabelNext(Ungated):
    """Photos to label, those first whose labels would teach most.

    Attributes:
        source: the run, or the file of a backbone.
        asked: how many were wanted.
        candidates: how many there were to choose from.
        labelled: how many are labelled already.
        photos: a row each, with its path, or its key where it has no file, the score by which it was chosen, and the
            reason; where they are of several datasets, ``dataset`` is the one.
        names: of each the path, or its key and where there are several its dataset.
    """

    source: Path
    asked: int
    candidates: int
    labelled: int
    photos: list[dict[str, Any]]
    names: list[str]

    def found(self) -> dict[str, Any]:
        return {
            "run": str(self.source),
            "asked": self.asked,
            "candidates": self.candidates,
            "labelled": self.labelled,
            "photos": self.photos,
        }

    def in_words(self) -> list[str]:
        """The names, a line each, for other programs."""
        return [*map(printable, self.names)]


@dataclass(frozen=True)
class _Opened:
    """A run that says which images it has and what it sees in them.

    Attributes:
        path: of the run, or of the file of a backbone.
        pool: the images, given the name of a dataset or None for its own.
        encoder: the network whose features are compared.
        predict: its probabilities, given the number of images at once; None of a backbone.
    """

    name: str
    path: Path
    folder: Path
    metadata: ModelMetadata
    pool: Callable[[str | None], Pool]
    encoder: Callable[[], nn.Module]
    predict: Callable[[int], Predict] | None = None


def label_next(config: EvaluateConfig, machine: Machine) -> LabelNext:
    """Choose photos without labels; ``label-next.txt``, ``.csv`` and ``.jpg`` in the report's folder show them.

    By a backbone they are typical ones of clusters of its features; by a fine-tuned model those of which it is unsure,
    and which are unlike what is labelled.
    """
    count = config.labels.label_next
    assert count is not None  # or nobody would ask
    _refuse_others(config)
    opened = _open(config, machine)
    pool = opened.pool(config.data.dataset)
    check_bands(pool.dataset, opened.metadata, remedy="name others with --dataset")
    if not pool.candidates:
        raise DataError(
            f"--label-next {count}: every photo of {config.data.dataset or opened.name} is labelled, a test photo or a "
            "copy of one",
            "name others with --dataset",
            option="label_next",
            value=count,
        )
    size = batch_size_of(config.data.batch_size, opened.folder)
    predict = opened.predict(size) if opened.predict else None
    reader = Reader(opened.metadata, machine, size)
    started = time.monotonic()
    with open_report(config, opened.name, scored=[str(opened.path)]) as folder, sized(size):
        chosen, windows = _choose(opened.encoder(), predict, pool, reader, count)
        rows, names = [], []
        for number, (index, one) in enumerate(chosen, 1):
            photo, of = name_of(pool, index)
            rows.append({"number": number, "photo": photo, **({"dataset": of} if of else {}), **_facts(one)})
            names.append(f"{photo} of {of}" if of and pool.dataset.path(index) is None else photo)
        if len(rows) < count:
            log.warning(
                f"--label-next {count}: there are {len(rows):,} only; all others are labelled, test photos, or nearly "
                "the same as one of these"
            )
        result = LabelNext(folder, opened.path, count, len(pool.candidates), len(pool.labelled), rows, names)
        write_json(folder / "label-next.json", result.found())
        write_text(folder / "label-next.txt", "".join(f"{line}\n" for line in result.in_words()))
        write_rows(folder / "label-next.csv", rows)
        shown = [index for index, _ in chosen[:SHOWN]]
        _draw(pool.dataset, shown, windows, opened.metadata, predict, folder / "label-next.jpg")
        few = f" the first {SHOWN} of" if len(rows) > SHOWN else ""
        log.info(f"chosen in {duration(time.monotonic() - started)}; {folder / 'label-next.jpg'} shows{few} them")
    return result


def _refuse_others(config: EvaluateConfig) -> None:
    """Refuse what is asked beside and has another purpose."""
    models = config.data.models
    given = [*config.data.changed(SCORING), *config.uncertainty.changed(["ood"]), *config.features.changed(["embed"])]
    if given:
        flag = f"--{given[0]}".replace("minimum", "min")
        reason = f"{flag} is of photos with labels, and --label-next looks for some without"
        raise UsageError(reason, "leave one of them out", option=given[0])
    if len(models) > 1:
        folder = not Run(Path(models[1])).holds(ENVIRONMENT) and Path(models[1]).is_dir()
        remedy = f"name photos as --dataset {models[1]}" if folder else "name one"
        raise UsageError(f"--label-next asks one run, and {len(models)} are named", remedy, option="models")
    if models and Path(models[0]).suffix in READERS and Path(models[0]).suffix != ".safetensors":
        raise UsageError(
            f"--label-next needs features, and {models[0]} gives answers only", "name its run", option="label_next"
        )


def _open(config: EvaluateConfig, machine: Machine) -> _Opened:
    root, models = Path(config.console.runs), config.data.models
    if backbones := find_backbones(models, root):
        (found,) = backbones
        return _Opened(
            found.name,
            found.path,
            found.file.parent,
            found.metadata,
            lambda name: pool_of_backbone(found, name),
            lambda: with_weights(found.metadata, found.file, found.name),
        )
    run = model_run(root, models[0] if models else None)
    log.info(f"run {run.folder}")
    learner, metadata = target_of(run).load(run.folder / MODEL_FILE)
    unlabelled = config_of_run(FinetuneConfig, run.folder).data.unlabelled
    return _Opened(
        run.name,
        run.folder,
        run.folder,
        metadata,
        lambda name: pool_of_target(images_of(run, metadata), unlabelled, name),
        lambda: learner.model.get_submodule("encoder"),
        lambda size: predictor(learner, machine, batch_size=size),
    )


def _choose(
    encoder: nn.Module, predict: Predict | None, pool: Pool, reader: Reader, count: int
) -> tuple[list[tuple[int, Choice]], dict[int, Window]]:
    """Indices of the chosen images, and why they were chosen; and the part of each image that is doubted most."""
    encoder = encoder.to(reader.machine.device).eval()
    binary = reader.metadata.threshold is not None
    worst: dict[int, tuple[float, Window]] = {}

    @torch.inference_mode()
    def ask(frames: Frames) -> tuple[Tensor, ...]:
        features = reader.pooled(encoder, torch.from_numpy(frames.images), torch.from_numpy(frames.held))
        if predict is None:
            return (features,)
        probabilities = pair_probabilities(predict(frames.images), binary=binary)
        doubt = entropy(probabilities) / math.log(probabilities.shape[1])  # of whole images, or of pixels
        if doubt.ndim > 1:
            pixels = frames.held.sum((1, 2))
            sums = (doubt * frames.held).sum((1, 2))
            for frame, most in zip(frames.each, sums.tolist(), strict=True):
                worst[frame.index] = max(worst.get(frame.index, (-1.0, frame.window)), (most, frame.window))
            doubt = sums / np.maximum(1, pixels)
        return features, torch.from_numpy(doubt)

    (features, *doubts), kept = reader.ask(ask, pool.dataset, [*pool.labelled, *pool.candidates])
    before = {*pool.labelled}
    labelled = torch.tensor([index in before for index in kept])
    if labelled.all():
        raise DataError(f"{pool.dataset.name}: none of the {len(pool.candidates):,} photos to choose from can be read")
    chosen = unsure(features, doubts[0], labelled, count) if doubts else typical(features, labelled, count)
    windows = {index: window for index, (_, window) in worst.items()}
    return [(kept[one.place], one) for one in chosen], windows


def _facts(one: Choice) -> dict[str, Any]:
    """The score of an image, what it is made of, and in words why it was chosen."""
    facts = {name: round(value, 6) if isinstance(value, float) else value for name, value in one.facts.items()}
    if "cluster" in facts:
        of_them = f", {facts['labelled']:,} of them labelled" if facts["labelled"] else ""
        alike = f"typical of {facts['size']:,} photos that look alike{of_them}"
        reason = alike if facts["size"] > 1 else "unlike all others"
    else:
        reason = f"unsure ({facts['uncertainty']:.0%} of a draw) and unlike others ({facts['distance']:.2f} of 2)"
    return {"score": round(one.score, 6), **facts, "reason": reason}


def _draw(
    dataset: Dataset,
    indices: Sequence[int],
    windows: dict[int, Window],
    metadata: ModelMetadata,
    predict: Predict | None,
    path: Path,
) -> None:
    """A contact sheet of images, with what the model sees in them: a mask over it, or a class beside its name.

    Args:
        windows: the part of an image that is shown, where that is not its usual one.
    """
    framing, tiles, captions = Framing.of(metadata), [], []
    for number, index in enumerate(indices, 1):
        whole, blank = dataset.image(index), dataset.blank(index)
        window = windows.get(index) or framing.window(whole.shape)
        top, left, bottom, right = window
        image = whole[top:bottom, left:right]
        empty = None if blank is None else blank[top:bottom, left:right]
        shown, name = viewable(image, dataset.bands, empty), shortened(Path(dataset.keys[index]).name)
        if predict is not None:
            found = predict(framing.image(whole, window)[None])[0]
            if found.ndim > 1:
                mask = to_mask(to_size(framing.cut(found, image.shape), shown.shape[:2]), metadata.threshold)
                if empty is not None:
                    mask[resize_mask(empty.view(np.uint8), mask.shape) > 0] = 0
                shown = overlay(shown, mask, class_colours(metadata))
            else:
                name = shortened(f"{metadata.classes[int(found.argmax())]}? {name}")
        tiles.append(shown)
        captions.append(f"{number}  {name}")
    plots.contact_sheet(tiles, captions, path)
