"""What dsf converts is listed from the registry alone."""

from pathlib import Path

import pytest
from torch import nn

import dsf
from dsf import converter_registry
from dsf.converter_registry import class_converters, taps
from dsf.supported import markdown_table, supported
from tiny_models import FAMILIES

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def registry(monkeypatch):
    class_converters()
    for name in ("_CLASSES", "_FUNCTIONS"):
        monkeypatch.setattr(converter_registry, name, dict(getattr(converter_registry, name)))


def test_every_converter_has_a_row_and_every_row_a_file():
    rows = supported()
    assert {name for row in rows for name in row.modules} == class_converters().keys()
    assert {name for row in rows for name in row.functions} == taps().keys()
    own = {row.file for row in rows if row.file.startswith("dsf/converters/")}
    assert own == {str(f.relative_to(ROOT)) for f in (ROOT / "dsf" / "converters").glob("[a-z]*.py")}
    assert all(row.what and row.families for row in rows if row.file in own)
    assert [row.file for row in rows] == sorted(row.file for row in rows)


def test_families_that_are_said_to_be_tested_are():
    """Each is a tiny model, or a module of torch; those of a converter's file are in that file's words."""
    said = {family for row in supported() if row.file.startswith("dsf/converters/") for family in row.families}
    others = {family for family in said if family.startswith(("torch.nn.", "and "))}
    assert said - others <= FAMILIES.keys()
    assert {name for name, family in FAMILIES.items() if family.remembers} <= said


def test_a_converter_of_ones_own_is_listed_and_not_in_the_documents_table(registry):
    before = markdown_table()

    class Mine(nn.Module):
        def forward(self, x):
            return x

    @dsf.converter(Mine, families=("mine",))
    def mine(call):
        yield

    (row,) = [row for row in supported() if "mine" in row.families]
    assert row.file == "tests/test_supported.py" and row.modules[0].endswith("Mine")
    assert markdown_table() == before and "`MptAttention`" in before and "`mamba2_chunk_scan()`" in before
