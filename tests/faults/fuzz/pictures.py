"""Damaged images, masks, and folders of them with labels of every form."""

from __future__ import annotations

import io
import json
import os
import shutil
import struct
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from simclrseg.data.datasets.dataset import Dataset, DatasetOptions
from simclrseg.data.datasets.locate import open_dataset
from simclrseg.errors import ImageError
from simclrseg.images.decode import (
    holds_several,
    image_shape,
    is_hidden,
    read_image,
    read_picture,
    read_scene,
    stored_bands,
    vague_range,
)
from simclrseg.images.stored_masks import read_mask, read_stored_mask
from simclrseg.inference import OUTPUTS
from simclrseg.inference.outputs import Strip, Subject
from simclrseg.labels.rle import encode_rle
from simclrseg.metadata import ModelMetadata
from tests.data.datasets.labels import coco, labelme, photos, put, yolo
from tests.faults.fuzz.harness import Source
from tests.faults.fuzz.mutations import bytes_of, json_of, text_of, yaml_of
from tests.folders import write
from tests.images.geotiffs import KEYS, MATRIX, NODATA, TIE_POINTS, UTM, geotiff
from tests.images.odd import orientation_exif
from tests.images.pngs import grey_png
from tests.images.tiffs import tiff

_LARGEST_SEED = 40_000  # bytes of the shared odd images
_BYTES_A_PIXEL = 40  # of a decoded image with all that is made of it on the way


def images(folder: Path) -> Source:
    """Images of all formats."""
    return _pictures(folder, [*photo_seeds(), *_odd_images()], _read_as_photo)


def maps(folder: Path) -> Source:
    """GeoTIFFs, and what is written of their place."""
    return _pictures(folder, list(map_seeds()), _write_maps)


def masks(folder: Path) -> Source:
    """Images that stand for masks."""
    return _pictures(folder, [*mask_seeds(), *photo_seeds()], _read_as_mask)


def _pictures(folder: Path, seeds: list[tuple[str, bytes]], read: Any) -> Source:
    every = [data for _, data in seeds]

    def make(rng: Random) -> Path:
        suffix, data = rng.choice(seeds)
        file = folder / f"image{suffix}"
        damaged = bytes_of(rng, data, every)
        file.write_bytes(with_right_sums(damaged) if suffix == ".png" and rng.random() < 0.7 else damaged)
        return file

    return Source(make, read, _pixel_bytes)


def _read_as_photo(file: Path) -> None:
    pixels = read_image(file)
    assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.flags.c_contiguous
    assert pixels.shape[:2] == image_shape(file)
    vague_range(file), holds_several(file), is_hidden(file)
    if (bands := stored_bands(file)) is not None:
        stored = read_scene(file).pixels
        assert bands == (stored.shape[2], 8 * stored.itemsize) and stored.shape[:2] == pixels.shape[:2]


def _write_maps(file: Path) -> None:
    picture = read_picture(file) if stored_bands(file) is None else read_scene(file)
    size = picture.pixels.shape[:2]
    assert len(picture.bands) == picture.pixels.shape[2] == len(set(picture.bands))
    assert picture.blank is None or picture.blank.shape == size
    turned = picture.orientation >= 5
    geography = picture.geography and picture.geography.turned(picture.orientation, size[:: -1 if turned else 1])
    metadata = ModelMetadata(task="segmentation", encoder="cnn", image_size=16, classes=("ground", "field"))
    probability = (picture.pixels[:, :, 0] / max(1, picture.pixels.max())).astype(np.float32)
    mask = (probability > 0.5).astype(np.uint8)
    for kind in ("geotiff", "geojson"):
        OUTPUTS[kind].lacks(geography)
        written = io.BytesIO()
        output = OUTPUTS[kind](written, Subject("a.tif", mask.shape, metadata, geography=geography, holed=True))
        output.add(Strip(0, picture.pixels, probability, mask, picture.blank))
        output.end()
        if kind == "geojson":
            assert "NaN" not in written.getvalue().decode() and json.loads(written.getvalue())
        else:
            again = read_picture(written.getvalue()).geography
            assert again is not None and not again.doubts
            assert (again.tags, again.affine) == ((geography.tags, geography.affine) if geography else ({}, None))


def _read_as_mask(file: Path) -> None:
    stored = read_stored_mask(file)
    assert stored.values.ndim == 2 or (stored.values.ndim == 3 and stored.values.shape[2] == 3)
    assert stored.values.shape[:2] == image_shape(file)
    mask = read_mask(file)
    assert mask.dtype == np.uint8 and mask.shape == stored.values.shape


