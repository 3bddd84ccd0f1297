import pytest

from undiffuse import checkpoints, data, networks, operators, registry, restore, samplers

FILLED = (checkpoints, data, networks, operators, restore, samplers)  # their names are there before any test

pytest.register_assert_rewrite("undiffuse.contracts")  # so that a failed check shows its values

TABLES = [table for table in vars(registry).values() if isinstance(table, registry.Registry)]


@pytest.fixture(autouse=True)
def registries():
    """What a test's plugin registers is gone after it."""
    before = [dict(table._entries) for table in TABLES]
    yield
    for table, entries in zip(TABLES, before, strict=True):
        added = table._entries.keys() - entries.keys() if entries else ()
        for name in added:
            del table._entries[name]
