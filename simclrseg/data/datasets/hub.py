"""Sets of the Hugging Face Hub: `hf:owner/name[/config][@revision]`, or `hf:folder` for what its library reads there.

Columns are found by their types: images in the only column of images, masks in the other one, classes in the only
column of class labels. Where types do not tell, flags name them. Parts called train, validation and test are the
published lists. Pictures that lie in tables are written to files, once, as they are: the rest of this tool then
treats them as it treats all others.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simclrseg.data.datasets import HUB
from simclrseg.data.datasets.dataset import UNLABELLED, DatasetOptions, FileDataset
from simclrseg.data.datasets.fetch import Source, fetch, reach_hub
from simclrseg.data.datasets.lists import split_of
from simclrseg.data.datasets.values import deep_photos
from simclrseg.errors import DataError, some
from simclrseg.labels.masks import mask_details
from simclrseg.system.log_file import shown_as_ours
from simclrseg.text import in_one_line

_PHOTO_NAMES = {"image", "images", "img", "photo", "picture", "pixel_values"}
_MASK_NAMES = {"mask", "masks", "annotation", "annotations", "segmentation", "segmentation_mask", "label", "labels"}
_LABEL_NAMES = {"label", "labels"}
_SUFFIXES = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg"}


def hub_dataset(name: str, cache: Path, options: DatasetOptions) -> FileDataset:
    """Open a set of the Hub, fetching it where it is not in the library's own cache.

    Args:
        name: with its ``hf:``.
        cache: folder for pictures that lie in tables.
    """
    from datasets import Image

    tables = _load(name)
    features = next(iter(tables.values())).features
    pictures = [column for column, feature in features.items() if isinstance(feature, Image)]
    image = _picture_column(name, features, pictures, options.image_column, usual=_PHOTO_NAMES, knob="image")
    if image is None:
        raise DataError(
            f"{name} has no column of images (it has {_columns(features)})",
            "choose another set, or save that column as images",
        )
    mask = None
    if options.masks:
        others = [column for column in pictures if column != image]
        mask = _picture_column(name, features, others, options.mask_column, usual=_MASK_NAMES, knob="mask")
    label = _label_column(name, features, options.label_column)
    files, root = _files(name, tables, [image, *([mask] if mask else [])], cache)
    rows = [row for row, file in enumerate(files[image]) if file is not None]
    images = [file for file in files[image] if file is not None]
    masks = [files[mask][row] for row in rows] if mask is not None else []
    summary = [f"{name}: {len(images):,} photos in column {image!r}"]
    details = deep_photos(images, summary, options.reach)
    if len(rows) < len(files[image]):
        summary.append(f"left out: {len(files[image]) - len(rows):,} rows without a photo")
    if mask is not None:
        if not any(masks):
            raise DataError(f"{name}: column {mask!r} holds no masks", "name another with --mask-column")
        of_masks, lines = mask_details(
            images,
            masks,
            classes=options.classes,
            class_count=options.class_count,
            rules=options.mask_rules,
            of_model=options.of_model,
        )
        details |= of_masks
        summary += [f"{sum(file is not None for file in masks):,} masks in column {mask!r}", *lines]
    if label is not None:
        labels, details["label_names"] = _labels(tables, features[label], label)
        details["labels"] = labels[rows]
        summary.append(f"{len(details['label_names'])} classes in column {label!r} ({some(details['label_names'])})")
    parts = [split for split, table in tables.items() for _ in range(len(table))]
    official: dict[str, list[int]] = {}
    for split in tables:
        held = [index for index, row in enumerate(rows) if parts[row] == split]
        if held and (part := split_of(split)):
            official.setdefault(part, []).extend(held)
        summary.append(f"{split}: {len(held):,} photos")
    return FileDataset(
        name,
        root,
        images,
        masks=masks,
        official=official if len(official) > 1 else {},
        summary=summary,
        **details,
    )


def _load(name: str) -> dict[str, Any]:
    """The library's tables by the name of their part."""
    from datasets import Dataset, load_dataset, load_from_disk

    target, _, revision = name.removeprefix(HUB).partition("@")
    folder = Path(os.path.expanduser(name.removeprefix(HUB)))
    owner, _, rest = target.partition("/")
    repository, _, configuration = rest.partition("/")
    try:
        if folder.is_dir():
            kept = any((folder / name).exists() for name in ("dataset_dict.json", "state.json"))  # by save_to_disk
            loaded = (load_from_disk if kept else load_dataset)(str(folder))
        elif not repository:
            raise DataError(f"{name}: a set of the Hub is called hf:owner/name, and there is no such folder")
        else:
            with _offline_unless_it_answers(), shown_as_ours("datasets"), shown_as_ours("huggingface_hub"):
                loaded = load_dataset(f"{owner}/{repository}", configuration or None, revision=revision or None)
    except DataError:
        raise
    except Exception as error:  # whatever a network and the library can raise
        reason = in_one_line(error, 200)
        raise DataError(
            f"{name} cannot be opened ({reason})",
            "check the name and the network; a set that was fetched before is found without one",
        ) from error
    tables = {"train": loaded} if isinstance(loaded, Dataset) else dict(loaded)
    tables = {split: table for split, table in tables.items() if len(table)}
    if not tables:
        raise DataError(f"{name} holds no rows")
    return tables


