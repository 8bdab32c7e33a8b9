"""Calibration: whether a model is right as often as it is sure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from simclrseg.charts import plots
from simclrseg.evaluation.graphs import calibration_charts
from simclrseg.scores.confidences import Confidences, Reliability
from simclrseg.scores.results import Evaluated
from simclrseg.system.files import write_rows

COVERAGES = (0.5, 0.8, 0.9, 0.95, 1.0)  # at which the risk is told


@dataclass(frozen=True)
class Calibration:
    """How far confidence and accuracy agree, over all photos or pixels that were scored.

    Attributes:
        ece: expected calibration error in 15 equal bins.
        brier: mean of sum_k (p_k - y_k)^2, in [0, 2].
        aurc: area under risk against coverage.
        reliability: the bins.
        risk_coverage: (n,) each.
        unit: what was counted, ``photos`` or ``pixels``.
    """

    ece: float
    brier: float
    aurc: float
    reliability: Reliability
    risk_coverage: tuple[np.ndarray, np.ndarray]
    unit: str

    @classmethod
    def of(cls, confidences: Confidences, *, unit: str) -> Calibration:
        bins = confidences.reliability()
        return cls(bins.ece, confidences.brier, confidences.aurc, bins, confidences.risk_coverage(), unit)

    def risk_at(self, coverage: float) -> float:
        """The share that is wrong of the surest predictions, of which at least so many are kept."""
        kept, risk = self.risk_coverage
        return float(risk[min(int(np.searchsorted(kept, coverage - 1e-12)), len(risk) - 1)])

    def bins(self) -> np.ndarray:
        """(15, 3): mean confidence and accuracy, NaN where there are none, and number of predictions."""
        parts = self.reliability
        return np.stack([parts.mean_confidence, parts.accuracy, parts.number], axis=1)

    def facts(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "unit": self.unit,
            "n": int(self.reliability.number.sum()),
            "ece": self.ece,
            "brier": self.brier,
            "aurc": self.aurc,
            "risk_at_coverage": {f"{coverage:g}": self.risk_at(coverage) for coverage in COVERAGES},
            "reliability": self.rows(),
        }

    def rows(self) -> list[dict[str, Any]]:
        """A row a bin; None where it is empty."""
        edges = np.linspace(0, 1, len(self.reliability.number) + 1).round(4).tolist()
        return [
            {
                "from": low,
                "to": high,
                "confidence": float(confidence) if number else None,
                "accuracy": float(accuracy) if number else None,
                "n": int(number),
            }
            for low, high, (confidence, accuracy, number) in zip(edges, edges[1:], self.bins(), strict=False)
        ]


def calibrate(model: Evaluated, folder: Path) -> Calibration:
    """Compare confidence with accuracy, and write ``calibration.csv`` and ``calibration.png``."""
    found = Calibration.of(model.scores.confidences, unit=model.scores.unit)
    write_rows(folder / "calibration.csv", found.rows())
    plots.charts(calibration_charts(model), folder / "calibration.png")
    return found
