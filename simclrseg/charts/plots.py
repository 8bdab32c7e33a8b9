"""The pictures that a run leaves: curves, what the network sees, what it answers."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from simclrseg.charts.chart import Chart, draw, shortened
from simclrseg.images.colours import overlay
from simclrseg.system.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = tuple(f"C{number}" for number in range(10))
GAP = 4  # pixels between tiles
SMALLEST = 96  # side of a tile that is worth looking at
HEADING = 14  # height of a line of text
ACROSS, CELL = 5, 240  # pictures in a row of a contact sheet, and the least side of the place of each
MARKS = ((255, 40, 40), (60, 220, 60), (80, 120, 255), (255, 220, 0), (255, 80, 255), (0, 230, 230))
"""RGB of places that belong together."""
NUMBERED = 30  # classes up to which a confusion matrix has room for its numbers


def charts(drawn: Sequence[Chart], path: Path) -> None:
    """Write charts side by side as one PNG, two a row at most, so that they can be read 800 pixels wide."""
    across = min(2, max(1, len(drawn)))
    down = max(1, -(-len(drawn) // across))
    with _drawn(path, 4.4 * across, 3.1 * down) as figure:
        for number, chart in enumerate(drawn, start=1):
            draw(figure.add_subplot(down, across, number), chart, colours=COLOURS, ink="black")


def mark_places(picture: np.ndarray, places: np.ndarray) -> None:
    """Draw small crosses on a picture (H, W, 3) uint8 RGB in place, each in a colour of its own, at most as many.

    Args:
        places: (n, 2), x and y as fractions of the picture's sides.
    """
    arm, size = max(1, len(picture) // 32), np.array(picture.shape[1::-1])
    pixels = np.minimum(places * size, size - 1).astype(int)
    for (x, y), colour in zip(pixels, MARKS, strict=False):
        for reach, shade in ((arm + 1, 0), (arm, colour)):  # a dark edge, to be seen on everything
            edge = reach - arm
            for tall, wide in ((reach, edge), (edge, reach)):
                rows, columns = slice(max(0, y - tall), y + tall + 1), slice(max(0, x - wide), x + wide + 1)
                picture[rows, columns] = shade


def examples(
    rows: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], colours: Sequence[tuple[int, int, int]], path: Path
) -> None:
    """Show image, truth and prediction side by side, an example a row.

    Args:
        rows: image (S, S, 3) uint8, true and predicted class ids (S, S) uint8, 255 where ignored.
        colours: RGB of each class; class 0 is left as it is.
    """
    tiles = [[image, overlay(image, truth, colours), overlay(image, mask, colours)] for image, truth, mask in rows]
    write_grid(tiles, path, headings=("photo", "truth", "prediction"))


def confusion(matrix: np.ndarray, classes: Sequence[str], path: Path) -> None:
    """Draw a confusion matrix (K, K): each row is a true class and shows where its images went."""
    count, shares = len(classes), shares_of(matrix)
    side = min(20.0, 3 + 0.45 * count)
    names = [shortened(name) for name in classes]
    with _drawn(path, side + 1, side) as figure:
        axes = figure.add_subplot()
        image = axes.imshow(shares, vmin=0, vmax=1, cmap="Blues")
        figure.colorbar(image, label="share of the true class", shrink=0.8)
        small = 8 if count <= NUMBERED else 5
        axes.set_xticks(range(count), names, rotation=90, fontsize=small)
        axes.set_yticks(range(count), names, fontsize=small)
        axes.set(xlabel="predicted", ylabel="true")
        if count <= NUMBERED:
            for (row, column), number in np.ndenumerate(matrix):
                if number:
                    colour = "white" if shares[row, column] > 0.5 else "black"
                    axes.text(column, row, f"{number:,}", ha="center", va="center", fontsize=7, color=colour)


def shares_of(matrix: np.ndarray) -> np.ndarray:
    """A confusion matrix as shares of each true class, 0 where there is none of it."""
    shares: np.ndarray = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    return shares


def histograms(panels: Mapping[str, Mapping[str, np.ndarray]], path: Path) -> None:
    """Draw how the values (n,) of some sets are distributed, a panel a quantity, all of its sets in the same bins."""
    across = min(2, len(panels))
    down = -(-len(panels) // across)
    with _drawn(path, 4.8 * across, 3 * down) as figure:
        for number, (quantity, sets) in enumerate(panels.items(), start=1):
            axes = figure.add_subplot(down, across, number)
            low, high = np.percentile(np.concatenate(list(sets.values())), (0, 99.5))  # a few would squeeze the rest
            edges = np.linspace(low, max(high, low + 1e-6), 41)
            for name, values in sets.items():
                shares = np.histogram(values.clip(edges[0], edges[-1]), edges)[0] / len(values)
                axes.stairs(shares, edges, fill=True, alpha=0.4, label=f"{shortened(name)} ({len(values):,})")
            axes.set_title(quantity.replace("_", " "), fontsize=10)
            axes.set_ylabel("share", fontsize=8)
            axes.tick_params(labelsize=8)
            axes.legend(fontsize=7)


def scatter(panels: Mapping[str, np.ndarray], ids: np.ndarray, classes: Sequence[str], path: Path) -> None:
    """Show points of the plane in the colours of their classes, the panels side by side.

    Of more than 20 classes that occur, the 19 most frequent ones have a colour and the others are grey.

    Args:
        panels: (N, 2) points, by title; all of the same N things.
        ids: (N,) class of each.
        classes: names by id; empty where there are none.
    """
    with _drawn(path, 5.2 * len(panels), 5.2) as figure:
        if classes:
            names, places, colours = _frequent(ids, classes)
        size = float(np.clip(8_000 / len(ids), 4, 30))  # points², so that many do not cover each other
        for number, (title, points) in enumerate(panels.items(), start=1):
            axes = figure.add_subplot(1, len(panels), number)
            order = np.random.default_rng(0).permutation(len(points))  # else the last class covers the others
            if classes:
                axes.scatter(
                    points[order, 0], points[order, 1], s=size, c=colours[places[order]], linewidths=0, alpha=0.8
                )
            else:
                axes.scatter(points[:, 0], points[:, 1], s=size, linewidths=0, alpha=0.8)
            axes.set_title(title, fontsize=10)
            axes.set(xticks=[], yticks=[])
        if classes:
            handles = [axes.scatter([], [], s=30, color=colour) for colour in colours]
            figure.legend(handles, names, loc="outside lower center", ncols=min(6, len(names)), fontsize=8)


def _frequent(ids: np.ndarray, classes: Sequence[str]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """The classes that occur, in their order: names, the place (N,) of each thing among them, and colours (n, 4)."""
    from matplotlib import colormaps

    shades = colormaps["tab20"](np.arange(20))
    colours = np.concatenate([shades[::2], shades[1::2]])  # ten dark ones, which differ most, before ten light ones
    occurring, places, counts = np.unique(ids, return_inverse=True, return_counts=True)
    if len(occurring) <= len(colours):
        return [shortened(classes[number]) for number in occurring], places, colours[: len(occurring)]
    kept = np.sort(np.argsort(-counts, kind="stable")[: len(colours) - 1])
    renumbered = np.full(len(occurring), len(kept))
    renumbered[kept] = np.arange(len(kept))
    names = [*(shortened(classes[number]) for number in occurring[kept]), f"{len(occurring) - len(kept)} others"]
    grey, light_grey = 7, 17  # of no class, beside others that are grey
    colours[grey] = (0, 0, 0, 1)
    return names, renumbered[places], np.concatenate([np.delete(colours, light_grey, 0), colours[[light_grey]]])


def write_grid(tiles: Sequence[Sequence[np.ndarray]], path: Path, *, headings: Sequence[str] = ()) -> None:
    """Write rows of equally large RGB tiles as one PNG, small tiles enlarged, with a word above each column."""
    from PIL import Image, ImageDraw

    height, width = tiles[0][0].shape[:2]
    times = max(1, SMALLEST // width)
    height, width = times * height, times * width
    rows, columns = len(tiles), len(tiles[0])
    top = HEADING if headings else 0
    size = (columns * (width + GAP) - GAP, top + rows * (height + GAP) - GAP)
    grid = Image.new("RGB", size, "white")
    for i, row in enumerate(tiles):
        for j, tile in enumerate(row):
            enlarged = tile.repeat(times, axis=0).repeat(times, axis=1)
            grid.paste(Image.fromarray(enlarged), (j * (width + GAP), top + i * (height + GAP)))
    for j, word in enumerate(headings):
        ImageDraw.Draw(grid).text((j * (width + GAP), 1), word, fill="black")
    with replacing(path) as temporary:
        grid.save(temporary, format="PNG")


def contact_sheet(pictures: Sequence[np.ndarray], captions: Sequence[str], path: Path) -> None:
    """Write pictures (H, W, 3) uint8 RGB of any shape as one JPEG, five a row, each with a short line below it."""
    from PIL import Image, ImageDraw

    across, down = min(ACROSS, len(pictures)), -(-len(pictures) // ACROSS)
    cell = max(CELL, *(max(picture.shape[:2]) for picture in pictures))
    high = cell + HEADING
    sheet = Image.new("RGB", (across * (cell + GAP) - GAP, down * (high + GAP) - GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for number, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        left, top = number % ACROSS * (cell + GAP), number // ACROSS * (high + GAP)
        height, width = picture.shape[:2]
        sheet.paste(Image.fromarray(picture), (left + (cell - width) // 2, top + (cell - height) // 2))
        pen.text((left, top + cell + 1), caption, fill="black")
    with replacing(path) as temporary:
        sheet.save(temporary, format="JPEG", quality=90)


@contextmanager
def _drawn(path: Path, width: float, height: float) -> Iterator[Figure]:
    """A figure, which is written when the block ends."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"text.parse_math": False}), warnings.catch_warnings():  # a class may be called $x$
        warnings.filterwarnings("ignore", message=".*[Gg]lyph")  # a name may be of letters that the font lacks
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        with replacing(path) as temporary:
            figure.savefig(temporary, format="png", dpi=110)
