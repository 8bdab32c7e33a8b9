"""What few_labels.json says, as the rows of the tables in README.md and figures.md; a test holds them against these.

python -m tests.benchmarks.few_labels_table [RESULTS=tests/benchmarks/few_labels.json]
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.benchmarks.few_labels import ALL, COMPARISONS

SHARES = ("5 %", "20 %")
"""Of the masks: 25 and 101 of them."""
STARTS = {
    "scratch": ("none, ResNet-18", "none (ResNet-18)"),
    "scratch long": ("none, long", ""),
    "scratch unlabelled": ("none, `--unlabelled`", "none, and `--unlabelled` with 2,961 photos"),
    "simclr": ("SimCLR", "SimCLR on 2,944 photos, 60 epochs"),
    "simclr unlabelled": ("SimCLR, `--unlabelled`", "the same, and `--unlabelled`"),
    "dense": ("dense, its decoder too", ""),
    "distilled": (
        "distilled from Lite0, ResNet-18",
        "distilled from EfficientNet-Lite0 on these photos, 60 epochs",
    ),
    "distilled unlabelled": ("distilled, `--unlabelled`", "the same, and `--unlabelled`"),
    "lite0": ("ImageNet, EfficientNet-Lite0", "ImageNet (EfficientNet-Lite0)"),
    "lite0 long": ("ImageNet, long", ""),
    "continued": ("ImageNet, then SimCLR on these photos", "ImageNet, then SimCLR on these photos"),
    "lite0 unlabelled": ("ImageNet, `--unlabelled`", "ImageNet, and `--unlabelled` with 2,961 photos"),
}
"""What they are called in figures.md, and in README.md if they are there."""
SHORT = {
    "scratch": "none",
    "scratch long": "long",
    "lite0": "ImageNet",
    "lite0 long": "long",
    "simclr": "SimCLR",
    "distilled": "distilled",
}
"""What a difference is called by."""
Results = Mapping[str, Any]


def scores(results: Results, training: str) -> list[float]:
    """The IoU of each seed, in their order."""
    found = results.get(training, {})
    return [found[seed]["iou"] for seed in sorted(found)]


def in_figures(results: Results) -> list[str]:
    """A row a start: of each share the scores of all seeds, in hundredths, and the differences over all seeds."""
    return [
        row(name, *(cell for share in SHARES for cell in (_scores(results, start, share), _all(results, start, share))))
        for start, (name, _) in STARTS.items()
    ]


def in_readme(results: Results) -> list[str]:
    """A row a start: the mean over seeds of each share, the best one bold."""
    means = {
        start: [statistics.mean(found) if (found := scores(results, f"{start} {share}")) else 0 for share in SHARES]
        for start, (_, name) in STARTS.items()
        if name
    }
    best = [max(column) for column in zip(*means.values(), strict=True)]
    marked = {mean: f"**{mean:.2f}**" for mean in best} | {0: "-"}
    return [
        row(STARTS[start][1], *(marked.get(mean, f"{mean:.2f}") for mean in found)) for start, found in means.items()
    ]


def row(*cells: str) -> str:
    return " ".join(["|", *(f"{cell} |".lstrip() for cell in cells)])


def _scores(results: Results, start: str, share: str) -> str:
    return ", ".join(f"{100 * score:.1f}" for score in scores(results, f"{start} {share}"))


def _all(results: Results, start: str, share: str) -> str:
    training = f"{start} {share}"
    others = {other.removesuffix(f" {share}"): f"{training} - {other}" for other in COMPARISONS.get(training, ())}
    found = [f"to {SHORT[other]} {_difference(results[pair])}" for other, pair in others.items() if pair in results]
    return ", ".join(found)


def _difference(of_seeds: Mapping[str, Any]) -> str:
    found = of_seeds.get(ALL) or next(iter(of_seeds.values()))
    low, high = (100 * end for end in found["interval"])
    return f"{100 * found['value']:.1f} [{low:.1f}, {high:.1f}]"


def main(file: Path) -> None:
    results = json.loads(file.read_text())
    print("\n".join([*in_readme(results), "", *in_figures(results)]))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).with_name("few_labels.json"))
