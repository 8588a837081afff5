"""The documents say what the code does: examples run, the table is the registry's, links lead somewhere."""

import doctest
import re
from pathlib import Path

import pytest
import torch

from dsf import definition

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    """What the examples register is gone after the test."""
    definition.architectures()  # the library's own are registered once, when they are first imported
    monkeypatch.setattr(definition, "_REGISTRY", dict(definition._REGISTRY))


def test_the_quickstart_runs():
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    text = re.sub(r"^```.*$", "", (ROOT / "docs" / "quickstart.md").read_text(), flags=re.M)  # fences are no output
    test = doctest.DocTestParser().get_doctest(text, {}, "quickstart", "docs/quickstart.md", 0)
    assert len(test.examples) > 10
    assert doctest.DocTestRunner(optionflags=flags).run(test).failed == 0


def test_the_page_of_converters_runs_and_holds_the_registry():
    pytest.importorskip("transformers")
    from dsf.supported import markdown_table

    text = (ROOT / "docs" / "converters.md").read_text()
    assert markdown_table() in text, "docs/converters.md: renew the table (dsf.supported)"
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    test = doctest.DocTestParser().get_doctest(re.sub(r"^```.*$", "", text, flags=re.M), {}, "converters", None, 0)
    assert len(test.examples) > 15
    assert doctest.DocTestRunner(optionflags=flags).run(test).failed == 0


def test_the_readme_holds_the_table_of_architectures():
    from dsf_analysis.overview import markdown_table

    assert markdown_table() in (ROOT / "README.md").read_text(), "README.md: renew the table (dsf_analysis.overview)"


def test_the_python_of_the_readme_runs():
    code = "\n".join(re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S))
    assert "dsf.parity(mine)" in code and "dsf.convert" in code
    code = code.replace("length=4096", "length=64").replace("512, 64", "20, 64")  # as long as it takes to run
    exec(compile(code, "README.md", "exec"), {"torch": torch, "__name__": "__main__"})


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert target.startswith("http") or (page.parent / target).exists(), f"{page.name} links to {target}"


def test_citations_exist():
    """Every key that code or pages cite is in the bibliography."""
    keys = set(re.findall(r"@\w+\{([\w-]+),", (ROOT / "docs" / "references.bib").read_text()))
    import dsf

    cited = {a.cite for a in dsf.architectures().values() if a.cite}
    for page in PAGES:
        cited |= {k for group in re.findall(r"\{cite(?::t)?\}`([^`]+)`", page.read_text()) for k in group.split(",")}
    assert len(cited) > 15
    assert not {c for c in cited if not c.startswith("{")} - keys


def test_the_readme_is_short_and_names_the_distribution():
    text = (ROOT / "README.md").read_text()
    assert len([line for line in text.splitlines() if not line.startswith("|")]) <= 102  # the table grows
    wrong = "pip install " + "dsf"
    for path in ROOT.rglob("*"):
        if path.suffix in (".md", ".py", ".toml", ".txt") and not {".venv", "_build", "build"} & set(path.parts):
            assert not re.search(wrong + r"(?!-toolkit)\b", path.read_text(errors="ignore")), f"{path} says {wrong}"
