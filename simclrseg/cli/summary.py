"""The part of an evaluation that a terminal has room for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from simclrseg.scores.doubts import coverage
from simclrseg.scores.intervals import Interval
from simclrseg.scores.results import Estimate
from simclrseg.scores.wording import written

if TYPE_CHECKING:
    from simclrseg.evaluation.label_next import LabelNext
    from simclrseg.evaluation.probed import Probed, ProbedSeveral
    from simclrseg.evaluation.results import Report

FACTS = (
    *("run", "model", "backbone", "dataset", "split", "n", "resolution", "border", "threshold"),
    *("empty_masks", "photos_trained_on", "report"),
)


def summary(evaluation: Report | Probed | ProbedSeveral | LabelNext) -> dict[str, Any] | list[str]:
    """The facts and the tables of what ``evaluate`` returned; of photos to label their paths."""
    if (lines := getattr(evaluation, "in_words", None)) is not None:
        paths: list[str] = lines()
        return paths
    result = evaluation.facts()
    if several := result.get("models") or result.get("backbones"):
        return {
            **{name: result[name] for name in ("report", "table", "best", "recipes") if name in result},
            "intervals": coverage(several[0]["n"], several[0]["split"]),
            "verdicts": "; ".join(result["verdicts"]),
            "findings": [_findings_row(model) for model in result.get("models", ())],  # of backbones there are none
        }
    facts = {name: result[name] for name in FACTS if name in result}
    if best := result.get("best_threshold"):
        value, interval = best["iou"]["value"], best["iou"]["interval"]
        iou = Estimate(value, None if interval is None else Interval(*interval))
        images = f"{best['validation_photos']:,} validation photos"
        facts["best_threshold"] = f"{best['threshold']:g} on {images}: IoU {iou}"
    if found := result.get("calibration"):
        facts["calibration"] = (
            f"ECE {found['ece']:.4f}, Brier {found['brier']:.4f}, risk {found['risk_at_coverage']['0.8']:.4f} of the "
            f"surest 80 % of {found['n']:,} {found['unit']}"
        )
    if found := result.get("embedding"):
        values = found["silhouette"] or {}
        facts["silhouette"] = ", ".join(f"{value:.4f} {title}" for title, value in values.items()) or "no classes"
    if verdicts := result.get("verdicts"):
        facts["verdicts"] = "; ".join(verdicts)
    if any(result["intervals"].values()):
        facts["intervals"] = coverage(result["n"], result["split"])
    rows = []
    for name, value in result["metrics"].items():
        row = {"metric": name, "over the split": written(value)}
        if free := result.get("without_learning"):
            row["without learning"] = written(free.get(name))
        row["95 % interval"] = _interval(result["intervals"][name])
        if name in result.get("mean_over_images", ()):
            mean = result["mean_over_images"][name]
            row |= {"mean over images": written(mean["value"]), "its 95 % interval": _interval(mean["interval"])}
        rows.append(row)
    facts["metrics"] = rows
    others = [
        {
            "out of distribution": name,
            "per": level,
            "score": score,
            **{curve: written(value["value"]) for curve, value in curves.items()},
            "AUROC's 95 % interval": _interval(curves["auroc"]["interval"]),
        }
        for name, levels in result.get("ood", {}).items()
        for level in ("image", "pixel")
        for score, curves in levels.get(level, {}).items()
    ]
    return {**facts, "ood": others} if others else facts


def _findings_row(model: Mapping[str, Any]) -> dict[str, str]:
    """Findings beside the scores of one of several models: a number for each part, as its files say more."""
    row = {"name": model["name"]}
    if found := model.get("calibration"):
        row |= {"ECE": written(found["ece"]), "Brier": written(found["brier"])}
    for name, levels in model.get("ood", {}).items():
        row[f"AUROC of {name} by msp"] = written(levels["image"]["msp"]["auroc"]["value"])
    if found := model.get("embedding"):
        row["silhouette"] = written((found["silhouette"] or {}).get("after fine-tuning"))
    return row


def _interval(ends: Sequence[float] | None) -> str:
    return "-" if ends is None else str(Interval(*ends))
