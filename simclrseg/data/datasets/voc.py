"""Pascal VOC 2012: images of 20 kinds of things, some with masks (Everingham et al., IJCV 2010)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from simclrseg.data.datasets.dataset import DatasetOptions, FileDataset
from simclrseg.data.datasets.fetch import Source, fetch, missing
from simclrseg.errors import DataError, some
from simclrseg.images.decode import Mask
from simclrseg.images.listing import list_images
from simclrseg.images.stored_masks import read_mask
from simclrseg.metadata import IGNORE

_FOLDER = "VOCdevkit/VOC2012"
_SOURCE = Source(
    name="voc",
    layout=f"{_FOLDER}/ with JPEGImages/*.jpg, SegmentationClass/*.png, ImageSets/Segmentation/{{train,val}}.txt",
    address="https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/",
    download=2_000_000_000,
    disk=4_200_000_000,
)
_NAMES = (
    "background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person "
    "pottedplant sheep sofa train tvmonitor"
)
_CLASSES = tuple(_NAMES.split())


def voc(root: Path, options: DatasetOptions) -> FileDataset:
    """All of JPEGImages; those of the segmentation lists have masks of 21 classes, 255 along their contours.

    The masks of VOC's own test list were never published, and the field reports scores on its list ``val``: that is
    the test list here, so pretraining leaves it out. The list ``train`` is for development.
    """
    base = root / _FOLDER
    image_root, lists = base / "JPEGImages", base / "ImageSets" / "Segmentation"
    if not (image_root.is_dir() and lists.is_dir()):
        fetch(_SOURCE, root, _download, entries=("VOCdevkit",))
    images = list_images(image_root)
    position = {image.stem: index for index, image in enumerate(images)}
    stems = {part: _read_list(lists / f"{part}.txt", root) for part in ("train", "val")}
    official = {part: [position[stem] for stem in rows if stem in position] for part, rows in stems.items()}
    if not all(official.values()):
        raise missing(_SOURCE, root, f"no photo of the lists is in {image_root}")

    files = [base / "SegmentationClass" / f"{image.stem}.png" for image in images]
    masks = [file if file.is_file() else None for file in files]
    summary = [
        f"{base}: {len(images):,} photos, {sum(mask is not None for mask in masks):,} with masks "
        f"({len(official['train']):,} train; {len(official['val']):,} val, which is the test list)",
        f"masks: {len(_CLASSES)} classes ({some(_CLASSES)}), 255 is ignored",
    ]
    if absent := sorted({stem for rows in stems.values() for stem in rows} - position.keys()):
        summary.append(f"{len(absent):,} photos of the lists are not there: {some(absent, shown=3)}")
    return FileDataset(
        "voc",
        root,
        images,
        masks=masks,
        decode=_read_class_ids,
        classes=_CLASSES,  # whose default colours are VOC's own
        official={"train": official["train"], "test": official["val"]},
        summary=summary,
    )


def _read_list(file: Path, root: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise missing(_SOURCE, root, f"{file} cannot be read") from error


def _read_class_ids(path: Path) -> Mask:
    """(H, W) palette indexes: 0 to 20, or 255."""
    mask = read_mask(path)
    known = len(_CLASSES)
    if mask.ndim != 2 or ((mask >= known) & (mask != IGNORE)).any():
        found = np.unique(mask[(mask >= known) & (mask != IGNORE)])[:8].tolist() if mask.ndim == 2 else "RGB colours"
        raise DataError(
            f"{path} has values {found}; a mask of VOC has the class ids 0 to {known - 1}, and 255",
            "restore the palette PNG",
            path=path,
        )
    return mask


def _download(folder: Path) -> None:
    from torchvision.datasets import VOCSegmentation

    VOCSegmentation(str(folder), year="2012", download=True)
    for archive in folder.glob("*.tar"):
        archive.unlink()
