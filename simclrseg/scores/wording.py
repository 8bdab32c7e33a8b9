"""How tables and pages write names, numbers and spans of time."""

from __future__ import annotations

import math
from typing import Any

from simclrseg.metrics.table import METRICS

_WORDS = {
    "ce": "cross entropy",
    "ece": "ECE",
    "brier": "Brier score",
    "aurc": "AURC",
    "auroc": "AUROC",
    "aupr": "AUPR",
    "fpr95": "FPR at 95 % TPR",
    "level": "per",
    "knn_accuracy": "k-NN accuracy",
    "linear_accuracy": "linear probe",
}

_FACTS = {
    "n": "number",
    "unit": "what is counted",
    "unlabelled": "unlabelled photos",
    "empty_masks": "photos without foreground",
    "empty": "score of such a photo where nothing is found",
    "best_threshold threshold": "best threshold on validation photos",
    "best_threshold validation_photos": "photos that chose it",
    "best_threshold iou value": "IoU at the best threshold",
    "best_threshold iou interval": "its 95 % interval",
}
"""Names of facts by the keys that lead to them."""


def fact(keys: str) -> str:
    """The name of a fact as people write it, from the keys that lead to it, with spaces between."""
    return _FACTS.get(keys) or " ".join(map(words, keys.split(" ")))


def words(name: str) -> str:
    """A name as people write it."""
    return METRICS[name].title if name in METRICS else _WORDS.get(name, name.replace("_", " "))


def written(value: Any, digits: str = ".4f") -> str:
    """A value as people write it; - where there is none. Floats of facts that are no scores have the digits ``.4g``."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:{digits}}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def duration(seconds: float | None) -> str:
    """``2 h 05 min``, ``3 min 20 s``, ``12 s``; - where not known."""
    if seconds is None:
        return "-"
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"
