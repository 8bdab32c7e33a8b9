"""The one way to open a picture: decoding, orientation and limits. No torch."""

from __future__ import annotations

import logging
import os
import re
import struct
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import (  # noqa: F401  # importing a format's plugin registers it
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TgaImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from simclrseg.errors import DataError, ImageError, some
from simclrseg.images.bands import places_of
from simclrseg.images.depth import (
    Blank,
    Deep,
    Range,
    blank_pixels,
    common_range,
    deep_values,
    likely_range,
    sample_bits,
    scaled_bands,
    spread_of,
    stated_range,
)
from simclrseg.images.geography import Geography, geography_of
from simclrseg.images.headers import Refused, exif_follows_pixels, exif_orientation, is_plain_png, jpeg_header
from simclrseg.images.limits import LARGE, MAX_PIXELS, MOST, check_content, check_picture, check_size, room_for
from simclrseg.images.srgb import ALPHA, hides_all, is_srgb, srgb_pixels
from simclrseg.images.strips import as_array, cut, swap_red_and_blue
from simclrseg.images.tiff import (
    SIGNATURES,
    check_tiff,
    is_plain_rgb,
    read_samples,
    read_tiff,
    tiff_bands,
    tiff_header,
)
from simclrseg.metadata import RGB
from simclrseg.system.files import why_not_a_file
from simclrseg.system.limits import NO_HANDLES

log = logging.getLogger(__name__)

Pixels = NDArray[np.uint8 | np.uint16]
"""(H, W, 3) RGB or (H, W), uint8; (H, W, bands) uint8 or uint16 where a dataset reads all that is stored."""
Mask = NDArray[np.uint8]
"""(H, W) class ids; (H, W, 3) where a file stores them as colours."""

_SUFFIXES = "jpg jpeg jpe jfif png gif bmp tif tiff webp avif tga ppm pgm pbm pnm jp2 j2k"
_HEIC = frozenset({".heic", ".heif"})
_READS_HEIC = find_spec("pillow_heif") is not None
IMAGE_SUFFIXES = frozenset(f".{suffix}" for suffix in _SUFFIXES.split()) | (_HEIC if _READS_HEIC else frozenset())
_RAW = frozenset(f".{suffix}" for suffix in ["dng", "cr2", "cr3", "nef", "arw", "raf", "orf", "rw2", "pef", "srw"])
# Folders of thumbnails and of what was thrown away, in lower case.
_LITTER = frozenset(
    ["@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "$recycle.bin", "recycler", "lost+found"]
)
_NO_HEIC = "HEIC is not supported: `pip install 'simclrseg[heic]'`, or convert it to JPEG or PNG"

# Of numbers of more than 8 bits Pillow knows few in which zero is white, as ImageJ writes them; they are stored alike.
for (_order, _shown, _sign, _fill, _bits, _extra), _modes in [*TiffImagePlugin.OPEN_INFO.items()]:
    if _shown == 1 and max(_bits) > 8:
        TiffImagePlugin.OPEN_INFO.setdefault((_order, 0, _sign, _fill, _bits, _extra), _modes)

# Formats that are read, by Pillow's names, and no others: Pillow would start Ghostscript for EPS.
_FORMATS = ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP", "AVIF", "PPM", "JPEG2000", "TGA")
_FLIPS = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}  # orientation -> OpenCV's code; from 5 on after a transposition
_INVERSE = {6: 8, 8: 6}  # every other orientation is its own inverse
_AS_STORED = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
_HUSHED = ("ignore", None, Warning, re.compile(r"PIL\."), 0)  # as ``warnings.filters`` holds it


@dataclass(frozen=True)
class Picture:
    """A decoded picture and what its file says of it."""

    pixels: Pixels  # (H, W, 3) uint8, or all bands as they are stored; upright
    orientation: int = 1  # EXIF's, 1 to 8; ``turn_back`` gives the stored one
    several: bool = False  # the file holds more frames or pages than this first one
    hidden: bool = False  # its alpha channel hides all of it, so that its colours were taken as they are
    stored: Range | None = None  # least and greatest value where it has more than 8 bits
    reach: Range | None = None  # and what became 0 and 255, or 0 and 10,000 of floating-point bands
    bands: tuple[str, ...] = RGB  # their names, as ``tagged_bands`` has them
    blank: Blank | None = None  # where it holds nothing; None for nowhere
    geography: Geography | None = None  # of a TIFF


def read_image(source: str | Path | bytes, *, reach: Range | Callable[[Deep], Range] = stated_range) -> Pixels:
    """Decode a picture to RGB, as a viewer would show it.

    Transparent pixels are laid over white unless all are, more than 8 bits are scaled to 8, CMYK, Lab and pictures with
    an embedded ICC profile are brought to sRGB, and of several frames or pages the first is taken.

    Args:
        source: a file, or its contents.
        reach: the values of more than 8 bits that become 0 and 255, or what finds them for a picture.

    Returns:
        (H, W, 3) uint8, contiguous.

    Raises:
        ImageError: if it cannot be read, here as in the functions below; the message names file and reason.
    """
    return read_picture(source, reach=reach).pixels


def read_picture(
    source: str | Path | bytes,
    *,
    max_pixels: int = MAX_PIXELS,
    reach: Range | Callable[[Deep], Range] = stated_range,
) -> Picture:
    """Read an image as ``read_image`` does, with what else the file says.

    Args:
        max_pixels: width x height allowed; checked in the header, before any pixel is decoded.
    """
    in_memory = isinstance(source, bytes)
    with _opened(source) as (stream, name), ExitStack() as stack:
        if stream.read(3) == b"\xff\xd8\xff":
            data = source if isinstance(source, bytes) else b"\xff\xd8\xff" + stream.read()
            header = jpeg_header(data)
            if header is not None:
                check_size(header.width, header.height, max_pixels)
                stack.enter_context(room_for(header.width * header.height))
                if header.width * header.height > LARGE:
                    check_content(header.width * header.height, MOST["JPEG"], len(data))
                whole = data.endswith(b"\xff\xd9")  # cv2 fills a cut JPEG with grey and says nothing
                if header.plain and whole and is_srgb(header.profile):
                    small = in_memory or header.height * header.width <= LARGE
                    image = _decode_plain(data if small else source, header.height, header.width)
                    if image is not None:
                        return Picture(_turn(image, header.orientation), header.orientation)
            stream = BytesIO(data)
        picture = _open_picture(stream, name)
        width, height = picture.size
        _check(picture, stream, max_pixels)
        stack.enter_context(room_for(width * height))
        if width * height > LARGE and not in_memory and is_plain_png(stream):
            image = _decode_plain(source, height, width)
            if image is not None:
                return Picture(image)
            picture = _open_picture(stream, name)
        geography = geography_of(picture.tag_v2) if isinstance(picture, TiffImagePlugin.TiffImageFile) else None
        nodata = geography.nodata if geography else None
        if width * height > LARGE and isinstance(picture, TiffImagePlugin.TiffImageFile):
            orientation = exif_orientation(picture)
            if is_plain_rgb(picture.tag_v2):  # Pillow takes 4 bytes a pixel, and a copy
                several, pixels = _holds_several(picture), read_tiff(stream)
                blank = _turned(blank_pixels(pixels, nodata), orientation)
                return Picture(_turn(pixels, orientation), orientation, several, blank=blank, geography=geography)
        several = _holds_several(picture)
        picture, orientation, left = _loaded(picture, stream)
        deep = deep_values(stream, picture, partial(_turn, orientation=orientation), nodata=nodata)
        if deep is None:
            hidden = hides_all(picture)
            blank = _blank_photo(picture, geography) if geography and not hidden else None
            pixels = srgb_pixels(partial(cut, picture), picture.size, over_white=not hidden)
            del picture  # of which turning would take a third copy
            return Picture(_turn(pixels, left), orientation, several, hidden, blank=blank, geography=geography)
        size, profile = picture.size, picture.info.get("icc_profile")
        del picture
        stored = deep.spread  # before anything is scaled: it refuses what is no number
        scale = reach(deep) if callable(reach) else reach
        hidden = deep.hides_all
        rows = partial(deep.to_8_bits, reach=scale, profile=profile)
        pixels = _turn(srgb_pixels(rows, size, over_white=not hidden), left)
        blank = _turned(deep.blank, left)
        return Picture(pixels, orientation, several, hidden, stored, scale, blank=blank, geography=geography)


def vague_range(source: str | Path | bytes) -> tuple[Range, bool] | None:
    """The least and greatest value of a picture of more than 8 bits that does not state their range; else None.

    And whether they are floating-point numbers.
    """
    with _opened(source) as (stream, name), ExitStack() as stack:
        head = stream.read(32)
        if not (head.startswith(SIGNATURES) or (head.startswith(b"\x89PNG") and head[24:25] == b"\x10")):
            return None
        picture = _open_picture(stream, name)
        if sample_bits(picture) < 16:
            return None
        _check(picture, stream)
        stack.enter_context(room_for(picture.width * picture.height))
        picture, _, _ = _loaded(picture, stream)
        deep = deep_values(stream, picture, lambda values: values)
        return (deep.spread, deep.floating) if deep is not None and deep.stated is None else None


def read_bands(source: str | Path | bytes, *, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Read the samples of a TIFF as ``read_scene`` does, floating-point numbers of the range that they seem to have.

    Returns:
        (H, W, bands) uint8 or uint16, contiguous.
    """
    return read_scene(source, max_pixels=max_pixels).pixels


def read_scene(
    source: str | Path | bytes,
    *,
    max_pixels: int = MAX_PIXELS,
    reach: Range | None = None,
    wanted: Sequence[str] = (),
) -> Picture:
    """Read the samples of a TIFF as they are stored: all bands, 16 bits where it has them, in no colour space.

    Floating-point numbers become such of 16 bits, in which ``REFLECTANCE`` stands for the upper end of their range.
    Pixels that hold nothing are 0, or the file's own value where it is a number of 16 bits.

    Args:
        reach: that range; by default the one that the values seem to have.
        wanted: names of the bands that will be taken, of whose kind the range is then to be.
    """
    with _opened(source) as (stream, _), ExitStack() as stack:
        if not stream.read(64).startswith(SIGNATURES):
            raise Refused("not a TIFF, which pictures of other bands than red, green and blue must be")
        check_tiff(stream, max_pixels)
        bands, geography = tiff_bands(stream)
        header = tiff_header(stream)
        stack.enter_context(room_for(header.height * header.width))
        samples = read_samples(stream)
        blank = blank_pixels(samples, geography.nodata if geography else None)
        if samples.dtype.kind == "f":
            stored = spread_of(samples, blank)
            places = places_of(wanted, bands) or range(len(bands))
            scale = reach or common_range(_spreads(samples, blank), places)
            pixels: Pixels = scaled_bands(samples, scale, blank)
            return Picture(pixels, stored=stored, reach=scale, bands=bands, blank=blank, geography=geography)
        if samples.dtype.kind == "i":
            if blank is not None:
                samples[blank] = 0
            if any((rows < 0).any() for rows in samples):
                raise Refused("it has negative samples, which no pixel has here", "shift it above zero")
            samples = samples.view(f"u{samples.itemsize}")
        return Picture(samples, bands=bands, blank=blank, geography=geography)


def stored_bands(source: str | Path | bytes) -> tuple[int, int] | None:
    """Count the bands of a TIFF that is no photo, and the bits that ``read_bands`` gives each; None for photos."""
    with _opened(source) as (stream, _):
        if stream.read(4) not in SIGNATURES or (header := tiff_header(stream)).is_photo:
            return None
        return header.bands, 16 if header.floating else header.bits


def floating_ranges(source: str | Path | bytes) -> tuple[tuple[str, ...], list[Range]] | None:
    """The names of a TIFF's floating-point bands, as ``named_bands`` has them, and the range of each one's values.

    None for other numbers, and for photos.
    """
    with _opened(source) as (stream, _):
        if stream.read(4) not in SIGNATURES or (header := tiff_header(stream)).is_photo or not header.floating:
            return None
        check_tiff(stream)
        bands, geography = tiff_bands(stream)
        with room_for(header.height * header.width):
            samples = read_samples(stream)
            return bands, _spreads(samples, blank_pixels(samples, geography.nodata if geography else None))


def _spreads(samples: NDArray[Any], blank: Blank | None) -> list[Range]:
    return [spread_of(samples[:, :, band], blank) for band in range(samples.shape[2])]


def named_bands(source: str | Path | bytes) -> tuple[str, ...]:
    """The names of the bands of a TIFF by its tags, or numbers; those of a photo for other files."""
    with _opened(source) as (stream, _):
        return tiff_bands(stream)[0] if stream.read(4) in SIGNATURES else RGB


def blank_of(source: str | Path | bytes, *, reach: Range | None = None) -> Blank | None:
    """Where a picture holds nothing, as ``read_scene`` and ``read_picture`` find it; None where it is whole."""
    if stored_bands(source) is not None:
        return read_scene(source, reach=reach).blank
    return read_picture(source, reach=reach or likely_range).blank


def may_be_blank(source: str | Path | bytes) -> bool:
    """Tell whether a TIFF says that pixels may hold nothing, or has numbers of which some may be none."""
    with suppress(ImageError), _opened(source) as (stream, _):
        if stream.read(4) in SIGNATURES:
            (_, geography), header = tiff_bands(stream), tiff_header(stream)
            map_with_alpha = (
                geography is not None and geography.is_placed and header.is_photo and header.bands in (2, 4)
            )
            return header.floating or map_with_alpha or (geography is not None and geography.nodata is not None)
    return False


def holds_several(source: str | Path | bytes) -> bool:
    """Tell whether a picture that can be opened has more frames or pages than the first, which is read."""
    with suppress(ImageError), _opened(source) as (stream, name):
        return _holds_several(_open_picture(stream, name))
    return False


def is_hidden(source: str | Path | bytes) -> bool:
    """Tell whether the alpha channel of a picture hides all of it; it is decoded if it has one."""
    with _opened(source) as (stream, name):
        picture = _open_picture(stream, name)
        if picture.mode not in ALPHA:
            return False
        _check(picture, stream)
        with room_for(picture.width * picture.height):
            return hides_all(_loaded(picture, stream)[0])


def image_shape(source: str | Path | bytes) -> tuple[int, int]:
    """(height, width) of a picture as ``read_image`` would return it, from the header alone."""
    height, width, _ = image_header(source)
    return height, width


def image_header(source: str | Path | bytes) -> tuple[int, int, int]:
    """The same, and the orientation, 1 to 8, in which the file stores it."""
    with _opened(source) as (stream, name):
        if stream.read(4) in SIGNATURES and not (header := tiff_header(stream)).is_photo:
            return header.height, header.width, 1
        picture = _open_picture(stream, name)
        width, height = picture.size
        if isinstance(picture, TiffImagePlugin.TiffImageFile):  # Pillow has exchanged them already
            return height, width, exif_orientation(picture)
        if isinstance(picture, PngImagePlugin.PngImageFile) and exif_follows_pixels(stream):
            _check(picture, stream)
            picture.load()
        orientation = exif_orientation(picture)
        return (width, height, orientation) if orientation >= 5 else (height, width, orientation)


@dataclass(frozen=True)
class Listing:
    """The files below a folder that were asked for, and what is no file or cannot be opened."""

    files: list[Path]  # sorted by their path below the folder
    left_out: dict[Path, str]  # neither file nor folder, or out of reach -> why


def list_images(folder: str | Path) -> list[Path]:
    """List the files of ``list_files`` that have the suffix of a picture."""
    return list_files(folder, is_image).files


def why_unread(name: str) -> str:
    """Why a photo is not read, by its suffix; empty for what is read, and for what is no photo."""
    suffix = os.path.splitext(name)[1].lower()
    if suffix in _HEIC and not _READS_HEIC:
        return _NO_HEIC
    return "a camera's raw photo is not read: develop it to JPEG or TIFF" if suffix in _RAW else ""


def is_image(name: str) -> bool:
    """Tell whether a file's name has the suffix of a picture."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def is_photo(name: str) -> bool:
    """Tell whether a file's name has the suffix of a picture, or of a photo that is not read."""
    return is_image(name) or why_unread(name) != ""


def unread_photos(files: Iterable[Path]) -> list[Path]:
    """The photos among files that are not read, but for those of which a picture of the same name lies beside them."""
    files = list(files)
    unread = [file for file in files if why_unread(file.name)]
    read = {file.with_suffix("") for file in files if is_image(file.name)} if unread else set()
    return [file for file in unread if file.with_suffix("") not in read]


def tell_unread(photos: Iterable[Path]) -> str:
    """Count photos that are not read by their suffix, and say why: ``3 .heic (HEIC is not supported: ...)``."""
    photos = sorted(photos)
    return f"{count_suffixes(photos)} ({'; '.join(dict.fromkeys(why_unread(photo.name) for photo in photos))})"


def count_suffixes(files: Iterable[Path]) -> str:
    """Files by their suffix: ``3 .heic, 1 .txt``."""
    counts = Counter(file.suffix.lower() or "without a suffix" for file in files)
    return some([f"{count:,} {suffix}" for suffix, count in counts.most_common()])


def list_files(folder: str | Path, wanted: Callable[[str], bool] = lambda name: True) -> Listing:
    """List the regular files below ``folder``, which may be missing, of the names that are ``wanted``.

    Links are followed, hidden files and folders skipped; what is left out is named and counted in one warning, and
    in one line what systems put beside photos: thumbnails, and what was thrown away.

    Raises:
        DataError: if the folder itself cannot be opened.
    """
    left_out: dict[Path, str] = {}
    litter: Counter[str] = Counter()
    found: list[tuple[str, Path]] = []
    for parent, names in walk(folder, left_out, litter):
        below = "" if parent == Path(folder) else f"{parent.relative_to(folder).as_posix()}/"
        found += [(below + name, parent / name) for name in names if wanted(name)]
    if reason := left_out.get(Path(folder)):
        raise DataError(f"{folder} cannot be opened: {reason}", path=folder)
    warn_left_out(folder, left_out)
    if litter:
        log.info(f"{folder}: left out: {', '.join(f'{count:,} {what}' for what, count in litter.most_common())}")
    return Listing([path for _, path in sorted(found)], left_out)


def walk(
    folder: str | Path, left_out: dict[Path, str], litter: Counter[str] | None = None
) -> Iterator[tuple[Path, list[str]]]:
    """Visit ``folder`` and each folder below it once, wherever links lead, with the names of its files.

    Args:
        left_out: gets what cannot be read, and why, as in a ``Listing``.
        litter: gets the pictures that are no photos of the user's, counted by where they are.
    """
    litter = Counter() if litter is None else litter
    seen = set()
    folders = [Path(folder)]
    while folders:
        parent = folders.pop()
        try:
            status = os.stat(parent)
            if (status.st_dev, status.st_ino) in seen:  # a link that leads back up
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(parent) as entries:
                every = sorted(entries, key=lambda entry: entry.name)
        except FileNotFoundError:  # never there, or gone meanwhile
            continue
        except OSError as error:
            left_out[parent] = str(error.strerror)
            continue
        files, inner = [], []
        litter.update("._ files" for entry in every if entry.name.startswith("._") and is_image(entry.name))
        for entry in every:
            if entry.name.startswith("."):
                continue
            kind = _kind(entry)
            if kind == "file":
                files.append(entry.name)
            elif kind != "folder":
                left_out[parent / entry.name] = kind
            elif entry.name.lower() in _LITTER:
                _count_pictures(parent / entry.name, litter)
            elif not entry.name.startswith("__MACOSX"):
                inner.append(parent / entry.name)
        folders.extend(reversed(inner))
        yield parent, files


def _count_pictures(folder: Path, litter: Counter[str]) -> None:
    count = sum(is_image(name) for _, _, names in os.walk(folder) for name in names)
    if count:
        litter[f"picture{'s' if count > 1 else ''} in {folder.name}"] += count


def _kind(entry: os.DirEntry[str]) -> str:
    """``file``, ``folder``, or why it is neither; of most the system has told already."""
    with suppress(OSError):  # links in a circle
        if entry.is_file():
            return "file"
        if entry.is_dir():
            return "folder"
    return why_not_a_file(entry.path)


def warn_left_out(where: str | Path, left_out: Mapping[Path, str]) -> None:
    """Name the first and count all of what is left out, if anything is."""
    if left_out:
        first = min(left_out)
        log.warning(
            f"{where}: unreadable and left out: {len(left_out):,}; "
            f"the first is {_display_name(first)}: {left_out[first]}"
        )


def turn_upright(image: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Bring a stored (H, W[, C]) to how a viewer shows it."""
    return _turn(image, orientation)


def turn_back(image: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Bring an upright (H, W[, C]) to the orientation in which its file stores it."""
    return _turn(image, _INVERSE.get(orientation, orientation))


def _decode_plain(source: str | Path | bytes, height: int, width: int) -> NDArray[Any] | None:
    """OpenCV's pixels of a plain JPEG or PNG; those of a file without the second copy that others make."""
    try:
        if isinstance(source, bytes):
            return cv2.imdecode(np.frombuffer(source, np.uint8), _AS_STORED)
        image = np.empty((height, width, 3), np.uint8)
        return image if cv2.imread(os.fspath(source), image, _AS_STORED) is image else None
    except cv2.error:
        return None


def _open_picture(stream: IO[bytes], name: str) -> Image.Image:
    """Read a picture's header; like ``Image.open``, without its list of formats and its global pixel limit."""
    stream.seek(0)
    prefix = stream.read(64)
    if prefix.startswith(SIGNATURES) and not (header := tiff_header(stream)).is_photo:
        kind, remedy = ("floating-point bands", " with 8 or 16 bits") if header.floating else ("bands", "")
        reason = f"a TIFF of {header.bands} {kind}, which are not a photo's"
        raise Refused(reason, f"save red, green and blue{remedy}")
    if _READS_HEIC and _is_heic(prefix):
        import pillow_heif

        pillow_heif.register_heif_opener()
    for kind in ("HEIF", *_FORMATS) if "HEIF" in Image.OPEN else _FORMATS:
        factory, accept = Image.OPEN[kind]
        fits = accept(prefix[:16]) is True if accept else name.lower().endswith(".tga")  # nothing else marks a TGA
        if fits:
            stream.seek(0)
            with suppress(SyntaxError, IndexError, TypeError, struct.error):
                return factory(stream, "")
    if prefix.startswith(SIGNATURES):
        reason = f"a TIFF of {header.bands} x {header.bits} bits, of a kind that is not read"
        raise Refused(reason, "save it with 8 or 16 bits")
    raise Refused(_guess(prefix))


def _holds_several(picture: Image.Image) -> bool:
    """Tell whether there are more frames or pages; a photo's own previews (MPO) do not count."""
    try:
        return bool(getattr(picture, "is_animated", False))
    except Exception:  # what follows may be damaged, which does not concern the first
        return False


def _check(picture: Image.Image, stream: IO[bytes], limit: int = MAX_PIXELS) -> None:
    """Refuse an opened picture that claims too much, before a pixel is decoded."""
    check_picture(picture, stream, limit)
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        check_tiff(stream, limit)


def _loaded(picture: Image.Image, stream: IO[bytes]) -> tuple[Image.Image, int, int]:
    """The picture with its pixels, the orientation that the file asks for, and the one that is left to apply."""
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        orientation = exif_orientation(picture)  # is gone once Pillow has turned the pixels, which it does here
        picture.load()
        return picture, orientation, 1
    if isinstance(picture, WebPImagePlugin.WebPImageFile) and picture.width * picture.height > LARGE:
        orientation = exif_orientation(picture)
        return _large_webp(picture, stream), orientation, orientation
    picture.load()
    orientation = exif_orientation(picture)  # a PNG's EXIF may follow its pixels
    return picture, orientation, orientation


def _large_webp(picture: Image.Image, stream: IO[bytes]) -> Image.Image:
    """The same by OpenCV: Pillow takes it for an animation, which needs it in memory four times."""
    stream.seek(0)
    flags = _AS_STORED if picture.mode == "RGB" else cv2.IMREAD_UNCHANGED
    values = cv2.imdecode(np.frombuffer(stream.read(), np.uint8), flags)
    if values is None or values.shape[:2] != (picture.height, picture.width):
        raise Refused("the picture is damaged or cut short", "copy or download it again")
    decoded = Image.fromarray(values if picture.mode == "RGB" else swap_red_and_blue(values))
    decoded.info, decoded.format = picture.info, picture.format
    return decoded


def _blank_photo(picture: Image.Image, geography: Geography) -> Blank | None:
    """Where a loaded TIFF of 8 bits holds nothing: its own value stands there, or a map's alpha channel hides it."""
    if picture.mode in ALPHA and geography.is_placed:
        blank = as_array(picture.getchannel("A")) == 0
        return blank if blank.any() else None
    return blank_pixels(as_array(picture), geography.nodata) if picture.mode in ("L", "RGB") else None


def _turned(blank: Blank | None, orientation: int) -> Blank | None:
    return None if blank is None else _turn(blank.view(np.uint8), orientation).view(bool)


def _turn(image: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Apply an EXIF orientation to (H, W[, 3])."""
    if orientation >= 5:
        image = cv2.transpose(image)
        return cv2.flip(image, _FLIPS[orientation], image) if orientation in _FLIPS else image  # no third copy
    return cv2.flip(image, _FLIPS[orientation]) if orientation in _FLIPS else image


@contextmanager
def _opened(source: str | Path | bytes) -> Iterator[tuple[IO[bytes], str]]:
    """Open a picture, and name it for messages; any error inside becomes one line, and nothing else is said."""
    # Pillow's own notes on odd metadata: ``warnings.catch_warnings`` would swap the filters of the whole process, which
    # is not safe in the loader's threads
    if not warnings.filters or warnings.filters[0] != _HUSHED:
        warnings.filterwarnings("ignore", module=r"PIL\.")
    name = _display_name(source)
    try:
        if isinstance(source, bytes):
            yield BytesIO(source), name
            return
        if reason := why_not_a_file(source):  # a pipe would wait for ever
            raise Refused(reason)
        try:
            stream = open(source, "rb")  # noqa: SIM115
        except OSError as error:
            if error.errno in NO_HANDLES:  # which is not about this picture
                raise
            raise ImageError(f"{name} cannot be opened: {error.strerror}", path=name) from error
        with stream:
            yield stream, name
    except ImageError:
        raise
    except Refused as error:
        raise ImageError(f"{name}: {error.reason}", error.remedy, path=name) from error
    except Image.DecompressionBombError as error:  # GIF's plugin checks by itself
        reason = f"it claims more pixels than are allowed ({MAX_PIXELS:,}): shrink it"
        raise ImageError(f"{name}: {reason}", path=name) from error
    except Exception as error:  # a decoder that meets arbitrary bytes raises about anything
        if isinstance(error, OSError) and error.errno in NO_HANDLES:
            raise
        cause = " ".join(str(error).split())[:200] or type(error).__name__
        reason = f"the picture is damaged or cut short ({cause}): copy or download it again"
        raise ImageError(f"{name}: {reason}", path=name) from error


def _display_name(source: str | Path | bytes) -> str:
    if isinstance(source, bytes):
        return f"the picture ({len(source):,} bytes)"
    name = os.fspath(source)
    return name if name.isprintable() else ascii(name)  # one line, and no bytes that a terminal cannot print


def _is_heic(prefix: bytes) -> bool:
    return prefix[4:8] == b"ftyp" and prefix[8:12] in (b"heic", b"heix", b"hevc", b"mif1", b"msf1")


def _guess(prefix: bytes) -> str:
    """Why a file that starts with these bytes is not a picture that can be read."""
    if not prefix:
        return "the file is empty"
    if _is_heic(prefix):
        return "the HEIC file is damaged: copy it again" if _READS_HEIC else _NO_HEIC
    if prefix.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the picture: run `git lfs pull`"
    if prefix.startswith((b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF")):
        return "the picture's header is damaged or cut short: copy or download it again"
    return f"not a picture that can be read ({', '.join(_FORMATS)})"
