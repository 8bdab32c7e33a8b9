"""The pictures that a run leaves: curves, what the network sees, what it answers."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from simclrseg.images.colours import overlay
from simclrseg.system.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BASELINES = ("chance", "mean_fill")  # losses of networks that know nothing
GAP = 4  # pixels between tiles
SMALLEST = 96  # side of a tile that is worth looking at
HEADING = 14  # height of a line of text
STRETCH = (1, 99)  # percentiles of the values that become black and white
NUMBERED = 30  # classes up to which a confusion matrix has room for its numbers


def curves(metrics: Path, path: Path) -> None:
    """Draw a run's ``metrics.csv`` over its epochs: a panel a quantity, training and validation in the same one.

    Args:
        metrics: one row an epoch; columns ``train_<name>`` and ``val_<name>``, empty cells are left out.
        path: the PNG to write.
    """
    from matplotlib.figure import Figure

    with open(metrics, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = dict.fromkeys(
        name.partition("_")[2] for row in rows[:1] for name in row if name.startswith(("train_", "val_"))
    )
    for name in BASELINES:
        names.pop(name, None)  # a line in the panel of the loss
    names.pop("dice", None)  # the same number as f1
    across = min(3, max(1, len(names)))
    down = max(1, -(-len(names) // across))
    figure = Figure(figsize=(4.2 * across, 2.8 * down), layout="constrained")
    for number, name in enumerate(names, start=1):
        axes = figure.add_subplot(down, across, number)
        lines = {"training": f"train_{name}", "validation": f"val_{name}"}
        if name == "loss":
            lines |= {name.replace("_", " "): f"train_{name}" for name in BASELINES}
        for label, column in lines.items():
            points = [(int(row["epoch"]), float(row[column])) for row in rows if row.get(column)]
            if points:
                style = ":" if column.removeprefix("train_") in BASELINES else "-"
                sparse = len(points) == 1 or len(points) < len(rows)  # some scores come every few epochs only
                axes.plot(*zip(*points, strict=True), style, marker="." if sparse else "", label=label)
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("epoch", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.locator_params(axis="x", integer=True)
        if len(rows) > 1:
            axes.set_xlim(int(rows[0]["epoch"]) - 0.5, int(rows[-1]["epoch"]) + 0.5)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    _save(figure, path)


def viewable(images: np.ndarray, colours: Sequence[int]) -> np.ndarray:
    """Pictures of any bands as RGB: photos as they are, others stretched over their own range.

    Args:
        images: (..., bands) uint8 or uint16.
        colours: where red, green and blue stand; nothing where there are none, and the first three are shown.

    Returns:
        (..., 3) uint8.
    """
    if images.shape[-1] == 3 and images.dtype == np.uint8:
        return images
    shown = images[..., list(colours) or [min(band, images.shape[-1] - 1) for band in range(3)]].astype(np.float32)
    low, high = np.percentile(shown, STRETCH)
    stretched: np.ndarray = (shown - low) * (255 / max(high - low, 1))
    return stretched.clip(0, 255).astype(np.uint8)


def views(pairs: np.ndarray, path: Path) -> None:
    """Show pairs of augmented views, a pair a column.

    Args:
        pairs: (n, 2, S, S, 3) uint8 RGB.
        path: the PNG to write.
    """
    write_grid([list(pairs[:, view]) for view in range(pairs.shape[1])], path)


def examples(
    rows: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]],
    colours: Sequence[tuple[int, int, int]],
    path: Path,
) -> None:
    """Show photo, truth and prediction side by side, an example a row.

    Args:
        rows: photo (S, S, 3) uint8, true and predicted class ids (S, S) uint8, 255 where ignored.
        colours: RGB of each class; class 0 is left as it is.
        path: the PNG to write.
    """
    tiles = [[photo, overlay(photo, truth, colours), overlay(photo, mask, colours)] for photo, truth, mask in rows]
    write_grid(tiles, path, headings=("photo", "truth", "prediction"))


def confusion(matrix: np.ndarray, classes: Sequence[str], path: Path) -> None:
    """Draw a confusion matrix: each row is a true class and shows where its photos went.

    Args:
        matrix: (K, K) photos by true class (row) and predicted class (column).
        classes: their names.
        path: the PNG to write.
    """
    from matplotlib.figure import Figure

    count = len(classes)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = min(20.0, 3 + 0.45 * count)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    figure.colorbar(image, label="share of the true class", shrink=0.8)
    small = 8 if count <= NUMBERED else 5
    axes.set_xticks(range(count), classes, rotation=90, fontsize=small)
    axes.set_yticks(range(count), classes, fontsize=small)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if count <= NUMBERED:
        for (row, column), number in np.ndenumerate(matrix):
            if number:
                colour = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, f"{number:,}", ha="center", va="center", fontsize=7, color=colour)
    _save(figure, path)


def shortened(label: str, *, most: int = 32) -> str:
    """A name for a legend; of a long one, such as a path, the end, so that the legend does not crowd out the plot."""
    return label if len(label) <= most else f"…{label[1 - most :]}"


def over_ratio(lines: Mapping[str, Sequence[tuple[float, float, float, float]]], metric: str, path: Path) -> None:
    """Draw a metric over the share of the photos that was learned from, a line a pretraining, with its intervals.

    Args:
        lines: by label, (share, value, low, high) by rising share; several of one share, as of several seeds, are
            joined by their mean.
        metric: its name.
        path: the PNG to write.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    for number, (label, points) in enumerate(lines.items()):
        ratios, values, low, high = np.array(points).T
        shares = np.unique(ratios)
        axes.plot(
            shares, [values[ratios == share].mean() for share in shares], color=f"C{number}", label=shortened(label)
        )
        ends = np.maximum([values - low, high - values], 0)  # an interval need not hold its value
        axes.errorbar(ratios, values, ends, fmt="o", markersize=4, color=f"C{number}", capsize=3, alpha=0.7)
    axes.set_xlabel("share of the development photos")
    axes.set_ylabel(f"{metric.replace('_', ' ')}, with 95 % intervals over images")
    axes.grid(alpha=0.3)
    axes.legend(title="pretraining", fontsize=8)
    _save(figure, path)


