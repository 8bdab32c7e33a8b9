"""Sets whose masks are drawn from objects in files of labels: COCO, YOLO and LabelMe, by a file or a folder.

An image that COCO or YOLO list without objects is background; one without its JSON of LabelMe is unlabelled. The
splits of the form are the published lists: ``data.yaml``, a COCO file a split, folders named ``train`` and so on.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from simclrseg.data.datasets.copies import same_photos
from simclrseg.data.datasets.dataset import DatasetOptions, FileDataset, refuse_shared
from simclrseg.data.datasets.folder import bands_of
from simclrseg.data.datasets.label_files import labels_of_file, labels_of_folder, set_of
from simclrseg.data.datasets.lists import find_lists, read_lists, split_folders, split_of, tell_other_folders
from simclrseg.data.datasets.values import deep_photos, tell_pages
from simclrseg.errors import DataError, some
from simclrseg.images.decode import Mask, image_shape
from simclrseg.images.listing import is_photo, tell_unread, walk
from simclrseg.images.opening import turn_upright
from simclrseg.labels.labelled import Labelled, LabelledImage
from simclrseg.labels.placing import place_on_images
from simclrseg.labels.polygons import Ring, draw

_NEARLY_ALL = 0.9  # of the objects, which are boxes
_SOME_OBJECTS = 3
_SLACK = 0.01  # of its longer side, by which a box may be askew


class Drawn(FileDataset):
    """Images whose masks are drawn each time they are asked for."""

    def __init__(self, name: str, root: Path, found: Sequence[LabelledImage], **details: Any) -> None:
        super().__init__(name, root, [one.image for one in found], **details)
        self._found = tuple(found)

    def has_mask(self, index: int) -> bool:
        return self.has_masks and self._found[index].objects is not None

    def mask(self, index: int) -> Mask:
        one = self._found[index]
        if one.objects is None:
            return super().mask(index)
        try:
            drawn = draw(one.objects, one.size or image_shape(one.image))
            return self.ignoring(np.ascontiguousarray(turn_upright(drawn, one.turned_by)), index)
        except ValueError as error:
            raise DataError(f"{one.source}: an object of {self.keys[index]}: {error}", path=one.source) from error


def drawn_set(path: Path, options: DatasetOptions) -> Drawn | None:
    """Open the set of a file of labels, or of those in a folder; None for a folder without any.

    Raises:
        DataError: for labels that cannot be read or do not fit their images.
    """
    found = labels_of_file(path) if path.is_file() else labels_of_folder(path)
    if found is None:
        return None
    for given, option in ((options.classes, "classes_file"), (options.mask_rules or options.mask_folder, "masks")):
        if given and not options.of_model:
            flag = f"--{option.replace('_', '-')}"
            raise DataError(f"{flag} is for folders of masks; {path} holds labels of {found.form}", option=option)
    for one in found.images:
        one.image = Path(os.path.abspath(one.image))
    place_on_images(found)
    images = [one.image for one in found.images]
    folder = set_of(path) if path.is_file() else path
    root = _root_of(path, folder, images)
    place = {image: index for index, image in enumerate(images)}
    if len(place) < len(images):
        one = next(one for index, one in enumerate(found.images) if place[one.image] != index)
        other = found.images[place[one.image]]
        if one.source == other.source:
            raise DataError(f"{one.source} lists {one.image.name} twice", "remove one of the two", path=one.source)
        reason = f"{one.source} and {other.source} both have labels of {one.image.name}"
        raise DataError(reason, "give the right one as --dataset, or remove the other", path=one.source)
    bare = Counter[str]()
    lines: list[str] = []
    if found.splits is None:
        files = [parent / name for parent, names in walk(folder.absolute(), {}) for name in names]
        lists = find_lists(folder.absolute(), set(files) - {one.source for one in found.images})
        others = {file for file in files if is_photo(file.name)} - {*images}
        below = [image.relative_to(root) for image in images]
        official = read_lists(root, lists, images, below, lines, others=others)
        if not official:
            official, bare = _splits_of_folders(found.images, lines)
    else:
        official = {key: [place[Path(os.path.abspath(one))] for one in part] for key, part in found.splits.items()}
    refuse_shared(official, [image.name for image in images], path)
    objects = [len(one.objects) for one in found.images if one.objects is not None]
    number = f"{len(found.classes) - 1} class" + ("es" if len(found.classes) > 2 else "")
    summary = [
        f"{path}: {len(images):,} photos with labels in the form of {found.form}",
        f"objects: {sum(objects):,} of {number} ({some(found.classes[1:])}); smaller ones lie on top",
        *_tell_boxes(found),
        *([f"photos without an object, which are background: {objects.count(0):,}"] if 0 in objects else []),
        *found.notes,
        *([f"photos that cannot be read: {tell_unread(found.unread)}"] if found.unread else []),
        *lines,
        *(f"{split}: {len(indices):,} photos" for split, indices in official.items()),
        *(f"{split}: none of its {count:,} photos has labels, so that it is no part" for split, count in bare.items()),
    ]
    details = bands_of(images, summary, options) or deep_photos(images, summary, options.reach)
    tell_pages(images, "photos", summary)
    details |= {"classes": found.classes if options.masks else ()}
    details["twins"] = same_photos(images, official, summary)
    return Drawn(folder.resolve().name, root, found.images, official=official, summary=summary, **details)


def _tell_boxes(found: Labelled) -> list[str]:
    """A line on objects that are boxes, as those of detectors are."""
    objects = [one.parts for image in found.images for one in image.objects or ()]
    boxes = sum(len(parts) == 1 and isinstance(parts[0], np.ndarray) and _is_box(parts[0]) for parts in objects)
    if boxes < _NEARLY_ALL * len(objects) or len(objects) < _SOME_OBJECTS:
        return []
    what = f"{boxes:,} of {len(objects):,} objects are upright boxes"
    return [f"{what}: if they are drawn around things, so are the masks; draw outlines to learn those"]


def _is_box(ring: Ring) -> bool:
    """Whether an outline has four corners, two at each of its sides."""
    low, high = ring.min(axis=0), ring.max(axis=0)
    at_low, at_high = (np.isclose(ring, edge, rtol=0, atol=_SLACK * (high - low).max()) for edge in (low, high))
    return len(ring) == 4 and bool((at_low | at_high).all() and (at_low.sum(axis=0) == 2).all())


def _root_of(path: Path, folder: Path, images: Sequence[Path]) -> Path:
    """The folder around a set and its images; where Windows has these on another drive, around them alone."""
    folders = [image.parent for image in images]
    for inside in ([Path(os.path.abspath(folder)), *folders], folders):
        with suppress(ValueError):
            return Path(os.path.commonpath(inside))
    raise DataError(f"{path}: its photos lie on several drives", "bring them together on one", path=path)


def _splits_of_folders(found: Sequence[LabelledImage], lines: list[str]) -> tuple[dict[str, list[int]], Counter[str]]:
    """The splits of the folders that hold labelled images, and numbers of images in others that are called like one."""
    labelled = [index for index, one in enumerate(found) if one.objects is not None]
    around = os.path.commonpath([one.image.parent for one in found])
    paths = [one.image.relative_to(around) for one in found]
    of_labelled, depth = split_folders([paths[index] for index in labelled])
    official = {split: [labelled[place] for place in places] for split, places in of_labelled.items()}
    bare = Counter[str]()
    for index in sorted({*range(len(found))} - {*labelled}):
        folders = paths[index].parts[:-1]
        if (split := split_of(folders[depth]) if len(folders) > depth else "") in official:
            official[split].append(index)  # it is no photo of another part
        elif split:
            bare[split] += 1
    lines += tell_other_folders(paths) if not official else []
    return official, bare
