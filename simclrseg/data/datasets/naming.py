"""Names of the folders and files of images and masks, and which image a mask's name means.

Names are compared without their suffix, then without their mark too, as ``x_mask.png`` is of ``x.jpg``, then in any
case; composed and decomposed letters are the same.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from simclrseg.images.listing import is_image

IMAGE_FOLDERS = (
    "images", "image", "imgs", "img", "img_dir", "jpegimages", "pngimages", "photos", "leftimg8bit",
)  # fmt: skip
MASK_FOLDERS = (
    "masks", "mask", "segmentationclass", "labels", "label", "annotations", "annotation", "ann_dir", "annot",
    "groundtruth", "ground_truth", "ground truth", "gt", "segmentations", "segmentation", "segmentationclasspng",
    "gtfine", "gtcoarse", "pedmasks", "masks_machine",
)  # fmt: skip
"""Names in any case, alone or behind another: train_masks. Of several beside one another the first is taken, unless
another fits the photos as well."""
IMAGE_STEMS = ("image", "img", "photo", "original", "rgb", "raw")
"""Names of a picture that has a folder of its own; of several the first is taken, and others show the same."""
MASK_STEMS = frozenset(
    {"mask", "masks", "label", "labels", "seg", "segmentation", "gt", "groundtruth", "ground_truth", "annotation"}
)
MASK_WORDS = MASK_STEMS.union(MASK_FOLDERS, ("labeled", "labelled", "segs", "gts", "trimap", "trimaps"))
"""Words in the name of a folder of masks."""
DOUBTFUL_WORDS = frozenset({"manual", "matte", "mattes", "semantic"})
"""Words of other things too."""
_BEHIND_ANOTHER = re.compile(r"(.+?)[_\-. ]?(annot|(?<=[_\-. ])[a-z]+)", re.IGNORECASE)
_OF_NNUNET = re.compile(r"(images|labels)(tr|ts)", re.IGNORECASE)
_CHANNEL = re.compile(r".+_\d{3}[1-9]\.\w+")  # of nnU-Net; the first is 0000
_MARKS = "|".join([*MASK_STEMS, "trimap", "matte", "manual", "labelids", "labeltrainids"])
_BEHIND = re.compile(
    rf"(.+?)[_\-. ]+(?:(?:gtfine|gtcoarse|cp)_)?(?:(?P<mark>{_MARKS})(?:[_\-. ]?(?P<number>\d{{1,3}}))?|l)",
    re.IGNORECASE,
)
_TIFF = re.compile(r".+\.tiff?", re.IGNORECASE | re.DOTALL)
_BEFORE = re.compile(
    rf"(?:mask of |({_MARKS}|l)[_\-. ]+|(?:mask|label|seg|gt)(?=\d))(.+)",
    re.IGNORECASE,  # the first is of ImageJ
)
_IMAGE_MARKS = "image|img|photo|sat|rgb|leftimg8bit|original|training|test"
_OF_IMAGE = re.compile(
    rf"(?:image|img|photo|frame)(?:[_\-. ]+|(?=\d))(.+)|(.+?)[_\-. ]+(?:{_IMAGE_MARKS})", re.IGNORECASE
)


Files = Mapping[Path, tuple[str, ...]]
"""Pictures, each with its path below a folder."""


@dataclass(frozen=True)
class Found:
    """A file, with what lies above and below the folder that tells what it is.

    Attributes:
        path: below the root, as it is.
        above, below: as the layout means them.
    """

    file: Path
    path: tuple[str, ...]
    above: tuple[str, ...]
    below: tuple[str, ...]
    kind: int = 0  # of that folder, by its place among the names

    @property
    def parts(self) -> tuple[str, ...]:
        """Its path as the layout means it."""
        return self.above + self.below

    @property
    def home(self) -> tuple[str, ...]:
        """The folder that tells what it is."""
        return self.path[: -len(self.below)]


class Names:
    """Images by their names: as they are written, and in any case."""

    def __init__(self, images: Sequence[Found]) -> None:
        self._exact: dict[str, list[int]] = defaultdict(list)
        self._folded: dict[str, list[int]] = defaultdict(list)
        self._bare: dict[str, list[int]] = defaultdict(list)  # image_1, which mask_1 means
        for index, found in enumerate(images):
            path = composed("/".join(found.parts))
            for name in (path, stem_of(path)):
                self._exact[name].append(index)
                self._folded[name.casefold()].append(index)
            if bare := without_image_mark(found.parts):
                self._bare[bare].append(index)
        for index, found in enumerate(images):
            short = _without_ome(composed("/".join(found.parts)))
            if short is not None and short.casefold() not in self._folded:  # else another image's own name
                self._exact[short].append(index)
                self._folded[short.casefold()].append(index)

    def meant(self, parts: tuple[str, ...]) -> list[int]:
        """The images that a mask's path means if its name bears a mark."""
        own = bare_name(parts)
        return self._first(name for name in meanings(parts) if name != own)

    def named(self, parts: tuple[str, ...]) -> list[int]:
        """The images that a mask's path names, by the most exact way that names any."""
        exact = self._exact.get(stem_of(composed("/".join(parts))))
        return exact or self._first(meanings(parts))

    def _first(self, names: Iterable[str]) -> list[int]:
        names = list(names)
        return next((known[name] for known in (self._folded, self._bare) for name in names if name in known), [])


