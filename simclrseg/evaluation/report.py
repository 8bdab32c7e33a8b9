"""``report.html``: what an evaluation found, on one page that opens anywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from simclrseg.charts.html import Html, drawn, element, joined
from simclrseg.charts.plots import NUMBERED, shares_of
from simclrseg.evaluation.graphs import calibration_charts, ratio_charts, threshold_charts, training_charts
from simclrseg.evaluation.page import (
    PICTURE_BYTES,
    Part,
    all_images,
    cards,
    drawn_picture,
    page,
    picture,
    remark,
    scrolled,
    section,
    table,
)
from simclrseg.evaluation.results import Evaluated, Report
from simclrseg.scores.doubts import coverage
from simclrseg.scores.gallery import ALARM, MISSED, MIXED, SIDE, worst_and_best, write_worst
from simclrseg.scores.intervals import Interval
from simclrseg.scores.results import Estimate, Example
from simclrseg.scores.wording import duration, fact, words, written
from simclrseg.system.files import write_text

CARDS = 4
"""Metrics that are printed large."""
SHOWN = 4
"""Models, the best ones, whose images are shown: with 9 images of 4 pictures each this bounds the size of the page."""
ROWS = 5_000
"""Images that the table has room for, the worst; ``per_image.csv`` has them all."""
UPRIGHT = 4
"""Classes whose names stand side by side over a confusion matrix; those of more are turned."""
ENDS = ("_low", "_high")
"""Columns of the ends of intervals end so."""

_CAPTIONS = {"ood": "Out of distribution: higher scores mean less like the training photos", "embedding": "Features"}


def write_report(report: Report) -> None:
    """Write ``report.html`` and the pictures in ``worst/`` into the folder of the report."""
    first = report.ranked[0]
    images = f"{len(first.scores.keys):,} {'photo' if len(first.scores.keys) == 1 else 'photos'}"
    several = len(report.models) > 1
    title = f"Evaluation of {len(report.models)} models" if several else f"Evaluation of {first.name}"
    summary = f"{first.target.TASK.capitalize()}, scored on {images} of {first.dataset.name}, {first.split} split."
    parts = [_comparison(report)] if several else []
    for number, model in enumerate(report.ranked, start=1):
        folder = report.folder / "worst" / (f"model-{number}" if several else "")
        found = _model(model, f"model{number}", folder if number <= SHOWN else None, level=3 if several else 2)
        parts += [section(model.name, f"model{number}", *(markup for *_, markup in found))] if several else found
    if charts := training_charts(report):
        parts.append(section("Training", "training", drawn(charts, "training-charts")))
    parts.append(_images(report))
    write_text(report.folder / "report.html", page(title, summary, parts))


def _comparison(report: Report) -> Part:
    """All models in one table, the best first."""
    rows, best = report.table
    deciding = words(report.models[0].deciding)
    caption = f"Models by {deciding}, with {report.coverage}; the best of a column is bold"
    note = (
        f"“{deciding} over {report.baseline}” is the difference on the same images, drawn together: where its "
        "interval holds 0 it may be chance."
    )
    content = [*(remark(f"{line}.") for line in report.verdicts)]
    if report.groups:
        caption_of_recipes = "Recipes, each the mean ± standard deviation over its seeds"
        content.append(table(report.recipes, caption=caption_of_recipes, compared=True))
    content += [table(rows, caption=caption, compared=True, strong=best), remark(note)]
    if charts := ratio_charts(report):
        content.append(drawn(charts, "ratio"))
    return section("Comparison", "comparison", *content)


def _model(model: Evaluated, identifier: str, folder: Path | None, *, level: int) -> list[Part]:
    """The findings of one model.

    Args:
        identifier: begins all ids of these parts.
        folder: of pictures of its worst images; None to show no images and charts of it.
    """
    found = [("Results", "results", _numbers(model))]
    if folder:
        thresholds = threshold_charts(model)
        if charts := [*calibration_charts(model), *thresholds]:
            title = "Confidence and threshold" if thresholds else "Confidence"
            found.append((title, "confidence", [drawn(charts, f"{identifier}-charts")]))
    found.append(("Classes", "classes", _classes(model)))
    if folder:
        for name, finding in model.findings.items():
            if finding.picture:
                title = _CAPTIONS[name].partition(":")[0]
                found.append((title, name, [drawn_picture(finding.picture, alt=f"{title} of {model.name}")]))
        found += _gallery(model, folder)
    return [section(title, f"{identifier}-{key}", *content, level=level) for title, key, content in found]


def _numbers(model: Evaluated) -> list[Html]:
    """The headline and everything beside it."""
    metrics = {name: found for name, found in model.metrics.items() if name != "dice"}  # the same as F1
    large = list(metrics.items())[:CARDS]
    rows = []
    for name, found in metrics.items():
        row = {"metric": words(name), f"over all {model.scores.UNIT}": found.value}
        row |= {"without learning": model.scores.without_learning.get(name), "95 % interval": found.interval}
        if model.means:
            mean = model.means[name]
            row |= {"mean over images": mean.value, "its 95 % interval": mean.interval}
        rows.append(row)
    content = []
    known = {**_flat(model.origin), **_flat(model.notes)}
    for seconds in ("pretraining_seconds", "finetuning_seconds"):
        if seconds in known:
            known[seconds.replace("_seconds", "_time")] = duration(known.pop(seconds))
    if known:
        content.append(table(_fact_rows(known), caption="The model and how it was scored"))
    for name, finding in model.findings.items():
        facts = finding.facts()
        several = facts and all(isinstance(value, dict) for value in facts.values())  # a list would be long
        if lines := _ranges(finding.rows()) if several else _fact_rows(_flat(facts)):
            content.append(table(lines, caption=_CAPTIONS.get(name, words(name).capitalize())))
    numbers = [
        cards((words(name), written(found.value), str(found.interval or "no interval")) for name, found in large),
        *(remark(f"Doubt: {doubt}.") for doubt in model.doubts),
        table(rows, caption=f"All metrics, with {coverage(len(model.scores.keys), model.split)}"),
        element("div", *content, class_="beside"),
    ]
    if skipped := model.scores.skipped:
        numbers.append(remark(f"{len(skipped)} could not be read: {skipped[0]}"))
    return numbers


def _fact_rows(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    known = {name: value for name, value in facts.items() if value is not None}
    return [{"fact": fact(name), "value": written(value, ".4g")} for name, value in known.items()]


def _flat(facts: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested facts by their keys with spaces between; lists, which have files of their own, where they are short."""
    found: dict[str, Any] = {}
    for name, value in facts.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{before}{name} ")
        elif not isinstance(value, list | tuple):
            found[f"{before}{name}"] = value
        elif len(value) <= 3 and not any(isinstance(item, dict) for item in value):
            found[f"{before}{name}"] = " to ".join(written(item, ".4g") for item in value)
    return found