def _pixel_bytes(file: Path) -> int:
    try:
        height, width = image_shape(file)
    except ImageError:
        return 0
    return _BYTES_A_PIXEL * height * width


def with_right_sums(png: bytes) -> bytes:
    """A PNG whose checksums are right again, so that its damage is looked at."""
    found, place = [png[:8]], 8
    while place + 8 <= len(png):
        (length,) = struct.unpack(">I", png[place : place + 4])
        content = png[place + 4 : place + 8 + length]
        found.append(png[place : place + 4] + content + struct.pack(">I", zlib.crc32(content)))
        place += 12 + length
        if length > len(png):
            break
    return b"".join(found)


@cache
def map_seeds() -> tuple[tuple[str, bytes], ...]:
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (12, 15, 3), np.uint8)
    floats = rng.random((12, 15, 4)).astype(np.float32)
    floats[:3] = np.nan
    names = ["B02", "B03", "B04", "B08"]
    matrix = {MATRIX: (8.0, 6.0, 0.0, 5e5, 6.0, -8.0, 0.0, 5.4e6, *[0.0] * 7, 1.0), KEYS: UTM[KEYS]}
    point = {KEYS: (1, 1, 0, 3, 1024, 0, 1, 2, 1025, 0, 1, 2, 2048, 0, 1, 4326)}
    text = {KEYS: (1, 1, 0, 4, 1024, 0, 1, 1, 1026, 34737, 9, 0, 2057, 34736, 1, 0, 3072, 0, 1, 32767)}
    text |= {34736: (6378137.0, 298.25), 34737: "own|grid|"}
    files = [
        geotiff(photo),
        geotiff(photo, UTM | {NODATA: "7"}),
        geotiff(photo, matrix, orientation=6),
        geotiff(photo, UTM | point, orientation=7),
        geotiff(photo, UTM | text, bigtiff=True),
        geotiff(photo, {TIE_POINTS: tuple(map(float, range(18)))}),
        geotiff(floats, UTM | {NODATA: "nan"}, names=names),
        geotiff(floats, matrix | {NODATA: "-9999"}, compression="zlib", names=names),
        geotiff((floats[3:] * 9000).astype(np.int16), description='{"bands": ["a", "b", "c", "d"]}'),
    ]
    return tuple((".tif", content) for content in files)


@cache
def photo_seeds() -> tuple[tuple[str, bytes], ...]:
    rng = np.random.default_rng(0)
    colours = np.kron(rng.integers(0, 256, (5, 6, 3)), np.ones((4, 4, 1))).astype(np.uint8)
    picture = Image.fromarray(colours)
    grey16 = Image.fromarray(rng.integers(0, 60_000, (20, 24)).astype(np.uint16))
    alpha = picture.copy()
    alpha.putalpha(picture.convert("L"))
    frames = [picture, picture.rotate(90)]
    bands = rng.integers(0, 4000, (20, 24, 5), np.uint16)

    def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
        stream = io.BytesIO()
        image.save(stream, kind, **options)
        return stream.getvalue()

    def every() -> Iterator[tuple[str, bytes]]:
        yield ".jpg", saved(picture, "JPEG", exif=orientation_exif(6))
        yield ".jpg", saved(picture, "JPEG", progressive=True, subsampling=0)
        yield ".jpg", saved(picture.convert("CMYK"), "JPEG")
        yield ".jpg", saved(picture.convert("L"), "JPEG", icc_profile=b"x" * 200)
        yield from ((".png", saved(image, "PNG")) for image in (picture, alpha, grey16, picture.convert("P")))
        yield ".png", saved(picture.convert("1"), "PNG")
        yield ".png", saved(picture.convert("P"), "PNG", transparency=3)
        yield ".png", saved(frames[0], "PNG", save_all=True, append_images=frames[1:])
        yield ".webp", saved(picture, "WEBP")
        yield ".webp", saved(alpha, "WEBP", lossless=True)
        yield ".webp", saved(picture, "WEBP", save_all=True, append_images=frames[1:])
        yield ".gif", saved(picture, "GIF", save_all=True, append_images=frames[1:])
        yield ".bmp", saved(picture, "BMP")
        yield ".bmp", saved(picture.convert("P"), "BMP")
        yield ".tga", saved(alpha, "TGA", compression="tga_rle")
        yield ".jp2", saved(picture, "JPEG2000")
        yield ".avif", saved(picture, "AVIF")
        for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
            yield ".tif", saved(picture, "TIFF", compression=compression)
        yield ".tif", saved(picture.convert("1"), "TIFF", compression="group4")
        yield ".tif", saved(picture.convert("F"), "TIFF")
        yield ".tif", saved(picture.convert("LAB"), "TIFF")
        yield ".tif", saved(picture, "TIFF", save_all=True, append_images=frames[1:])
        yield ".tif", saved(grey16, "TIFF")
        yield ".tif", tiff(bands, deflate=True, predictor=2)
        yield ".tif", tiff(bands, planar=True, rows=7, order=">")
        yield ".tif", tiff(bands, tile=16, deflate=True)
        yield ".tif", tiff(colours, photometric=2, rows=5)
        yield ".tif", tiff(bands[:, :, :3], photometric=2, deflate=True)
        yield ".tif", tiff(bands[:, :, :1].astype(np.float32), sample_format=3)
        yield ".tif", tiff(bands[:, :, :4], extra=2, photometric=2)

    return tuple(every())


