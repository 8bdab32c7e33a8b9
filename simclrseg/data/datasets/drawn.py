"""Sets whose masks are drawn from objects in files of labels: COCO, YOLO and LabelMe, by a file or a folder.

An image that COCO or YOLO list without objects is background; one without its JSON of LabelMe is unlabelled. The
splits of the form are the published lists: ``data.yaml``, a COCO file a split, folders named ``train`` and so on.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from simclrseg.data.datasets.dataset import Dataset, DatasetOptions, FileDataset, refuse_shared
from simclrseg.data.datasets.folder import bands_of, same_photos
from simclrseg.data.datasets.lists import find_lists, read_lists, split_folders, split_of, tell_other_folders
from simclrseg.data.datasets.masklike import drawn_beside, mask_folders
from simclrseg.data.datasets.naming import MASK_FOLDERS, Found, below_root, strip
from simclrseg.data.datasets.values import deep_photos, tell_pages
from simclrseg.errors import DataError, some
from simclrseg.images.decode import Mask, image_shape
from simclrseg.images.listing import is_image, is_photo, list_files, tell_unread, walk
from simclrseg.images.opening import turn_upright
from simclrseg.labels.coco import is_coco, read_coco
from simclrseg.labels.fitting import Images
from simclrseg.labels.labelled import YAML, Labelled, LabelledImage, left_out, read_content
from simclrseg.labels.labelme import is_labelme, read_labelme
from simclrseg.labels.likeness import likeness
from simclrseg.labels.paths import Folders
from simclrseg.labels.placing import place_on_images
from simclrseg.labels.polygons import draw
from simclrseg.labels.yolo import is_yolo, labels_of, names_classes, read_yolo, read_yolo_folder
from simclrseg.system.identify import POINTER, why_not_fetched

_NEARLY_ALL = 0.9  # of the photos, which have masks; of the objects, which are boxes
_SOME_OBJECTS = 3
_LOOKED_AT = 8  # files, to see whether there are labels
_BY_ID = "annotations"  # COCO's folder of its files


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
    found = _of_file(path) if path.is_file() else _of_folder(path)
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
    folder = _set_of(path) if path.is_file() else path
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
    boxes = sum(len(parts) == 1 and isinstance(parts[0], np.ndarray) and len(parts[0]) == 4 for parts in objects)
    if boxes < _NEARLY_ALL * len(objects) or len(objects) < _SOME_OBJECTS:
        return []
    what = f"{boxes:,} of {len(objects):,} objects have four corners"
    return [f"{what}: if they are boxes around things, so are the masks; draw outlines to learn these"]


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


def _of_file(file: Path) -> Labelled:
    if file.suffix.lower() in YAML:
        content = read_content(file)
        if not names_classes(content):
            reason = f"{file} is no data.yaml of YOLO: it has no names"
            raise DataError(reason, "if it is a config, give it as --config", path=file)
        if is_yolo(content):
            return read_yolo(file, content)
        return read_yolo_folder(file.parent, list_files(file.parent, is_photo).files, {file: content})
    content = read_content(file)
    if is_labelme(content):
        raise DataError(f"{file} holds the labels of one photo", "name its folder", path=file)
    if isinstance(content, list):
        reason = f"{file} is a list, such as the JSON of Label Studio, and no COCO file"
        raise DataError(reason, "export as COCO", path=file)
    folder = _set_of(file)
    images = Images(folder)
    return read_coco({file: content}, images if images.files or images.unread else Images(folder.parent))


def _set_of(file: Path) -> Path:
    """The folder of a set, one of whose files is given."""
    folder = file.absolute().parent
    return folder.parent if folder.name.lower() == _BY_ID else folder


def _of_folder(folder: Path) -> Labelled | None:
    files = [parent / name for parent, names in walk(folder, {}) for name in names]
    photos = [file for file in files if is_photo(file.name)]
    if _are_masks(folder, files, photos):
        return None
    with_names: dict[Path, Any] = {}
    sets: dict[Path, Any] = {}
    for file in sorted(folder.iterdir(), key=lambda file: (file.stem != "data", file.name)):
        if file.suffix.lower() in YAML and file.is_file():
            try:
                content = read_content(file)
            except DataError:
                if file.stem == "data":
                    raise
                continue  # a file of something else
            if is_yolo(content):
                sets[file] = content
                if file.stem == "data":
                    break
            elif names_classes(content):
                with_names[file] = content
    if sets:
        (file, content), *others = sets.items()
        if other := next((other for other, its in others if its != content), None):
            raise DataError(f"{file} and {other} are of two sets", "give the right one as --dataset", path=other)
        return read_yolo(file, content)
    stems = {photo.with_suffix("") for photo in photos}
    texts = [file for file in files if file.suffix.lower() == ".json"]
    contents: dict[Path, Any] = {}
    named = [file for file in texts if file.name.lower().startswith("instances")]  # COCO has other files beside them
    for file in named or [file for file in texts if file.with_suffix("") not in stems]:
        contents[file] = _json_of(file)
        if is_labelme(contents[file]):
            break
    if coco := {file: content for file, content in contents.items() if is_coco(content)}:
        found = read_coco(coco, Images(folder))
        splits = {file: _split(file, folder) for file in coco}
        parts: dict[str, list[Path]] = {}
        for one in found.images:
            parts.setdefault(splits[one.source], []).append(one.image)
        if len(parts) > 1 and "" not in parts:
            found.splits = parts
        return found
    seen = Folders()
    if any(_is_yolo_text(labels_of(photo, seen)) for photo in photos):
        masks = _masks_among(folder, photos, {photo for photo in photos if not labels_of(photo, seen).is_file()})
        found = read_yolo_folder(folder, [photo for photo in photos if photo not in masks], with_names)
    else:
        labelme = {file: content for file in texts if is_labelme(content := contents.get(file) or _json_of(file))}
        if not labelme:
            return None
        labelled = {file.with_suffix("") for file in labelme}
        masks = _masks_among(folder, photos, {photo for photo in photos if photo.with_suffix("") not in labelled})
        found = read_labelme(labelme, Images(folder, without=masks))
    shown = [mask.relative_to(folder).as_posix() for mask in sorted(masks)]
    found.notes += left_out(shown, "pictures that look like masks of the photos, and are left out")
    return found


def _are_masks(folder: Path, files: Sequence[Path], photos: Sequence[Path]) -> bool:
    """Whether pictures in folders that are called after masks are those of the others.

    Photos that lie there with their labels are none, nor are others than masks of photos, such as a legend.
    """
    homes = {home: {*map(str.lower, home.relative_to(folder).parts)} for home in {photo.parent for photo in photos}}
    called = {photo for photo in photos if not homes[photo.parent].isdisjoint(MASK_FOLDERS)}
    present, seen = {*files} if called else set(), Folders()

    def has_labels(photo: Path) -> bool:
        text = labels_of(photo, seen)
        return photo.with_suffix(".json") in present or (text in present and _is_yolo_text(text))

    bare = [photo for photo in called if not has_labels(photo)]
    stems = {photo.stem for photo in photos if photo not in called}
    theirs = [photo for photo in bare if not stems.isdisjoint({photo.stem, strip(photo.stem)})]
    return bool(theirs) and 2 * len(theirs) >= len(bare) and likeness(theirs).areas


def tell_labels_aside(folder: Path, dataset: Dataset) -> list[str]:
    """A line on the labels of a folder whose masks are taken; a DataError where few of the photos have such masks."""
    found = _first_labels(folder)
    if found is None:
        return []
    form, file = found
    is_set = form == "COCO" or file.suffix.lower() in YAML
    masks = sum(map(dataset.has_mask, range(len(dataset))))
    if masks < _NEARLY_ALL * len(dataset):
        reason = f"{folder} holds masks of {masks:,} of its {len(dataset):,} photos, and labels of {form} in {file}"
        remedy = "name that file to take the labels, or move it away" if is_set else "move the ones or the others away"
        raise DataError(reason, remedy, path=folder)
    remedy = "; name that file to take them" if is_set else ""
    return [f"labels of {form}, which are left aside, for there are masks: {file.relative_to(folder)}{remedy}"]


def _first_labels(folder: Path) -> tuple[str, Path] | None:
    """The form of the labels in a folder, and a file of them."""
    files = [parent / name for parent, names in walk(folder, {}) for name in names]
    photos = [file for file in files if is_photo(file.name)]
    stems = {photo.with_suffix("") for photo in photos}
    texts = [file for file in files if file.suffix.lower() == ".json"]
    texts.sort(key=lambda file: file.with_suffix("") in stems)
    plain = [file for file in files if file.parent == folder and file.suffix.lower() in YAML]
    for file in (*plain, *texts[:_LOOKED_AT]):
        with suppress(DataError):  # a file of something else
            content = read_content(file)
            for form, is_it in (("YOLO", is_yolo), ("COCO", is_coco), ("LabelMe", is_labelme)):
                if is_it(content):
                    return form, file
    seen = Folders()
    of_yolo = (text for photo in photos[:_LOOKED_AT] if _is_yolo_text(text := labels_of(photo, seen)))
    return next((("YOLO", text) for text in of_yolo), None)


def _masks_among(folder: Path, photos: Sequence[Path], bare: Collection[Path]) -> set[Path]:
    """Pictures without labels that are masks of others, as tools draw them into folders beside the photos."""
    if not bare:
        return set()
    paths = {photo: below_root(folder, photo) for photo in photos if is_image(photo.name)}
    drawn = set(drawn_beside([Found(file, path, path[:-1], path[-1:]) for file, path in paths.items()]))
    return drawn.union(*(one.files for one in mask_folders(paths))).intersection(bare)


def _json_of(file: Path) -> Any:
    """The content of a JSON file, without the photo that LabelMe puts into it: those of a set may fill the memory."""
    content = read_content(file)
    if is_labelme(content):
        content.pop("imageData", None)
    return content


def _split(file: Path, root: Path) -> str:
    """The split that a COCO file or its folder below ``root`` is named after; empty where there is none."""
    words = [file.relative_to(root).parent.name, file.stem, *re.split("[^a-z]+", file.stem.lower())]
    return next(filter(None, map(split_of, words)), "")


def _is_yolo_text(file: Path) -> bool:
    with suppress(OSError, UnicodeDecodeError):
        words = file.read_text(encoding="utf-8-sig").split()
        numbers = len(words) >= 5 and all(re.fullmatch(r"-?[\d.]+(e-?\d+)?", word) for word in words[:5])
        return numbers or why_not_fetched(file) == POINTER
    return False
