"""``report.html`` of backbones: every figure before and after pretraining, what it means, and photos that convince."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from simclrseg.charts.html import Html, drawn, element
from simclrseg.evaluation.page import Part, all_images, cards, drawn_picture, page, picture, remark, section, table
from simclrseg.evaluation.probed import Probed, ProbedSeveral
from simclrseg.evaluation.report import ROWS
from simclrseg.evaluation.results import signed
from simclrseg.evaluation.scored import seconds_of
from simclrseg.images.resizing import resize_image
from simclrseg.methods.base import method_of
from simclrseg.runs.run import Run
from simclrseg.scores.gallery import viewable
from simclrseg.scores.wording import duration, words, written
from simclrseg.system.files import write_text
from simclrseg.training.curves import training_curves

ASKING = 4
"""Photos whose neighbours are shown."""
THUMBNAIL = 112
"""Longer side of their pictures, in pixels."""
THUMBNAIL_BYTES = 6_000
AUGMENTATIONS = "augmentations.png"


class Meaning(NamedTuple):
    """A figure in plain words: what it measures, and what is good."""

    measures: str
    good: str


MEANINGS = {
    "knn_accuracy": Meaning(
        "The 20 labelled photos that the network finds most similar vote on the class of a photo: the share of the "
        "photos that get their own. No classifier is trained.",
        "Higher is better; 1 is all of them",
    ),
    "linear_accuracy": Meaning(
        "The same share for the simplest classifier, one layer, trained on the features with the labels.",
        "Higher is better; 1 is all of them",
    ),
    "alignment": Meaning(
        "How far apart two randomly changed views of one photo are: their mean squared distance, from 0 to 4.",
        "Lower is better, while uniformity is low too: 0 for all photos would be a network that sees no difference "
        "between any. Views of unrelated photos spread evenly would have 2",
    ),
    "uniformity": Meaning(
        "How evenly different photos spread over the space of features.",
        "Lower is better: near -4 they spread evenly, near 0 all are one point, which is called collapse. Pretraining "
        "may raise it where it moves photos of a kind together",
    ),
    "effective_rank": Meaning(
        "How many dimensions the features use.",
        "Far above 1, which is collapse. More is not always better: the random features of an untrained network can "
        "have more dimensions, which say nothing of the classes",
    ),
}


def write_page(result: Probed | ProbedSeveral) -> None:
    """Write ``report.html`` into the folder of the result."""
    if isinstance(result, ProbedSeveral):
        first = result.backbones[0]
        title = f"Evaluation of {len(result.backbones)} backbones"
        parts = [_comparison(result)]
        for number, one in enumerate(result.backbones, start=1):
            found = [markup for *_, markup in _backbone(one, f"backbone{number}", level=3)]
            parts.append(section(one.name, f"backbone{number}", *found))
    else:
        first = result
        title = f"Evaluation of the backbone {result.name}"
        parts = _backbone(result, "backbone", level=2)
    parts.insert(1, section("What the figures mean", "meanings", _meanings(first)))
    images = f"{len(first.indices):,} photos of {first.dataset.name}"
    summary = f"What the features are good for before pretraining, with random weights, and after: on {images}"
    if first.split == "test":
        summary += ", its test split"
    write_text(result.folder / "report.html", page(title, f"{summary}.", parts))


def _comparison(several: ProbedSeveral) -> Part:
    """All backbones in one table, in the order in which they were named."""
    rows, best = several.table
    caption = "Each figure before and after pretraining; the highest accuracies are bold"
    names = [one.name for one in several.backbones]
    content = [remark(f"{line}.") for line in several.verdicts]
    content.append(table(rows, caption=caption, compared=True, strong=best))
    if several.differences:
        caption = f"Differences from {names[0]}, on {several.backbones[0].covered}"
        lines = [
            {"name": name} | {words(metric): signed(found) for metric, found in metrics.items()}
            for name, metrics in several.differences.items()
            if metrics
        ]
        if lines:
            content.append(table(lines, caption=caption, compared=True))
            content.append(remark("Where an interval holds 0, the difference may be chance."))
    return section("Comparison", "comparison", *content)


def _backbone(one: Probed, identifier: str, *, level: int) -> list[Part]:
    """The findings of one backbone; the identifier begins all ids of these parts."""
    found: list[tuple[str, str, list[Html]]] = [("Before and after", "results", _numbers(one))]
    if neighbours := _neighbours(one):
        found.append(("Nearest photos", "neighbours", neighbours))
    if one.embedding:
        alt = f"Features of {one.name} as points, before and after pretraining"
        shown = drawn_picture(one.embedding.picture, alt=alt)
        note = remark("Each point is a photo, in the colour of its class. Classes that lie apart can be told apart.")
        found.append(("Features", "embedding", [note, shown]))
    found.append(("How it was trained", "training", _training(one, identifier)))
    if one.table:
        found.append(("All photos", "images", _images(one)))
    return [section(title, f"{identifier}-{key}", *content, level=level) for title, key, content in found]


def _numbers(one: Probed) -> list[Html]:
    """Each figure before and after, large and in a table."""
    both = ((name, written(found.value), written(one.before[name].value)) for name, found in one.metrics.items())
    content = [cards((words(name), after, f"{before} before") for name, after, before in both)]
    content += [remark(f"{line}.") for line in one.verdicts]
    content += [remark(f"Doubt: {doubt}.") for doubt in one.doubts]
    return [*content, table(one.rows(), caption=f"All figures, on {one.covered}", compared=True)]


def _meanings(one: Probed) -> Html:
    """Every figure in plain words."""
    terms = []
    for name in one.metrics:
        meaning = MEANINGS[name]
        good = meaning.good
        if name in one.hits:
            good += f"; the most frequent class alone would give {_most_frequent(one):.4f}"
        terms += [
            element("dt", words(name)),
            element("dd", meaning.measures, " ", element("strong", f"{good}.")),
        ]
    return element("dl", *terms, class_="meanings")


def _most_frequent(one: Probed) -> float:
    """Share of the photos that have the most frequent class."""
    _, counts = np.unique([row["true"] for row in one.table], return_counts=True)
    return float(counts.max() / counts.sum())


def _neighbours(one: Probed) -> list[Html]:
    """Some photos with those that are nearest to them, before and after."""
    if not one.neighbours[0].places.size:
        return []
    dataset, labels = one.dataset, one.dataset.labels if one.hits else None
    count = one.neighbours[0].places.shape[1]
    if labels is None:
        asking = [place * len(one.indices) // ASKING for place in range(min(ASKING, len(one.indices)))]
        chosen = "some photos, evenly taken, not chosen by hand"
    else:
        first: dict[int, int] = {}
        for place, index in enumerate(one.indices):
            first.setdefault(int(labels[index]), place)
        asking = [first[label] for label in sorted(first)][:ASKING]
        chosen = "the first test photo of each class, not chosen by hand"
    note = f"For {chosen}: the {count} photos that its features are most like. "
    if labels is not None:
        note = note.replace("photos that its", "training photos that its")
        alike = [side.alike for side in one.neighbours]
        note += f"Over all {len(one.indices):,} photos, {alike[0]} of these had the class of the photo before, and "
        note += f"{alike[1]} after."
    examples = []
    for place in asking:
        index = one.indices[place]
        name = dataset.label_names[labels[index]] if labels is not None else ""
        query = element("figure", _thumbnail(one, index), element("figcaption", name or "the photo"))
        rows = []
        for learned, side in zip(("before", "after"), one.neighbours, strict=True):
            tiles = [_neighbour(one, int(other), like=index) for other in side.places[place]]
            rows.append(element("div", element("p", learned), element("div", *tiles, class_="row")))
        caption = element("figcaption", element("strong", dataset.keys[index]))
        shown = element("div", query, element("div", *rows, class_="rows"), class_="nearest")
        examples.append(element("figure", caption, shown, class_="example"))
    return [remark(note), *examples]


def _neighbour(one: Probed, index: int, *, like: int) -> Html:
    """A photo beside one that it should be like."""
    shown = _thumbnail(one, index)
    labels = one.dataset.labels if one.hits else None
    if labels is None:
        return element("figure", shown)
    same = labels[index] == labels[like]
    text = f"{'✓' if same else '✗'} {one.dataset.label_names[labels[index]]}"
    return element("figure", shown, element("figcaption", text), class_="same" if same else "other")


def _thumbnail(one: Probed, index: int) -> Html:
    rgb = viewable(one.dataset.image(index), one.dataset.bands, one.dataset.blank(index))
    height, width = rgb.shape[:2]
    scale = THUMBNAIL / max(height, width)
    if scale < 1:
        rgb = resize_image(rgb, (max(1, round(height * scale)), max(1, round(width * scale))))
    return picture(rgb, alt=one.dataset.keys[index], limit=THUMBNAIL_BYTES)


def _training(one: Probed, identifier: str) -> list[Html]:
    """How the backbone was made: its recipe, its curves, and what it saw."""
    found, metadata = one.backbone, one.backbone.metadata
    facts = {
        "method": metadata.method,
        "encoder": metadata.encoder,
        "photos": metadata.dataset,
        "image size": f"{metadata.image_size} px",
        "epochs": metadata.epochs,
        "started from": metadata.pretrained or "random weights",
    }
    if found.config:
        batch_size = Run(found.path).environment.get("batch_size", found.config.training.batch_size)
        facts |= {"batch size": batch_size, "seed": found.config.run.seed}
        facts["time"] = duration(seconds_of(found.path))
    rows = [{"fact": name, "value": written(value)} for name, value in facts.items() if value not in (None, "")]
    content = [table(rows, caption="The recipe")]
    metrics, augmentations = found.file.parent / "metrics.csv", found.file.parent / AUGMENTATIONS
    if found.config and metrics.is_file() and (charts := training_curves(metrics, metadata.without_learning)):
        content.append(drawn(charts, f"{identifier}-curves"))
    if found.config and augmentations.is_file():
        note = f"What the network saw: {method_of(found.config.method).SHOWN}."
        alt = f"Views of photos that {one.name} was trained with"
        content += [remark(note), drawn_picture(augmentations, alt=alt)]
    return content


def _images(one: Probed) -> list[Html]:
    """What was said of every photo, those that are wrong after pretraining first."""
    ways = list(one.hits)
    order = sorted(range(len(one.table)), key=lambda row: sum(one.hits[name][row] for name in ways))
    titles = {name.removesuffix("_accuracy"): words(name) for name in ways}
    rows = []
    for row in order[:ROWS]:
        cells = one.table[row]
        shown = {"photo": cells["image"], "true": cells["true"]}
        for name, title in titles.items():
            shown |= {f"{title}, before": cells[f"{name}_untrained"], f"{title}, after": cells[name]}
        rows.append(shown)
    return all_images(rows, len(order) - len(rows), caption="The class that each photo got, wrong ones first")
