"""Every entry of every table can be built."""

from __future__ import annotations

import pytest

from simclrseg.data.datasets import DATASETS
from simclrseg.engine import LOGGERS, OPTIMIZERS, SCHEDULES
from simclrseg.errors import UnknownName
from simclrseg.exporters import EXPORTERS, READERS
from simclrseg.losses import LOSSES
from simclrseg.models import SEGMENTERS
from simclrseg.tasks import METHODS

TABLES = [DATASETS, EXPORTERS, LOGGERS, LOSSES, METHODS, OPTIMIZERS, READERS, SCHEDULES, SEGMENTERS]


@pytest.mark.parametrize(("table", "name"), [(table, name) for table in TABLES for name in table])
def test_an_entry_imports_and_can_be_called(table, name):
    assert callable(table[name])


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.kind)
def test_a_misspelt_name_is_answered_with_the_nearest(table):
    name = next(iter(table))
    with pytest.raises(UnknownName, match=f"did you mean '{name}'"):
        table[name + "x"]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.kind)
def test_asking_for_a_name_does_not_import_it(table):
    assert "nothing" not in table and len(list(table)) == len(table)
