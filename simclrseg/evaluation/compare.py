"""Several models side by side: one table, the best first, as numbers, words and Markdown."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from simclrseg.metrics.table import COMPARED
from simclrseg.scores.results import Estimate, Report
from simclrseg.scores.wording import duration, words, written

FACTS = ("pretrained", "data_ratio", "encoder", "pretraining_seconds", "finetuning_seconds")


def rows(report: Report) -> list[dict[str, Any]]:
    """The table as numbers, the best model first; ends of intervals as ``<metric>_low`` and ``_high``."""
    table = []
    for model in report.ranked:
        row: dict[str, Any] = {"name": model.name, **{name: model.facts.get(name) for name in FACTS}}
        differences = report.differences.get(model.name)
        for name in _columns(report):
            row |= model.metrics[name].columns(name)
        for name in _columns(report):
            column = f"{name}_difference"
            none = dict.fromkeys((column, f"{column}_low", f"{column}_high"))  # of the baseline
            row |= differences[name].columns(column) if differences else none
        table.append(row)
    return table


def cells(report: Report) -> tuple[list[dict[str, str]], set[tuple[int, str]]]:
    """The table as words, and the cells (row, column) that hold the best value of a metric."""
    columns, deciding = _columns(report), report.models[0].deciding
    highest = {name: np.fmax.reduce([model.metrics[name].value for model in report.models]) for name in columns}
    table, best = [], set()
    for number, model in enumerate(report.ranked):
        row = {"name": model.name, "pretrained": written(model.facts.get("pretrained"))}
        row["data ratio"] = written(model.facts.get("data_ratio"), ".4g")
        for name in columns:
            found = model.metrics[name]
            row[words(name)] = str(found) if name == deciding else written(found.value)
            if found.value == highest[name]:  # never where none has a value
                best.add((number, words(name)))
        differences = report.differences.get(model.name)
        row[f"{words(deciding)} over {report.baseline}"] = signed(differences[deciding]) if differences else "-"
        row["pretraining"] = duration(model.facts.get("pretraining_seconds"))
        row["fine-tuning"] = duration(model.facts.get("finetuning_seconds"))
        table.append(row)
    return table, best


def markdown(table: Sequence[Mapping[str, str]], best: Collection[tuple[int, str]]) -> str:
    """A table of words, the best cells between ``**``."""
    names = list(table[0])
    lines = [names, ["---"] * len(names)]
    for number, row in enumerate(table):
        texts = {name: text.replace("|", "\\|") for name, text in row.items()}
        lines.append([f"**{text}**" if (number, name) in best else text for name, text in texts.items()])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def signed(difference: Estimate) -> str:
    """``+0.0123 [+0.0012, +0.0240]``; a difference whose interval holds 0 is marked as one that may be chance."""
    if math.isnan(difference.value):
        return written(difference.value)
    if difference.interval is None:
        return f"{difference.value:+.4f}"
    low, high = difference.interval.low, difference.interval.high
    chance = " (may be chance)" if low <= 0 <= high else ""
    return f"{difference.value:+.4f} [{low:+.4f}, {high:+.4f}]{chance}"


def _columns(report: Report) -> list[str]:
    return [name for name in COMPARED if all(name in model.metrics for model in report.models)]
