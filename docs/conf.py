"""Sphinx configuration: pages in Markdown, the API from docstrings, citations from references.bib."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "analysis")]

import dsf  # noqa: E402

project = "dsf"
author = "The dsf developers"
copyright = author
version = release = dsf.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx.ext.doctest",
    "sphinxcontrib.bibtex",
]
exclude_patterns = ["_build"]
default_role = "code"

myst_enable_extensions = ["dollarmath", "amsmath", "deflist", "colon_fence"]
myst_heading_anchors = 3

bibtex_bibfiles = ["references.bib"]
bibtex_default_style = "plain"
bibtex_reference_style = "author_year"

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False

# The examples in docstrings are run by pytest; only the pages' own are run here.
doctest_test_doctest_blocks = ""
doctest_global_setup = "import torch\nimport dsf"

html_theme = "furo"
html_title = f"dsf {release}"


def write_architectures(_app) -> None:
    """docs/architectures.md from the registry: nothing is listed twice."""
    from dsf.printing import equations
    from dsf_analysis.overview import markdown_table

    lines = ["# Architectures", "", markdown_table(), ""]
    for name, a in dsf.architectures().items():
        x, y = equations(a, latex=True)
        lines += [f"## {a.title}", "", f"`{name}` {{cite}}`{a.cite}`", "", "$$", r"\begin{aligned}"]
        lines += [x.replace(" = ", " &= ", 1) + r" \\", y.replace(" = ", " &= ", 1), r"\end{aligned}", "$$", ""]
        lines += ["| signal | domain |", "|---|---|"]
        lines += [f"| `{signal}` | {str(domain).replace('|', '&#124;')} |" for signal, domain in a.signals.items()]
        lines += [""]
    (HERE / "architectures.md").write_text("\n".join(lines), encoding="utf-8")


def literal_equations(_app, _what, _name, _object, _options, lines) -> None:
    """Docstrings are plain text: indented blocks (equations, examples) are shown as they stand, and | is a bar."""
    text, literal = [], False
    for previous, line in zip(["", *lines], lines, strict=False):
        starts = line.startswith(" ") and not previous.strip() and not literal
        if starts and not next((above for above in reversed(text) if above), " ").startswith(" "):
            text += ["::", ""]
            literal = True
        literal = literal and (not line or line.startswith(" "))
        text.append(line if literal or "``" in line else line.replace("|", r"\|"))
    lines[:] = text


def setup(app) -> None:
    app.connect("builder-inited", write_architectures)
    app.connect("autodoc-process-docstring", literal_equations, priority=400)  # before napoleon
