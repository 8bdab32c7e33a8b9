"""Fixtures that more than one test module needs."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "2")  # more threads than cores make small operations slower, not faster

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real photos and masks; tests that need it are skipped, with a reason, where it is missing."""
    folder = os.environ.get("SIMCLRSEG_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("SIMCLRSEG_TEST_DATA does not name a folder of real photos")
    return Path(folder).resolve()
