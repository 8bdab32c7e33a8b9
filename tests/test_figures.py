"""The tables of the documents say what the results in the tree say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.benchmarks.few_labels_table import in_figures, in_readme

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(("document", "rows"), [("README.md", in_readme), (".github/docs/figures.md", in_figures)])
def test_the_table_of_few_labels_is_that_of_its_results(document, rows):
    results = json.loads((ROOT / "tests" / "benchmarks" / "few_labels.json").read_text("utf-8"))
    assert "\n".join(rows(results)) + "\n\n" in (ROOT / document).read_text("utf-8")
