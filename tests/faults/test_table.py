"""The table of faults names tests that there are."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
TABLE = (HERE / "README.md").read_text(encoding="utf-8")


def test_each_row_names_a_test_that_is_there():
    files = list(HERE.parent.rglob("test_*.py"))
    tests = {name for path in files for name in re.findall(r"^def (test_\w+)", path.read_text("utf-8"), re.MULTILINE)}
    rows = [line for line in TABLE.splitlines() if line.startswith("| ") and not line.startswith("| fault |")]
    assert len(rows) > 100
    for row in rows:
        named = row.rsplit(" | ", 1)[1]
        assert set(re.findall(r"test_\w+\.py", named)) <= {path.name for path in files} != set(), named
        assert set(re.findall(r"test_\w+\b(?!\.py)", named)) <= tests, named


def test_each_file_of_tests_is_in_the_table():
    files = {path.name for path in HERE.glob("test_*.py")} - {Path(__file__).name}
    assert files == set(re.findall(r"test_\w+\.py", TABLE)) & {path.name for path in HERE.glob("*.py")}
