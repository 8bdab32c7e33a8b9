"""The charts of a report: how sure a model is and how right, its threshold, its training, and models over data."""

from __future__ import annotations

import math

import numpy as np

from simclrseg.charts.chart import Chart, Line, points_of, read_table
from simclrseg.evaluation.results import Evaluated, Report
from simclrseg.scores.wording import words, written
from simclrseg.targets.segment.scores import best_threshold

POINTS = 200
"""Points that a curve is drawn with at most."""


def calibration_charts(model: Evaluated) -> list[Chart]:
    """Reliability, and risk over coverage, where confidences were counted."""
    confidences, unit = model.scores.confidences, model.scores.UNIT
    if not confidences.number.sum():
        return []
    number, accuracy = confidences.number, confidences.mean(confidences.right)
    used = number > 0
    width = 1 / len(used)
    middles = ((np.arange(len(used)) + 0.5) * width)[used].tolist()
    coverage, risk = confidences.risk_coverage()
    some = np.unique(np.searchsorted(coverage, np.arange(1, POINTS + 1) / POINTS))
    return [
        Chart(
            f"Reliability, ECE {confidences.ece:.4f}",
            "confidence",
            "share that is right",
            [Line("share that is right", middles, accuracy[used].tolist())],
            f"Bars on the dotted line would be perfectly calibrated. Expected calibration error {confidences.ece:.4f}, "
            f"Brier score {confidences.brier:.4f}, over {int(number.sum()):,} {unit}.",
            columns=width * 0.92,
            diagonal=True,
            share=True,
        ),
        Chart(
            "Confidences",
            "confidence",
            f"share of the {unit}",
            [Line(f"share of the {unit}", middles, (number[used] / number.sum()).tolist())],
            f"How sure the model was: the same bins, and the share of the {unit} that is in each.",
            columns=width * 0.92,
            share=True,
        ),
        Chart(
            "Risk and coverage",
            f"share of the {unit} kept, the surest first",
            "share of these that is wrong",
            [Line("risk", coverage[some].tolist(), risk[some].tolist())],
            f"Of all {unit} {risk[-1]:.4f} are wrong; area under the curve {confidences.aurc:.4f}, lower is better.",
        ),
    ]


def threshold_charts(model: Evaluated) -> list[Chart]:
    """IoU, precision and recall over the threshold, where there is a foreground that has one."""
    if model.metadata.threshold is None or (best := best_threshold(model.scores)) is None:
        return []
    sweep = model.scores.sweep()
    x = sweep["threshold"].tolist()
    lines = [Line(words(name), x, sweep[name].tolist()) for name in ("iou", "precision", "recall")]
    return [
        Chart(
            "Threshold",
            "probability above which a pixel is foreground",
            "over all pixels",
            lines,
            f"The numbers above are at {model.metadata.threshold:g}. On these images IoU is highest, "
            f"{sweep['iou'].max():.4f}, at {best:g}; one has to be chosen on validation images, not on these.",
            share=True,
        )
    ]


def ratio_charts(report: Report) -> list[Chart]:
    """The deciding metric over the share of the images that was trained on, where there are several shares.

    Models that differ by their seed are one point, their mean.
    """
    found: dict[str, list[tuple[float, float, float, float]]] = {}  # by start: share, value and its interval
    encoders = {model.origin.get("encoder") for model in report.models}
    deciding = report.models[0].deciding
    scored = [(group.models[0], group.metrics[deciding]) for group in report.groups]
    for model, metric in scored or [(model, model.metrics[deciding]) for model in report.models]:
        share = model.origin.get("data_ratio")
        if share is None or math.isnan(metric.value):
            continue
        label = written(model.origin.get("pretrained"))
        label += f", {model.origin.get('encoder')}" if len(encoders) > 1 else ""
        label += ", with unlabelled" if model.origin.get("unlabelled") else ""
        ends = (metric.interval.low, metric.interval.high) if metric.interval else (metric.value, metric.value)
        found.setdefault(label, []).append((share, metric.value, *ends))
    if len({share for points in found.values() for share, *_ in points}) < 2:
        return []
    lines = []
    for label, points in found.items():
        points.sort()
        shares = sorted({share for share, *_ in points})
        # several models, such as of several seeds, may have the same share
        means = [float(np.mean([value for at, value, *_ in points if at == share])) for share in shares]
        lines.append(Line(label, shares, means, bars=points))
    title = words(deciding)
    return [
        Chart(
            "Share of the photos learned from",
            "share of the development photos",
            title,
            lines,
            f"{title} over the share that was learned from, a line a start, with 95 % intervals.",
        )
    ]


def training_charts(report: Report) -> list[Chart]:
    """How the runs learned: a chart a quantity, a line a run."""
    runs = [
        (model.name, read_table(model.path / "metrics.csv"))
        for model in report.ranked
        if model.kind == "run" and (model.path / "metrics.csv").is_file()
    ]
    one = len(runs) == 1
    charts = []
    for name in ("loss", report.models[0].deciding):
        lines = []
        for run, rows in runs:
            parts = {"train": "training", "val": "validation"} if one else {"val": run}
            for part, label in parts.items():
                if (points := points_of(rows, f"{part}_{name}"))[0]:
                    lines.append(Line(label, *points))
        if lines:
            ends = ", ".join(f"{line.label} {line.y[0]:.4f} to {line.y[-1]:.4f}" for line in lines)
            title = words(name) if one else f"{words(name)}, validation"
            charts.append(
                Chart(title, "epoch", words(name), lines, f"From the first to the last epoch: {ends}.", whole=True)
            )
    return charts