@cache
def mask_seeds() -> tuple[tuple[str, bytes], ...]:
    ids = np.kron(np.arange(6).reshape(2, 3) % 3, np.ones((8, 8))).astype(np.uint8)

    def every() -> Iterator[tuple[str, Image.Image]]:
        indexed = Image.fromarray(ids, "P")
        indexed.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
        yield ".png", indexed
        yield ".png", Image.fromarray(ids)
        yield ".png", Image.fromarray(ids * 127)
        yield ".png", Image.fromarray(ids.astype(np.uint16) * 300)
        yield ".tif", Image.fromarray(ids.astype(np.int32))
        yield ".png", Image.fromarray(np.stack([ids * 100, ids * 50, 255 - ids], axis=2))
        yield ".png", Image.fromarray(np.stack([ids, ids, ids, ids * 127], axis=2), "RGBA")
        yield ".png", Image.fromarray(np.stack([ids, ids * 127], axis=2), "LA")
        yield ".tif", Image.fromarray(ids.astype(np.float32))
        yield ".tif", indexed
        yield ".gif", indexed
        yield ".bmp", Image.fromarray(ids * 255)

    def data(suffix: str, image: Image.Image) -> bytes:
        stream = io.BytesIO()
        image.save(stream, "TIFF" if suffix == ".tif" else suffix[1:].upper())
        return stream.getvalue()

    return (
        *((suffix, data(suffix, image)) for suffix, image in every()),
        *((".png", grey_png(ids[:, :10] % 2**bits, bits)) for bits in (1, 2, 4)),
    )


def _odd_images() -> list[tuple[str, bytes]]:
    """Small ones of the shared odd images, where there are any."""
    root = Path(os.environ.get("SIMCLRSEG_TEST_DATA", ""), "odd_images")
    files = sorted(file for file in root.glob("*.*") if file.stat().st_size <= _LARGEST_SEED) if root.is_dir() else []
    return [(file.suffix, file.read_bytes()) for file in files]


def sets(folder: Path) -> Source:
    """Folders of images and masks: a mask, an image, a list, or the table of classes is damaged."""
    seeds = [*mask_seeds(), *photo_seeds()]
    home = folder / "home"
    for number in range(4):
        ids = np.kron(np.arange(4).reshape(2, 2) % 3, np.ones((8, 8))).astype(np.uint8)
        write(home / "images" / f"{number}.png", np.full((16, 16, 3), 20 * number, np.uint8))
        write(home / "masks" / f"{number}.png", np.roll(ids, number, 1))
    lists = {"train.txt": "0\n1\n2\n", "test.txt": "3.png\n", "val.txt": "images/2.png masks/2.png\n"}
    table = "Pixel Value, Class\n0, background\n1, cat\n2, dog\n"
    every = [data for _, data in seeds]
    place = folder / "set"

    def make(rng: Random) -> DatasetOptions:
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(home, place)
        match rng.randrange(6):
            case 0 | 1 | 2:
                _, data = rng.choice(seeds[: len(mask_seeds())])
                changed = data if rng.random() < 0.3 else bytes_of(rng, data, every)
                for number in range(4) if rng.random() < 0.5 else (1,):
                    (place / "masks" / f"{number}.png").write_bytes(changed)
            case 3:
                (place / "images" / "2.png").write_bytes(bytes_of(rng, rng.choice(seeds)[1], every))
            case 4:
                for name, text in lists.items():
                    if rng.random() < 0.6:
                        (place / name).write_bytes(text_of(rng, text, list(lists.values())))
            case 5:
                (place / "masks" / "_classes.csv").write_bytes(text_of(rng, table))
        rules = rng.choice(({}, {}, {}, {"foreground": None}, {"threshold": 1}, {"alpha": None}, {"stored": None}))
        return DatasetOptions(masks=rng.random() < 0.9, mask_rules=rules, class_count=rng.choice((None, None, 2, 3)))

    return Source(make, lambda options: look_at(open_dataset(str(place), options)), lambda _: 40 * 10**6)


