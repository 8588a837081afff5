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
