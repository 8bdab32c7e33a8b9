"""Names and numbers as tables and pages write them."""

from __future__ import annotations

import pytest

from simclrseg.scores.wording import fact


@pytest.mark.parametrize(
    ("keys", "name"),
    [
        ("best_threshold threshold", "best threshold on validation photos"),
        ("best_threshold iou interval", "its 95 % interval"),
        ("empty", "score of such a photo where nothing is found"),
        ("risk_at_coverage 0.5", "risk at coverage 0.5"),
        ("ece", "ECE"),
        ("other auroc", "other AUROC"),
    ],
)
def test_a_fact_is_named_in_words_from_the_keys_that_lead_to_it(keys, name):
    assert fact(keys) == name