def reliability(
    bins: np.ndarray, risk_coverage: tuple[np.ndarray, np.ndarray], path: Path, *, ece: float, unit: str
) -> None:
    """Draw the reliability diagram, with the share of the predictions in each bin below it, and risk over coverage.

    Args:
        bins: (B, 3) mean confidence, accuracy and number of predictions of equal bins of the confidence in (0, 1].
        risk_coverage: coverage and risk, (n,) each.
        path: the PNG to write.
        ece: expected calibration error, for the title.
        unit: what is predicted, as "pixels".
    """
    from matplotlib.figure import Figure

    count = len(bins)
    edges = np.arange(count) / count
    confidence, accuracy, number = bins.T
    used = number > 0
    figure = Figure(figsize=(9.5, 4.6), layout="constrained")
    grid = figure.add_gridspec(2, 2, height_ratios=(3, 1))
    axes = figure.add_subplot(grid[0, 0])
    axes.bar(edges[used], accuracy[used], width=1 / count, align="edge", edgecolor="white", label="accuracy")
    axes.plot(confidence[used], accuracy[used], "o", color="black", markersize=3, label="at mean confidence")
    axes.plot([0, 1], [0, 1], "--", color="grey", label="calibrated")
    axes.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy", title=f"reliability, ECE {ece:.4f}")
    axes.legend(fontsize=7, loc="upper left")
    below = figure.add_subplot(grid[1, 0], sharex=axes)
    below.bar(edges, number / max(number.sum(), 1), width=1 / count, align="edge", edgecolor="white", color="grey")
    below.set(xlabel="confidence", ylabel=f"share of {unit}")
    right = figure.add_subplot(grid[:, 1])
    right.plot(*risk_coverage)
    right.set(xlim=(0, 1), xlabel="coverage: share that is kept, the surest first", ylabel="risk: share of it wrong")
    right.set_ylim(bottom=0)
    right.set_title("risk and coverage")
    right.grid(alpha=0.3)
    _save(figure, path)