def drawn(folder: Path) -> Source:
    """Labels of COCO, YOLO and LabelMe for three images, one file of them damaged."""
    runs = encode_rle(np.kron([[0, 1], [1, 1]], np.ones((20, 30))) > 0)
    square, kinds = {"segmentation": [[10, 5, 30, 5, 30, 25, 10, 25]]}, {1: "pet", 2: "background", 3: "ignore"}
    of_coco = coco(
        ["a.png", "b.png", "c.png"],
        [
            square,
            {**square, "image_id": 1, "category_id": 3},
            {"image_id": 1, "segmentation": {"size": [40, 60], "counts": runs}, "iscrowd": 1},
            {"image_id": 2, "segmentation": {"size": [40, 60], "counts": [1200, 600, 600]}, "bbox": [1, 2, 3, 4]},
        ],
        kinds,
    )
    shapes = [
        {},
        {"shape_type": "rectangle", "points": [[1, 2], [20, 30]]},
        {"shape_type": "circle", "points": [[20, 20], [25, 20]], "label": "dog"},
        {"shape_type": "mask", "points": [[1, 2], [3, 4]], "mask": "iVBORw0KGgo="},
    ]
    of_labelme = [labelme("a.png", shape) for shape in shapes[:3]] + [labelme("a.png", *shapes[:3])]
    of_labelme.append(labelme("a.png", shapes[3]))
    data = {"path": ".", "train": "images", "val": ["images"], "nc": 2, "names": {0: "pet", 1: "dog"}}
    lines = yolo() + yolo(label=1) + "0 0.1 0.2 0.3 0.4\n"
    place = folder / "set"

    def fresh(*names: str) -> None:
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(folder / "photos", place)
        for name in names:
            (place / name).mkdir()

    photos(folder / "photos", "a.png", "b.png", "c.png")

    def make(rng: Random) -> Path:
        match rng.randrange(4):
            case 0 | 1:
                fresh()
                (place / "set.json").write_bytes(json_of(rng, of_coco))
                return rng.choice((place, place / "set.json"))
            case 2:
                fresh()
                (place / "a.json").write_bytes(json_of(rng, rng.choice(of_labelme)))
                put(place / "b.json", labelme("b.png", {}))
                return place
            case _:
                fresh("labels")
                for name in ("a", "b"):
                    text = text_of(rng, lines) if rng.random() < 0.5 else lines.encode()
                    (place / "labels" / f"{name}.txt").write_bytes(text)
                given = {**data, "train": rng.choice((".", "train.txt")), "val": None}
                (place / "train.txt").write_bytes(
                    text_of(rng, "a.png\n./b.png\n") if rng.random() < 0.3 else b"a.png\n"
                )
                text = yaml_of(rng, given) if rng.random() < 0.6 else json.dumps(given).encode()
                (place / "data.yaml").write_bytes(text)
                return rng.choice((place, place / "data.yaml"))

    return Source(make, lambda path: look_at(open_dataset(str(path), DatasetOptions())))


def look_at(dataset: Dataset) -> None:
    """Read all that a set has, as a training does."""
    parts = [set(dataset.official.get(part, ())) for part in ("train", "validation", "trainval", "test")]
    assert len(dataset) == len(set(dataset.keys)) and set().union(*parts) <= set(range(len(dataset)))
    assert not any(part & parts[-1] for part in parts[:-1]), "photos of the test part are in another"
    assert all(len(part) == len(set(part)) for part in dataset.official.values()), "a photo is twice in a part"
    if dataset.labels is not None:
        assert dataset.labels.shape == (len(dataset),) and dataset.labels.min() >= -1
        assert dataset.labels.max() < len(dataset.label_names)
    for index in range(len(dataset)):
        try:
            shape = dataset.image(index).shape
        except ImageError:  # is skipped and named
            continue
        if dataset.has_mask(index):
            mask = dataset.mask(index)
            assert mask.dtype == np.uint8 and mask.shape == shape[:2]
            assert set(np.unique(mask)) <= {*range(len(dataset.classes)), 255}
