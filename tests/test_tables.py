"""Every entry of every table can be imported."""

from __future__ import annotations

import pkgutil
from importlib import import_module

import pytest

import simclrseg
from simclrseg.errors import UnknownName, UsageError
from simclrseg.registry import Registry

TABLES = [
    value
    for package in pkgutil.walk_packages(simclrseg.__path__, "simclrseg.")
    if package.ispkg  # whose __init__ holds a table or nothing
    for value in vars(import_module(package.name)).values()
    if isinstance(value, Registry)
]


def test_the_tables_are_found():
    kinds = [table.kind for table in TABLES]
    assert len(kinds) == len(set(kinds)) >= 12
    assert {"dataset", "command", "output", "precision", "embedding"} <= set(kinds)


@pytest.mark.filterwarnings("ignore::ImportWarning")  # umap-learn tells of what it can do without
@pytest.mark.parametrize(("table", "name"), [(table, name) for table in TABLES for name in table])
def test_an_entry_imports_and_can_be_called(table, name):
    try:
        entry = table[name]
    except UsageError as error:
        if "pip install" not in str(error):
            raise
        pytest.skip(str(error))
    assert callable(getattr(entry, "convert", entry))  # a precision converts what its exporter wrote


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.kind)
def test_a_misspelt_name_is_answered_with_the_nearest(table):
    name = next(iter(table))
    with pytest.raises(UnknownName, match=f"did you mean '{name}'"):
        table[name + "x"]


def test_asking_for_a_name_does_not_import_it():
    table = Registry("thing", {"a": "no.such.module:a", "b": "no.such.module:b"})
    assert "a" in table and "c" not in table
    assert list(table) == ["a", "b"] and len(table) == 2
