"""The split that a user gave: lists of photos in text files, or folders that are called after its parts.

``train.txt``, ``val.txt``, ``test.txt`` (or ``trainval.txt``) lie in the set's folder, in ``ImageSets/Segmentation``,
or in a folder of their own. They list stems, file names or paths, one a line, in any case and from any machine.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath

from simclrseg.data.datasets.dataset import refuse_shared
from simclrseg.errors import DataError, some
from simclrseg.images.listing import is_image, is_photo
from simclrseg.labels.labelled import left_out, refuse_other_files
from simclrseg.labels.paths import plain
from simclrseg.system.identify import why_not_a_file

_SPLITS = {
    "train": "train",
    "training": "train",
    "trainval": "trainval",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
"""Names of lists and folders of splits, without what parts their words -> the split."""
_SEPARATORS = re.compile(r"[_\-. ]+")
_OF_SOMETHING = re.compile(
    r"(.+?)[_\-. ]?(?:lists?|files?|filenames|ids|names|images|photos|set|split|data|(?:19|20)\d\d)", re.IGNORECASE
)
_OF_YOLO = "labels"  # text files in which are labels
_NOT_READ = "lists that are not read"
_OF_VOC = ("imagesets", "segmentation")  # where VOC's layout has its lists
_UNREAD = (".csv", ".tsv", ".lst")  # forms of lists
_OF_PARTS = re.compile(r"(?:.*[_\-. ])?(?:splits?|folds?)(?:[_\-. ]?\d+)?(?:[_\-. ].*)?", re.IGNORECASE)
_COLUMNS = re.compile(r"[,;|\t]")


def split_of(name: str) -> str:
    """The split that a folder or a list is named after, among those of ``Dataset.official``; empty where it is none."""
    match = _OF_SOMETHING.fullmatch(name)
    return _called(name) or (_called(match[1]) if match else "")


def _called(name: str) -> str:
    return _SPLITS.get(_SEPARATORS.sub("", name.lower()), "")


def split_folders(paths: Sequence[PurePath]) -> tuple[dict[str, list[int]], int]:
    """The splits of ``train/a.jpg``, ``test/b.jpg``, and how deep their folders lie.

    Nothing unless every image lies in such a folder, all as deep.
    """
    for depth in range(min((len(path.parts) for path in paths), default=1) - 1):
        splits: dict[str, list[int]] = {}
        for index, path in enumerate(paths):
            splits.setdefault(split_of(path.parts[depth]), []).append(index)
        if len(splits) > 1 and "" not in splits:
            return splits, depth
    return {}, 0


def tell_other_folders(paths: Sequence[PurePath]) -> list[str]:
    """A line on folders that are called after splits and are none, for other photos lie outside of them."""
    named = sorted({path.parts[0] for path in paths if len(path.parts) > 1 and split_of(path.parts[0])})
    outside = [path.name for path in paths if len(path.parts) < 2 or path.parts[0] not in named]
    if not named or not outside:
        return []
    folders = some([f"{name}/" for name in named])
    return [
        f"no split: {folders}, for {len(outside):,} photos lie outside ({some(outside, shown=2)}); "
        "move them, or write train.txt and test.txt"
    ]


@dataclass(frozen=True)
class _List:
    """A text file that lists the photos of a split; one that is not ``sure`` to do so may be of something else."""

    split: str
    file: Path
    sure: bool


@dataclass(frozen=True)
class Lists:
    """The lists to be read, and lines on others."""

    read: Sequence[_List] = ()
    lines: Sequence[str] = ()

    @property
    def files(self) -> list[Path]:
        return [one.file for one in self.read]


def find_lists(root: Path, files: Iterable[Path]) -> Lists:
    """Find the lists among all files below ``root``: those beside the photos, as in VOC's layout, or in another folder.

    Raises:
        DataError: for two lists of one split.
    """
    files = list(files)
    of_photos = {file.parent for file in files if is_image(file.name)} - {root}
    folders: dict[Path, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    strange = []
    for file in files:
        suffix = file.suffix.lower()
        split = split_of(file.stem) if suffix in (".txt", *_UNREAD) else ""
        if (
            not split
            and suffix in (".txt", ".json", *_UNREAD)
            and file.parent == root
            and _OF_PARTS.fullmatch(file.stem)
        ):
            strange.append(file.name)
        if not split or file.parent in of_photos or file.parent.name.lower() == _OF_YOLO:
            continue
        if suffix == ".txt":
            folders[file.parent][split].append(file)
        elif suffix in _UNREAD and file.parent == root:
            strange.append(file.name)
    lines = [f"{_NOT_READ}: {some(strange)}; write names of photos to train.txt, one a line"] if strange else []

    def rank(folder: Path) -> tuple[bool, bool, int, int]:
        parts = folder.relative_to(root).parts
        voc = tuple(map(str.lower, parts[-2:])) == _OF_VOC
        return bool(parts), not voc, -len(folders[folder]), len(parts)

    ranks = {folder: rank(folder) for folder in folders}
    read: list[_List] = []
    unclear: list[Path] = []
    for split in sorted({split for of_folder in folders.values() for split in of_folder}):
        holding = [folder for folder in folders if split in folders[folder]]
        # the folder that is best of all comes first, whose lists belong together
        best = min(holding, key=ranks.__getitem__)
        if sum(ranks[folder] == ranks[best] for folder in holding) > 1:
            unclear += [file for folder in holding for file in folders[folder][split]]
        else:
            sure = best == root or not ranks[best][1]
            read.append(_List(split, _only(root, split, folders[best][split]), sure))
    if unclear:
        names = some(sorted(file.relative_to(root).as_posix() for file in unclear), shown=3)
        lines.append(f"{_NOT_READ}, for there are others of the same parts: {names}; copy the right ones to {root}")
    return Lists(sorted(read, key=lambda one: ranks[one.file.parent]), lines)


def _only(root: Path, split: str, files: Sequence[Path]) -> Path:
    """Of several the one that is called after the split alone."""
    best = [file for file in files if _called(file.stem)] or list(files)
    if len(best) > 1:
        raise DataError(f"{root} has two lists for {split}, {best[1].name} among them", "keep one", path=root)
    return best[0]


def read_lists(
    root: Path,
    lists: Lists,
    images: Sequence[Path],
    below: Sequence[PurePath],
    summary: list[str],
    *,
    others: Collection[Path] = (),
) -> dict[str, list[int]]:
    """The images of each split that lists name.

    Args:
        below: the images' paths as they may be named too.
        others: photos that are there and no part of the set, of which lists may speak.

    Raises:
        DataError: if a list names photos that are not there or may be several, or two share one.
    """
    summary += lists.lines
    if not lists.read:
        return {}
    spellings = _Spellings(root, images, below, others)
    official: dict[str, list[int]] = {}
    strangers: set[str] = set()
    first_folder = lists.read[0].file.parent
    for one in lists.read:
        indices = _read_list(one, spellings, strangers, summary)
        known = {index for of in official.values() for index in of}
        if indices is None or (not one.sure and not known.isdisjoint(indices) and one.file.parent != first_folder):
            why = "it names none of the photos" if indices is None else "those that it names are in others"
            summary.append(f"{_NOT_READ}, for {why}: {one.file.relative_to(root).as_posix()}")
        else:
            official[one.split] = indices
    if "trainval" in official and "validation" in official and "train" not in official:
        held = set(official["validation"])  # trainval.txt + val.txt
        official["train"] = [index for index in official.pop("trainval") if index not in held]
    refuse_shared(official, [image.name for image in images], root)
    listed = {index for indices in official.values() for index in indices}
    if listed and len(listed) < len(images):
        summary.append(f"photos in no list: {len(images) - len(listed):,}")
    summary += left_out(sorted(strangers), "photos in lists that are no part of the set")
    return official


class _Spellings:
    """Every way a list may name an image; None stands for a photo that is no part of the set."""

    def __init__(self, root: Path, images: Sequence[Path], below: Sequence[PurePath], others: Collection[Path]) -> None:
        self._whole: dict[str, list[tuple[str, int | None]]] = defaultdict(list)
        self._ends: dict[str, list[tuple[str, int | None]]] = defaultdict(list)
        for index, (image, path) in enumerate(zip(images, below, strict=True)):
            self._add(image.relative_to(root), path, index)
        for other in others:
            self._add(other.relative_to(root), other, None)

    def _add(self, path: PurePath, below: PurePath, index: int | None) -> None:
        ways = {text for way in (path, below, PurePath(path.name)) for text in _texts(way)}
        for way in ways:
            self._whole[plain(way)].append((way, index))
        for start in range(1, len(path.parts) - 1):
            for way in _texts(PurePath(*path.parts[start:])):
                self._ends[plain(way)].append((way, index))

    def named(self, line: str) -> list[int | None]:
        """The images that a line names, by the most exact way that names any; Oxford's and other lists have columns."""
        for text in dict.fromkeys((line, line.split()[0], _COLUMNS.split(line)[0])):
            parts = [
                part for part in PurePosixPath(text.strip("\"' ").replace("\\", "/")).parts if part not in ("/", "..")
            ]
            # a path of another machine is found by its end, of which a folder is part
            for start in range(max(1, len(parts) - 1)):
                path = "/".join(parts[start:])
                ways = [path, *([str(PurePosixPath(path).with_suffix(""))] if path and is_photo(path) else [])]
                found = (known.get(plain(way), []) for way in ways for known in (self._whole, self._ends))
                if matches := next(filter(None, found), []):
                    exact = [index for way, index in matches if way == path] or [index for _, index in matches]
                    return list(dict.fromkeys(index for index in exact if index is not None)) or exact[:1]
        return []


