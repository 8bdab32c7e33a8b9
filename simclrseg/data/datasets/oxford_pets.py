"""Oxford-IIIT Pet: images of 37 breeds with trimaps (Parkhi et al., "Cats and Dogs", CVPR 2012)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import cv2
import numpy as np

from simclrseg.data.datasets.dataset import Border, DatasetOptions, FileDataset
from simclrseg.data.datasets.fetch import Source, fetch, missing
from simclrseg.errors import DataError, some
from simclrseg.images.decode import Mask
from simclrseg.images.listing import list_images
from simclrseg.images.stored_masks import read_mask
from simclrseg.metadata import IGNORE

_FOLDER = "oxford-iiit-pet"
_SOURCE = Source(
    name="oxford_pets",
    layout=f"{_FOLDER}/images/*.jpg and {_FOLDER}/annotations/ with trimaps/*.png, trainval.txt and test.txt",
    address="https://www.robots.ox.ac.uk/~vgg/data/pets/",
    download=811_000_000,
    disk=1_700_000_000,
)
_BORDER = {"pet": 1, "background": 0, "ignore": IGNORE, "class": 2}
_BREED_NAMES = (
    "Abyssinian american_bulldog american_pit_bull_terrier basset_hound beagle Bengal Birman Bombay boxer "
    "British_Shorthair chihuahua Egyptian_Mau english_cocker_spaniel english_setter german_shorthaired great_pyrenees "
    "havanese japanese_chin keeshond leonberger Maine_Coon miniature_pinscher newfoundland Persian pomeranian pug "
    "Ragdoll Russian_Blue saint_bernard samoyed scottish_terrier shiba_inu Siamese Sphynx staffordshire_bull_terrier "
    "wheaten_terrier yorkshire_terrier"
)
_BREEDS = tuple(_BREED_NAMES.split())
"""By their number in the lists, which counts from 1."""


def oxford_pets(root: Path, options: DatasetOptions) -> FileDataset:
    """Images with the masks background and pet (and border, if asked), the official lists, and breeds as labels."""
    base = root / _FOLDER
    images, annotations = base / "images", base / "annotations"
    if not (images.is_dir() and annotations.is_dir()):
        fetch(_SOURCE, root, _download, entries=(_FOLDER,))
    lists = {split: _read_list(annotations / f"{split}.txt", root) for split in ("trainval", "test")}
    found = {image.stem: image for image in list_images(images)}
    breeds = {stem: breed for rows in lists.values() for stem, breed in rows.items()}
    stems = sorted(breeds.keys() & found.keys())
    if not stems:
        raise missing(_SOURCE, root, f"no photo of the lists is in {images}")
    position = {stem: index for index, stem in enumerate(stems)}
    trimaps = [annotations / "trimaps" / f"{stem}.png" for stem in stems]
    masks = [trimap if trimap.is_file() else None for trimap in trimaps]
    official = {split: [position[stem] for stem in rows if stem in position] for split, rows in lists.items()}

    counts = ", ".join(f"{len(indices):,} {split}" for split, indices in official.items())
    summary = [
        f"{base}: {len(stems):,} photos ({counts}), {sum(mask is not None for mask in masks):,} trimaps",
        "masks: background and pet, the trimaps' border "
        + ("is a class of its own" if options.border == "class" else f"counts as {options.border}"),
    ]
    if absent := sorted(breeds.keys() - found.keys()):
        summary.append(f"{len(absent):,} photos of the lists are not there: {some(absent, shown=3)}")
    if unlisted := sorted(found.keys() - breeds.keys()):
        summary.append(f"left out: {len(unlisted):,} photos in no list: {some(unlisted, shown=3)}")
    return FileDataset(
        "oxford_pets",
        root,
        [found[stem] for stem in stems],
        masks=masks,
        decode=partial(_read_trimap, border=options.border),
        classes=("background", "pet", "border") if options.border == "class" else ("background", "pet"),
        labels=np.array([breeds[stem] - 1 for stem in stems], np.int64),
        label_names=_BREEDS,
        official=official,
        border=options.border,
        summary=summary,
    )


def _read_list(file: Path, root: Path) -> dict[str, int]:
    """Stem -> number of the breed, from lines of `Abyssinian_100 1 1 1`."""
    wrong = f"{file} is not a list of Oxford-IIIT Pet"
    try:
        rows = [line.split() for line in file.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
        numbers = {row[0]: int(row[1]) for row in rows if row}
    except OSError as error:
        raise missing(_SOURCE, root, f"{file} cannot be read") from error
    except (ValueError, IndexError) as error:
        raise DataError(f"{wrong}: a line is `Abyssinian_100 1 1 1`", path=file) from error
    if not all(1 <= number <= len(_BREEDS) for number in numbers.values()):
        raise DataError(f"{wrong}: breeds have numbers from 1 to {len(_BREEDS)}", path=file)
    return numbers


def _read_trimap(path: Path, *, border: Border) -> Mask:
    """(H, W) ids of a trimap: 1 pet, 2 background, 3 the border between them."""
    trimap = read_mask(path)
    table = np.full(256, 254, np.uint8)
    table[[1, 2, 3]] = 1, 0, _BORDER[border]
    mask = np.asarray(cv2.LUT(trimap, table), np.uint8)
    if trimap.ndim != 2 or (mask == 254).any():
        raise DataError(
            f"{path} has values {np.unique(trimap)[:8].tolist()}; a trimap has 1, 2 and 3", "fetch it again", path=path
        )
    return mask


def _download(folder: Path) -> None:
    from torchvision.datasets import OxfordIIITPet

    OxfordIIITPet(str(folder), target_types="segmentation", download=True)
    for archive in Path(folder, _FOLDER).glob("*.tar.gz"):
        archive.unlink()