def _ranges(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows with each estimate and the ends of its interval in one cell."""
    found = []
    for row in rows:
        cells = {}
        for name, value in row.items():
            if not name.endswith(ENDS):
                low, high = (row.get(name + end) for end in ENDS)
                cells[words(name)] = value if low is None or high is None else Estimate(value, Interval(low, high))
        found.append(cells)
    return found


def _classes(model: Evaluated) -> list[Html]:
    """Every class, and which is taken for which."""
    names, matrix, unit = model.metadata.classes, model.scores.confusion, model.scores.UNIT
    rows = [{words(key): value for key, value in row.items() if not key.endswith(ENDS)} for row in model.per_class]
    content = [table(rows, caption="Metrics of each class", sortable=True)] if rows else []
    shares = shares_of(matrix)
    if len(names) > NUMBERED:
        wrong = shares * (1 - np.eye(len(names)))
        pairs = np.dstack(np.unravel_index(np.argsort(-wrong, axis=None)[:NUMBERED], wrong.shape))[0]
        confused = [
            {
                "true": names[i],
                "predicted": names[j],
                unit: int(matrix[i, j]),
                "share of the true class": float(shares[i, j]),
            }
            for i, j in pairs
            if matrix[i, j]
        ]
        if confused:
            content.append(table(confused, caption="Classes that are confused most", sortable=True))
        return content
    lines = []
    for name, row, counts in zip(names, shares, matrix, strict=True):
        cells = [
            element("td", f"{share:.1%}", element("small", f"{int(count):,}"), style=f"--share:{share:.3f}")
            for share, count in zip(row, counts, strict=True)
        ]
        lines.append(element("tr", element("th", name, scope="row"), *cells))
    caption = f"Confusion: each row is a true class and shows as what its {unit} were predicted"
    head = element("tr", element("td"), *(element("th", name, scope="col") for name in names))
    whole = element(
        "table",
        element("caption", element("span", caption)),
        element("thead", head),
        element("tbody", *lines),
        class_="confusion" if len(names) <= UPRIGHT else "confusion upturned",
    )
    return [*content, scrolled(whole, label=caption)]


def _gallery(model: Evaluated, folder: Path) -> list[tuple[str, str, list[Html]]]:
    """The images at both ends; the worst are also written to a folder."""
    worst, best = worst_and_best(model.scores, model.dataset, model.predict)
    write_worst(worst, folder)
    several = any(len(example.pictures) > 1 for example in (*worst, *best))  # else images alone, without errors
    legend = []
    if several:
        kinds = ((MISSED, "missed"), (ALARM, "found where there is nothing"), (MIXED, "another class"))
        keys = [
            joined([element("span", "", class_="key", style=f"background:rgb{colour}"), f" {text}  "])
            for colour, text in kinds[: 2 if len(model.metadata.classes) == 2 else 3]
        ]
        legend = [remark("Errors: ", *keys)]
    size = remark(f"Pictures are at most {SIDE} pixels and {PICTURE_BYTES // 1000} kB each.")
    parts = []
    for title, key, examples in (("Worst images", "worst", worst), ("Best images", "best", best)):
        if examples:
            shown = element("div", *map(_example, examples), class_=None if several else "photos")
            parts.append((title, key, [*legend, shown, size]))
    return parts


def _example(example: Example) -> Html:
    several = len(example.pictures) > 1
    tiles = []
    for title, rgb in example.pictures:
        tile = picture(rgb, alt=f"{title} of {example.key}")
        tiles.append(element("figure", tile, element("figcaption", title)) if several else tile)
    caption = element("figcaption", element("strong", example.key), f", {example.text}")
    shown = element("div", *tiles, class_="tiles")
    return element("figure", *((caption, shown) if several else (shown, caption)), class_="example")


def _images(report: Report) -> Part:
    """Every image in a table that can be sorted, the worst first; of several models with the answer of each."""
    first = report.ranked[0]
    tables = {model.name: model.scores.rows() for model in report.ranked}
    images = tables[first.name]
    bad, good = first.scores.bad_and_good()
    order = [*bad, *good]
    order += sorted(set(range(len(images))) - set(order))  # what has no value comes last
    if len(report.models) == 1:
        rows = [{words(name): value for name, value in images[row].items()} for row in order[:ROWS]]
        caption = "All images, the worst first"
    else:
        column = first.deciding if first.deciding in images[0] else "predicted"
        caption = f"{words(column)} of all images, the worst of {first.name} first"
        rows = []
        for row in order[:ROWS]:
            cells = {name: value for name, value in images[row].items() if name in ("image", "true")}
            cells |= {f"{name} {words(column)}": found[row][column] for name, found in tables.items()}
            rows.append(cells)
    shown = all_images(rows, len(order) - len(rows), caption=caption, compared=len(report.models) > 1)
    return section("All images", "images", *shown)