def _texts(path: PurePath) -> tuple[str, str]:
    return path.as_posix(), path.with_suffix("").as_posix()


def _read_list(one: _List, spellings: _Spellings, strangers: set[str], summary: list[str]) -> list[int] | None:
    """The images that a list names; None for one that is not ``sure`` to be of the photos, and names none of them."""
    file = one.file
    if reason := why_not_a_file(file):
        raise DataError(f"{file} cannot be read as a list of photos ({reason})", "restore it, or remove it", path=file)
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        remedy = "save it as UTF-8" if isinstance(error, UnicodeDecodeError) else ""
        raise DataError(f"{file} cannot be read as a list of photos ({error})", remedy, path=file) from error
    indices, unknown = [], []
    for line in lines:
        if not line or line.startswith("#"):
            continue
        matches = spellings.named(line)
        if len(matches) > 1:
            raise DataError(
                f"{file} names {line!r}, which fits {len(matches)} photos", "write the path and the suffix", path=file
            )
        if not matches:
            unknown.append(line)
        elif matches[0] is None:
            strangers.add(line)
        else:
            indices.append(matches[0])
    if unknown and not indices:
        refuse_other_files(file)
        if not one.sure:
            return None
    if unknown and one.sure:
        raise DataError(f"{file} names photos that are not there: {some(unknown)}", path=file)
    summary += left_out(unknown, f"{file.name} names photos that are not there")
    return sorted(set(indices))