def meanings(parts: tuple[str, ...]) -> Iterator[str]:
    """Names of images, in lower case, that a mask's path may mean: without its suffix, then without its mark too."""
    *folders, name = parts
    stems = filter(None, (stem_of(name), _without_ome(name)))
    for text in (text for stem in stems for text in (stem, _numbered(stem), *_stripped(stem)) if text):
        bare = stem_of(text) if is_image(text) else text  # x.jpg.png
        for way in dict.fromkeys((text, bare, strip(bare) or bare)):
            yield _folded("/".join((*folders, way)))


def strip(stem: str) -> str | None:
    """A name without the mark of a mask."""
    return next(iter(_stripped(stem)), None)


def _stripped(stem: str) -> list[str]:
    """Names without the mark of a mask, the likelier first."""
    behind, before = _BEHIND.fullmatch(stem), _BEFORE.fullmatch(stem)
    if before and (behind is None or behind["mark"] is None):  # mask_x_L is rather of x_L
        return [before[2], *([behind[1]] if behind else [])]
    return [behind[1]] if behind else []


def has_letter_alone(stem: str) -> bool:
    """Tell whether all that marks a name is a letter, which may be part of it: the L of x_L."""
    behind = _BEHIND.fullmatch(stem)
    return behind is not None and behind["mark"] is None and _BEFORE.fullmatch(stem) is None


def _numbered(stem: str) -> str | None:
    """A name without a mark before its number: x_1 of x_mask_1."""
    match = _BEHIND.fullmatch(stem)
    return f"{match[1]}{stem[len(match[1])]}{match['number']}" if match and match["number"] else None


def object_of(stem: str) -> tuple[str, str] | None:
    """Of x_mask and x_mask_1, which show objects of one image, the name without the number, and that number."""
    match = _BEHIND.fullmatch(stem)
    if match is None or match["mark"] is None:
        return None
    number = match["number"] or ""
    return _folded(stem.removesuffix(number).rstrip("_-. ") if number else stem), number


def without_image_mark(parts: tuple[str, ...]) -> str | None:
    """The name of an image, in lower case, without the word that says that it is one: x of x_sat.jpg."""
    match = _OF_IMAGE.fullmatch(stem_of(parts[-1]))
    return _folded("/".join((*parts[:-1], match[1] or match[2]))) if match else None


def bare_name(parts: tuple[str, ...]) -> str:
    """A path without its suffix, in lower case."""
    return _folded(stem_of("/".join(parts)))


def stem_of(path: str) -> str:
    return os.path.splitext(path)[0]


def _without_ome(path: str) -> str | None:
    """The x of x.ome.tif, as microscopes call their files."""
    return stem_of(stem) if (stem := stem_of(path)).lower().endswith(".ome") and _TIFF.fullmatch(path) else None


def composed(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _folded(text: str) -> str:
    return composed(text).casefold()


def in_folders(paths: Files, names: Sequence[str]) -> list[Found]:
    """The files that lie in a folder of one of these names, alone or behind another."""
    return [found for file, path in paths.items() if (found := in_folder(file, path, names))]


def in_folder(file: Path, path: tuple[str, ...], names: Sequence[str]) -> Found | None:
    """The same of one file, whose path below the root is given."""
    for place, part in enumerate(path[:-1]):
        above, below, name = path[:place], path[place + 1 :], part.lower()
        if name in names:
            if len(below) > 1 and below[0].lower() == name:  # images/images/x.jpg, as archives unpack
                below = below[1:]
            return Found(file, path, above, below, names.index(name))
        if (match := _OF_NNUNET.fullmatch(name)) and match[1] in names:
            stem, suffix = os.path.splitext(below[-1])
            below = (*below[:-1], (stem.removesuffix("_0000") if match[1] == "images" else stem) + suffix)
            part_of_set = {"tr": "train", "ts": "test"}[match[2]]
            return Found(file, path, (*above, part_of_set), below, names.index(match[1]))
        if (match := _BEHIND_ANOTHER.fullmatch(part)) and match[2].lower() in names:
            return Found(file, path, (*above, match[1]), below, names.index(match[2].lower()))
    return None


def below_root(root: Path, file: Path) -> tuple[str, ...]:
    """The parts of a path below ``root``, be they parted by backslashes in a name, as zips of Windows leave it."""
    parts = file.parts[len(root.parts) :]  # as relative_to has it, which is slow where files are many
    if not any("\\" in part for part in parts):
        return parts
    return tuple(filter(None, (name for part in parts for name in part.split("\\"))))


def parts_of(root: Path, file: Path) -> tuple[str, ...]:
    """The path below ``root`` of what may be an image, as the layout means it."""
    path = below_root(root, file)
    found = in_folder(file, path, IMAGE_FOLDERS)
    return found.parts if found else path


def is_channel(found: Found) -> bool:
    """Tell whether an image is another channel of the same photo, in nnU-Net's layout."""
    return bool(_CHANNEL.fullmatch(found.below[-1]) and _OF_NNUNET.fullmatch(found.home[-1]))
