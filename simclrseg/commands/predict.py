"""`simclrseg predict`: images in, masks or labels out, on ONNX Runtime; torch is never imported."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

from simclrseg.commands.model import GPU_BATCH, open_for, predictor_of
from simclrseg.config.predict import PredictConfig
from simclrseg.data.datasets.naming import IMAGE_FOLDERS, MASK_FOLDERS, Found, Names, in_folder, in_folders
from simclrseg.errors import ImageError, SimclrsegError, Terminated, UsageError
from simclrseg.images.decode import Picture, image_shape
from simclrseg.images.headers import TooManyPixels
from simclrseg.inference import OUTPUTS
from simclrseg.inference.inputs import STREAM, InputImage, find_images, names_one_image
from simclrseg.inference.jobs import Job, check_writable, common_folder, names_a_file, plan_outputs
from simclrseg.inference.pipeline import run_all
from simclrseg.inference.predictor import Predictor, to_stdout
from simclrseg.inference.session import CPU, Model
from simclrseg.system.files import json_text, make_folder, remove_empty, replacing, write_text
from simclrseg.system.hardware import cpu_cores, explained_shortage
from simclrseg.weights.shipped import EXAMPLE, PHOTO, photo_or

log = logging.getLogger(__name__)

Row = dict[str, Any]
"""The outcome for an image: ``image`` and its files or label, or ``image`` and ``reason``."""


@dataclass(frozen=True)
class PredictResult:
    """The outcome for each image.

    Attributes:
        fallback: why the device is not the GPU; None where it is, or was not asked for.
        photos: number of all images.
        done, failed, skipped: rows {image, mask, …, confidence} or {image, label, score, scores}; {image, reason}; and
            {image}.
    """

    model: Path
    device: str
    fallback: str | None
    photos: int
    done: list[Row]
    failed: list[Row]
    skipped: list[Row]


def predict(config: PredictConfig, *, on_file: Callable[[int, int], None] = lambda done, total: None) -> PredictResult:
    """Write what is asked for of each image, or its label if the model classifies.

    An image that cannot be read is reported and the rest goes on.

    Args:
        on_file: is told (images done, images in all).
    """
    unread: dict[Path, str] = {}
    inputs = [photo_or(text) for text in config.input.inputs]
    if str(PHOTO) in inputs and config.console.output is None:
        raise UsageError(f"{EXAMPLE} is a photo inside the package", "say with -o where results go", option="output")
    config = config.model_copy(update={"input": config.input.model_copy(update={"inputs": inputs})})
    images = find_images(inputs, config.console.output, unread=unread)
    _tell_masks(images)
    threads = min(len(images), config.hardware.workers or cpu_cores())
    once = len(images) == 1 and not (config.method.tile or config.method.tta)
    model = open_for(config, at_once=threads, once=once)
    make_rows = _labels if model.classifies else _files
    done, failed, skipped = make_rows(config, model, images, threads, on_file)
    failed += [{"image": str(file), "reason": f"{file}: {reason}"} for file, reason in unread.items()]
    return PredictResult(
        model.path, model.device, model.cause or None, len(images) + len(unread), done, failed, skipped
    )


def _tell_masks(images: Sequence[InputImage]) -> None:
    """Warn where folders that are called as those of masks are hold pictures with the names of photos beside them."""
    paths = {image.source: image.relative.parts for image in images if image.source is not None}
    if len({path[:-1] for path in paths.values()}) == 1:
        return
    if not (masks := in_folders(paths, MASK_FOLDERS)):
        return
    files = {found.file for found in masks}
    photos = [
        in_folder(file, path, IMAGE_FOLDERS) or Found(file, path, above=(), below=path)
        for file, path in paths.items()
        if file not in files
    ]
    names = Names(photos)
    paired = [found for found in masks if names.named(found.parts)]
    if len(paired) > len(masks) / 2:
        log.warning(
            f"{len(paired):,} of {len(images):,} pictures lie in a folder called {paired[0].home[-1]}, under the names "
            "of others: if they are masks, name the folder of the photos alone"
        )


def _files(
    config: PredictConfig, model: Model, images: Sequence[InputImage], threads: int, on_file: Callable[[int, int], None]
) -> tuple[list[Row], list[Row], list[Row]]:
    """Write the files of each image; the rows done, failed and skipped."""
    output = config.console
    jobs = plan_outputs(
        images,
        {kind: OUTPUTS[kind].ending(model.metadata) for kind in output.outputs},
        output.output,
        others={kind: made.ending(model.metadata) for kind, made in OUTPUTS.items()},
        one=names_one_image(config.input.inputs),
        overwrite=output.overwrite,
        skip_existing=output.skip_existing,
    )
    if output.as_json and any(None in job.targets.values() for job in jobs):
        raise UsageError("--json prints to stdout, where the result goes too", "name a file with -o", option="json")
    predictor = predictor_of(config, model)
    made: list[Path] = []
    parts: dict[str, dict[InputImage, bytes]] = {}  # of files for all images, by output
    index = _index(config, model, images)
    for job in jobs:
        if taken := next((target for target in job.targets.values() if target in index), None):
            reason = f"the labels of {job.image} would be written to {taken}, where the names of the classes go"
            raise UsageError(reason, "rename the photo", option="inputs", path=taken)

    def work(batch: Sequence[Job]) -> list[Row]:
        rows, pictures = _read(predictor, [job.image for job in batch])
        found = predictor.predict([picture.pixels for picture in pictures.values()])
        for (place, picture), probabilities in zip(pictures.items(), found, strict=True):
            targets = batch[place].targets
            for target in targets.values():
                if target is not None:
                    made[:0] = make_folder(target.parent)
            sure, written = predictor.write(batch[place], picture, probabilities)
            for kind, part in written.items():
                parts.setdefault(kind, {})[batch[place].image] = part
            rows[place] |= {kind: "-" if target is None else str(target) for kind, target in targets.items()}
            rows[place]["confidence"] = round(sure, 6)
        return rows

    waiting = [job for job in jobs if job.targets]
    skipped = [{"image": str(job.image)} for job in jobs if not job.targets]
    try:
        apart = not any(OUTPUTS[kind].joint for kind in output.outputs)
        done, failed = _run(work, waiting, model, threads, len(skipped), on_file, lambda job: job.image, goes_on=apart)
        for kind, of_images in parts.items():
            in_order = [of_images[job.image] for job in waiting if job.image in of_images]
            target = waiting[0].targets[kind]
            with to_stdout() if target is None else replacing(target) as file:
                file.write_text(OUTPUTS[kind].joined(in_order, model.metadata), encoding="utf-8")
        for path, text in index.items() if done else ():
            write_text(path, text)
    finally:
        remove_empty(made)
    return done, failed, skipped


def _index(config: PredictConfig, model: Model, images: Sequence[InputImage]) -> dict[Path, str]:
    """Files that those of all images need beside them, unless there is one file or stdout to write to."""
    output = config.console.output
    found = {}
    for kind in config.console.outputs if output != STREAM and not (output and names_a_file(output)) else ():
        if entry := OUTPUTS[kind].index(model.metadata):
            path = common_folder(images, output) / entry[0]
            found[path] = entry[1]
            if not config.console.overwrite and path.is_file() and path.read_text("utf-8", "replace") != entry[1]:
                reason = f"{path} exists and holds other names than the model"
                raise UsageError(reason, "pass --overwrite, or name another folder", option="overwrite", path=path)
    return found


def _labels(
    config: PredictConfig, model: Model, images: Sequence[InputImage], threads: int, on_file: Callable[[int, int], None]
) -> tuple[list[Row], list[Row], list[Row]]:
    """Classify each image, and write a table if a file is named; the rows done, failed and skipped."""
    table = config.console.output
    if table is not None:
        if Path(table).suffix.lower() not in (".csv", ".json"):
            raise UsageError(
                f"-o {table}: labels are written as a table", "name a .csv or .json file", option="output", path=table
            )
        if Path(table).exists() and not config.console.overwrite:
            raise UsageError(f"{table} exists: nothing is replaced without --overwrite", option="overwrite", path=table)
        check_writable(Path(table).parent)
    predictor = predictor_of(config, model)

    def work(batch: Sequence[InputImage]) -> list[Row]:
        rows, pictures = _read(predictor, batch)
        found = predictor.classify([picture.pixels for picture in pictures.values()])
        for place, row in zip(pictures, found, strict=True):
            rows[place] |= row
        return rows

    made = make_folder(Path(table).parent) if table is not None else []
    try:
        done, failed = _run(work, images, model, threads, 0, on_file, lambda image: image, goes_on=False)
        if table is not None:
            write_text(Path(table), _as_table(done, Path(table).suffix.lower()))
    finally:
        remove_empty(made)
    return done, failed, []


def _read(predictor: Predictor, images: Sequence[InputImage]) -> tuple[list[Row], dict[int, Picture]]:
    """A row for each image, with the reason where it cannot be read, and by place the pictures of the others."""
    rows: list[Row] = [{"image": str(image)} for image in images]
    pictures = {}
    for place, image in enumerate(images):
        try:
            pictures[place] = predictor.read(image)
        except ImageError as error:
            more = ", or allow more with --max-pixels" if isinstance(error.__cause__, TooManyPixels) else ""
            rows[place]["reason"] = f"{error}{more}"
    return rows, pictures


def _run(
    work: Callable[[Sequence[Any]], list[Row]],
    items: Sequence[Any],
    model: Model,
    threads: int,
    skipped: int,
    on_file: Callable[[int, int], None],
    image_of: Callable[[Any], InputImage],
    *,
    goes_on: bool,
) -> tuple[list[Row], list[Row]]:
    """Do the work of all items, report as it goes, and give the rows done and failed, each in the items' order.

    Args:
        goes_on: whether each item's results are there once it is done, and not with those of all at the end.
    """
    size = model.fixed[0] or (1 if model.provider == CPU else GPU_BATCH)
    batches = [items[start : start + size] for start in range(0, len(items), size)]
    rows: list[list[Row]] = [[] for _ in batches]
    weight = max(1, model.metadata.in_channels * model.dtype.itemsize // 3)  # of a pixel, against that of a photo
    count = failures = 0
    if threads > 1:
        cv2.setNumThreads(0)  # each call on the thread that makes it; for the whole process
    try:
        remedy = "pass --workers 1" if threads > 1 else "free some memory"
        with explained_shortage(f"with {threads} at a time", remedy):
            for number, batch in run_all(
                work, batches, threads=threads, pixels=lambda item: weight * _pixels(image_of(item))
            ):
                rows[number] = batch
                for row in batch:
                    count += 1
                    if "reason" in row:
                        failures += 1
                        log.warning(row["reason"])
                    on_file(count, len(items))
    except (SimclrsegError, KeyboardInterrupt, Terminated):
        remedy = "; --skip-existing goes on from there" if goes_on else ""
        if len(items) > 1:
            log.info(f"stopped: {count - failures} of {len(items)} done{remedy}")
        raise
    if len(items) + skipped > 1:
        log.info(f"{count - failures} done, {failures} failed, {skipped} skipped")
    flat = [row for batch in rows for row in batch]
    return [row for row in flat if "reason" not in row], [row for row in flat if "reason" in row]


def _pixels(image: InputImage) -> int:
    """From the header; an image that cannot be read needs no room."""
    try:
        height, width = image_shape(image.source) if image.source is not None else (0, 0)
    except ImageError:
        return 0
    return height * width


def _as_table(rows: Sequence[Row], suffix: str) -> str:
    if suffix == ".json":
        return json_text(rows, indent=1)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["image", "label", "score", *(rows[0]["scores"] if rows else [])])
    table.writerows([row["image"], row["label"], row["score"], *row["scores"].values()] for row in rows)
    return text.getvalue()