def histograms(panels: Mapping[str, Mapping[str, np.ndarray]], path: Path) -> None:
    """Draw how values are distributed, a panel a quantity, all of its sets in the same bins.

    Args:
        panels: by quantity, the values (n,) of each set.
        path: the PNG to write.
    """
    from matplotlib.figure import Figure

    across = min(2, len(panels))
    down = -(-len(panels) // across)
    figure = Figure(figsize=(4.8 * across, 3 * down), layout="constrained")
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
    _save(figure, path)


def scatter(panels: Mapping[str, np.ndarray], ids: np.ndarray, classes: Sequence[str], path: Path) -> None:
    """Show points of the plane in the colours of their classes, the panels side by side.

    Of more than 20 classes that occur, the 19 most frequent ones have a colour and the others are grey.

    Args:
        panels: (N, 2) points, by title; all of the same N things.
        ids: (N,) class of each.
        classes: their names, by id; empty where there are none.
        path: the PNG to write.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2 * len(panels), 5.2), layout="constrained")
    names, places, colours = _frequent(ids, classes)
    size = float(np.clip(8_000 / len(ids), 4, 30))  # points², so that many do not cover each other
    for number, (title, points) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(1, len(panels), number)
        order = np.random.default_rng(0).permutation(len(points))  # else the last class covers the others
        if classes:
            axes.scatter(points[order, 0], points[order, 1], s=size, c=colours[places[order]], linewidths=0, alpha=0.8)
        else:
            axes.scatter(points[:, 0], points[:, 1], s=size, linewidths=0, alpha=0.8)
        axes.set_title(title, fontsize=10)
        axes.set_xticks([])
        axes.set_yticks([])
    if classes:
        handles = [axes.scatter([], [], s=30, color=colour) for colour in colours]
        figure.legend(handles, names, loc="outside lower center", ncols=min(6, len(names)), fontsize=8)
    _save(figure, path)


def _frequent(ids: np.ndarray, classes: Sequence[str]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """The classes that occur, in their order: names, the place (N,) of each thing among them, and colours (n, 4).

    Of more than 20 the 19 most frequent ones have a colour, and the others are the last together, in grey.
    """
    from matplotlib import colormaps

    shades = colormaps["tab20"](np.arange(20))
    colours = np.concatenate([shades[::2], shades[1::2]])  # ten dark ones, which differ most, before ten light ones
    if not classes:
        return [], ids, colours
    occurring, places, counts = np.unique(ids, return_inverse=True, return_counts=True)
    if len(occurring) <= len(colours):
        return [classes[number] for number in occurring], places, colours[: len(occurring)]
    kept = np.sort(np.argsort(-counts, kind="stable")[: len(colours) - 1])
    renumbered = np.full(len(occurring), len(kept))
    renumbered[kept] = np.arange(len(kept))
    names = [*(classes[number] for number in occurring[kept]), f"{len(occurring) - len(kept)} others"]
    grey, light_grey = 7, 17  # of no class, beside others that are grey
    colours[grey] = (0, 0, 0, 1)
    return names, renumbered[places], np.concatenate([np.delete(colours, light_grey, 0), colours[[light_grey]]])


def write_grid(tiles: Sequence[Sequence[np.ndarray]], path: Path, *, headings: Sequence[str] = ()) -> None:
    """Write rows of equally large RGB tiles as one PNG, small tiles enlarged.

    Args:
        headings: a word above each column.
    """
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


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