@contextlib.contextmanager
def _offline_unless_it_answers() -> Iterator[None]:
    """Where the Hub does not answer, let its library look into its cache at once rather than try for half a minute."""
    import datasets
    import huggingface_hub

    switches: tuple[Any, ...] = (datasets.config, huggingface_hub.constants)
    before = [switch.HF_HUB_OFFLINE for switch in switches]
    answers = not any(before)
    if answers:
        try:
            reach_hub()
        except OSError:
            answers = False
    try:
        for switch in switches:
            switch.HF_HUB_OFFLINE = not answers
        yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.HF_HUB_OFFLINE = value


def _picture_column(
    name: str, features: Mapping[str, Any], columns: Sequence[str], asked: str | None, *, usual: set[str], knob: str
) -> str | None:
    """The column that is asked for, that of a usual name, or the only one; None where there is none."""
    if asked is not None:
        return _checked(name, features, asked, columns, f"--{knob}-column", f"{knob}s")
    likely = [column for column in columns if column.lower() in usual]
    found = likely if len(likely) == 1 else columns
    if len(found) > 1:
        what = "photos" if knob == "image" else "masks"
        raise DataError(
            f"{name} has several columns of images ({', '.join(found)})",
            f"name that of the {what} with --{knob}-column",
        )
    return found[0] if found else None


def _label_column(name: str, features: Mapping[str, Any], asked: str | None) -> str | None:
    """The column of classes; None where there is none, or several of which none is plainly meant."""
    from datasets import ClassLabel, Value

    if asked is not None:
        scalars = [column for column, feature in features.items() if isinstance(feature, ClassLabel | Value)]
        return _checked(name, features, asked, scalars, "--label-column", "classes")
    found = [column for column, feature in features.items() if isinstance(feature, ClassLabel)]
    likely = found if len(found) == 1 else [column for column in found if column.lower() in _LABEL_NAMES]
    return likely[0] if len(likely) == 1 else None


def _checked(name: str, features: Mapping[str, Any], asked: str, fitting: Sequence[str], flag: str, what: str) -> str:
    if asked in fitting:
        return asked
    reason = "there is no such column" if asked not in features else f"that column holds no {what}"
    raise DataError(f"{flag} {asked}: {reason}; {name} has {_columns(features)}")


def _columns(features: Mapping[str, Any]) -> str:
    kinds = {column: getattr(feature, "dtype", "") or type(feature).__name__ for column, feature in features.items()}
    return some([f"{column} ({kind})" for column, kind in kinds.items()], shown=8)


def _labels(tables: Mapping[str, Any], feature: Any, column: str) -> tuple[NDArray[np.int64], list[str]]:
    """Class ids of all rows, and the classes' names: the column's own, else its sorted values."""
    values = list(chain.from_iterable(table[column] for table in tables.values()))
    if hasattr(feature, "names"):
        return np.array([UNLABELLED if value is None else value for value in values], np.int64), list(feature.names)
    kinds = sorted({value for value in values if value is not None})
    ids = {value: index for index, value in enumerate(kinds)}
    return np.array([ids.get(value, UNLABELLED) for value in values], np.int64), [str(kind) for kind in kinds]


def _files(
    name: str, tables: Mapping[str, Any], columns: Sequence[str], cache: Path
) -> tuple[dict[str, list[Path | None]], Path]:
    """The file of every picture by column, None for an empty cell, and the folder that all lie in."""
    from datasets import Image

    bare = {split: table.select_columns(list(columns)) for split, table in tables.items()}
    for column in columns:
        bare = {split: table.cast_column(column, Image(decode=False)) for split, table in bare.items()}
    first = next((row[columns[0]] for table in bare.values() for row in table if row[columns[0]] is not None), None)
    if first is None:
        raise DataError(f"{name}: column {columns[0]!r} is empty", "name another with --image-column")
    if first["bytes"] is None:  # files already, wherever they lie
        cells = {column: [cell for table in bare.values() for cell in table[column]] for column in columns}
        paths = {column: [Path(cell["path"]) if cell else None for cell in cells[column]] for column in columns}
        return paths, Path(os.path.commonpath([path.parent for path in paths[columns[0]] if path is not None]))
    label = re.sub(r"[^A-Za-z0-9._-]+", "-", name.removeprefix(HUB))[-60:].strip("-")
    # Another folder as soon as the library's own files change, or what is taken from them.
    sources = [file["filename"] for table in tables.values() for file in table.cache_files]
    state = [f"{source} {os.stat(source).st_size} {os.stat(source).st_mtime_ns}" for source in sources]
    digest = hashlib.sha256("\n".join([*tables, *columns, *state]).encode()).hexdigest()
    root = cache / f"{label}-{digest[:12]}"
    if not all((root / column).is_dir() for column in columns):  # else another process is at it, or was killed
        size = sum(table.data.nbytes for table in bare.values())
        fetch(Source(name, "its pictures", name, size, size), root, partial(_write, bare), entries=tuple(columns))
    written = {(path.parts[-3], path.parts[-2], path.stem): path for path in root.glob("*/*/*")}
    places = [(split, f"{number:07d}") for split, table in bare.items() for number in range(len(table))]
    return {column: [written.get((column, *place)) for place in places] for column in columns}, root


def _write(tables: Mapping[str, Any], folder: Path) -> None:
    """Put pictures as they are into ``<column>/<part>/<number>.<suffix>``."""
    for split, table in tables.items():
        for column in table.column_names:
            (folder / column / split).mkdir(parents=True)
        for number, row in enumerate(table):
            for column, cell in row.items():
                if cell is not None:
                    content = cell["bytes"] or Path(cell["path"]).read_bytes()
                    suffix = next((end for start, end in _SUFFIXES.items() if content.startswith(start)), ".image")
                    (folder / column / split / f"{number:07d}{suffix}").write_bytes(content)
