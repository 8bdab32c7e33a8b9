"""Files of labels in the folder of a set: which there are, of which form, and whether masks go before them."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from simclrseg.data.datasets.dataset import Dataset
from simclrseg.data.datasets.lists import split_of
from simclrseg.data.datasets.mask_folders import mask_folders
from simclrseg.data.datasets.masklike import drawn_beside
from simclrseg.data.datasets.naming import MASK_FOLDERS, Found, Names, below_root
from simclrseg.errors import DataError
from simclrseg.images.listing import is_image, is_photo, list_files, walk
from simclrseg.labels.coco import is_coco, read_coco
from simclrseg.labels.fitting import Images
from simclrseg.labels.labelled import YAML, Labelled, left_out, read_content
from simclrseg.labels.labelme import is_labelme, read_labelme
from simclrseg.labels.likeness import likeness
from simclrseg.labels.paths import Folders
from simclrseg.labels.reading import with_rule
from simclrseg.labels.yolo import is_yolo, labels_of, names_classes, read_yolo, read_yolo_folder
from simclrseg.system.identify import POINTER, why_not_fetched

_LOOKED_AT = 8  # files, to see whether there are labels
_BY_ID = "annotations"  # COCO's folder of its files


def labels_of_file(file: Path) -> Labelled:
    """Read the labels of a file of COCO or YOLO."""
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
    folder = set_of(file)
    images = Images(folder)
    return read_coco({file: content}, images if images.files or images.unread else Images(folder.parent))


def set_of(file: Path) -> Path:
    """The folder of a set, one of whose files is given."""
    folder = file.absolute().parent
    return folder.parent if folder.name.lower() == _BY_ID else folder


def labels_of_folder(folder: Path) -> Labelled | None:
    """Read the labels in a folder; None where there are none, or masks of its photos."""
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
    """Whether pictures in folders that are called after masks are those of the others, by what they hold.

    Those of which each lies there with its labels, and bears no other photo's name, are photos. A few that bear no
    photo's name are something else, such as a legend.
    """
    homes = {home: {*map(str.lower, home.relative_to(folder).parts)} for home in {photo.parent for photo in photos}}
    called = [photo for photo in photos if not homes[photo.parent].isdisjoint(MASK_FOLDERS)]
    if not called or not likeness(called).areas:
        return False
    inside, present, seen = {*called}, {*files}, Folders()
    others = [photo for photo in photos if photo not in inside]
    names = Names([Found(photo, (photo.name,), (), (photo.name,)) for photo in others])

    def has_labels(photo: Path) -> bool:
        text = labels_of(photo, seen)
        return photo.with_suffix(".json") in present or (text in present and _is_yolo_text(text))

    if any(names.named((photo.name,)) for photo in called):
        return True
    return 2 * len(called) >= len(others) and not all(map(has_labels, called))


def tell_labels_aside(folder: Path, dataset: Dataset) -> list[str]:
    """A line on the labels of a folder whose masks are taken; a DataError where photos without a mask have labels."""
    found = _labels_beside(folder)
    if found is None:
        return []
    form, file, named = found
    is_set = form == "COCO" or file.suffix.lower() in YAML
    bare = [index for index in range(len(dataset)) if not dataset.has_mask(index)]
    if labelled := [dataset.keys[index] for index in bare if Path(dataset.keys[index]).stem in named]:
        masks = (dataset.mask_path(index) for index in range(len(dataset)))
        home = next((mask.parent.name for mask in masks if mask is not None), "")
        reason = f"{folder} holds masks, and labels of {form} in {file}, of photos without a mask ({labelled[0]}) too"
        ways = ["name that file to take the labels"] if is_set else []
        ways += [f"pass {with_rule({}, 'folder', home)} to take the masks" if home else "move the others away"]
        raise DataError(reason, ", or ".join(ways), path=folder)
    remedy = "; name that file to take them" if is_set else ""
    return [f"labels of {form}, which are left aside, for there are masks: {file.relative_to(folder)}{remedy}"]


def _labels_beside(folder: Path) -> tuple[str, Path, set[str]] | None:
    """The form of the labels in a folder, a file of them, and the names of photos that have some, without suffixes."""
    files = [parent / name for parent, names in walk(folder, {}) for name in names]
    photos = [file for file in files if is_photo(file.name)]
    stems = {photo.with_suffix("") for photo in photos}
    texts = [file for file in files if file.suffix.lower() == ".json"]
    texts.sort(key=lambda file: file.with_suffix("") in stems)
    for file in texts[:_LOOKED_AT]:
        with suppress(DataError):  # a file of something else
            content = read_content(file)
            if is_coco(content) and isinstance(content["images"], list):
                rows = [row for row in content["images"] if isinstance(row, dict)]
                return "COCO", file, {Path(str(row.get("file_name")).replace("\\", "/")).stem for row in rows}
            if is_labelme(content):
                return "LabelMe", file, {text.stem for text in texts}
    seen, present = Folders(), {file for file in files if file.suffix == ".txt"}
    photos = photos if present else []
    of_yolo = [text for photo in photos if (text := labels_of(photo, seen)) in present and _is_yolo_text(text)]
    if not of_yolo:
        return None
    yaml = [file for file in files if file.parent == folder and file.suffix.lower() in YAML]
    for file in yaml:
        with suppress(DataError):
            if is_yolo(read_content(file)):
                return "YOLO", file, {text.stem for text in of_yolo}
    return "YOLO", of_yolo[0], {text.stem for text in of_yolo}


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
