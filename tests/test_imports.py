"""Imports point one way, are light, and in no order does one of them hide a public name."""

import ast
import importlib.util
import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import dsf

PACKAGES = ("dsf", "dsf_kernels", "dsf_analysis")
MODULES_AS_NAMES = {"edits", "features", "sets"}  # public, and meant as modules
FOLDERS = {p: Path(importlib.util.find_spec(p).submodule_search_locations[0]) for p in PACKAGES}
HEAVY = ("safetensors", "typer", "rich", "transformers", "control", "matplotlib", "dsf_kernels", "dsf_analysis")
MAY_IMPORT = {  # beside itself
    "dsf": set(),
    "dsf_kernels": {"dsf"},
    "dsf_analysis": {"dsf"},
}
COMMANDS = ("cli", "cli_models", "cli_check", "cli_check_models", "cli_language", "cli_bench", "cli_run", "cli_tune")
EXEMPT = {"dsf/__init__.py", *(f"dsf/{name}.py" for name in COMMANDS)}


def submodules():
    found = []
    for package, folder in FOLDERS.items():
        found.append(package)
        found += [m.name for m in pkgutil.walk_packages([str(folder)], f"{package}.")]
    return found


def fresh(code, *args):
    """Runs code in a new interpreter with this one's import path; its standard output."""
    path = os.pathsep.join(p for p in sys.path if p)
    done = subprocess.run(
        [sys.executable, "-c", code, *args], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


CHECK = """
import types
def check():
    import dsf
    for name in dsf.__all__:
        for _ in range(2):
            found = getattr(dsf, name)
            assert isinstance(found, types.ModuleType) == (name in ("edits", "features", "sets")), name
        if name not in ("edits", "features", "sets", "I", "inf", "Complex", "LeftHalfPlane", "UnitDisc"):
            assert callable(found), name
    for _ in range(2):
        assert "gla" in dsf.architectures() and dsf.architecture_named("gla").name == "gla"
"""

IN_ORDER = (
    CHECK
    + """
import importlib, json, sys
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
check()
import dsf
for _ in range(2):
    assert dsf.parity(dsf.architecture_named("gla")).answer is False
    assert dsf.spectrum(dsf.architecture_named("gla")) is not None
"""
)

EACH_FIRST = (
    CHECK
    + """
import importlib, json, os, sys
import networkx, numpy, scipy.signal, sympy, torch  # once, for all children
for name in json.loads(sys.argv[1]):
    child = os.fork()
    if child == 0:
        try:
            importlib.import_module(name)
            check()
            os._exit(0)
        except BaseException as error:
            print(name, repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    if os.waitpid(child, 0)[1]:
        sys.exit(1)
"""
)


@pytest.mark.parametrize("order", [1, -1], ids=["alphabetical", "reversed"])
def test_all_submodules_in_either_order(order):
    fresh(IN_ORDER, json.dumps(submodules()[::order]))


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork, to start each module from the same clean process")
def test_every_submodule_first():
    fresh(EACH_FIRST, json.dumps([name for name in submodules() if ".zoo." not in name]))


def test_import_dsf_is_light():
    loaded = json.loads(fresh("import dsf, json, sys; print(json.dumps(sorted(sys.modules)))"))
    assert "dsf" in loaded and not {name.split(".")[0] for name in loaded} & set(HEAVY)
    assert not any(name.startswith("dsf.zoo.") for name in loaded)  # found by the registry, when it is asked


def trees():
    for package, folder in FOLDERS.items():
        for file in sorted(folder.rglob("*.py")):
            yield package, f"{package}/{file.relative_to(folder)}", ast.parse(file.read_text(encoding="utf-8"))


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.split(".")[0]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module") and node.args:
            if isinstance(node.args[0], ast.Constant):
                yield str(node.args[0].value).split(".")[0]


def test_imports_point_one_way():
    seen = set()
    for package, file, tree in trees():
        ours = set(imported(tree)) & set(PACKAGES)
        seen |= {(package, other) for other in ours}
        if file not in EXEMPT:
            assert ours <= MAY_IMPORT[package] | {package}, f"{file} imports {ours}"
    assert {("dsf_kernels", "dsf"), ("dsf_analysis", "dsf"), ("dsf", "dsf_kernels")} <= seen  # the check sees imports


def test_no_module_bears_the_name_of_a_public_function():
    """Importing a submodule rebinds the attribute of that name in its package."""
    modules = {m.name for m in pkgutil.iter_modules([str(FOLDERS["dsf"])])}
    assert MODULES_AS_NAMES < modules and not modules & set(dsf.__all__) - MODULES_AS_NAMES
    for package in ("dsf_kernels", "dsf_analysis"):  # whose public functions are reached through dsf
        assert not {m.name for m in pkgutil.iter_modules([str(FOLDERS[package])])} & set(dsf.__all__)


def test_public_names_are_declared_once_for_all_readers():
    """__all__, the lazy table, and the block that type checkers read hold the same names."""
    tree = ast.parse((FOLDERS["dsf"] / "__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    typed = {alias.name: node for node in block.body for alias in node.names}
    lazy = dsf._ABOVE
    assert set(typed) == set(lazy) <= set(dsf.__all__) <= set(dir(dsf))
    for name, node in typed.items():
        module = f"dsf.{node.module}" if node.level else node.module
        assert module == lazy[name] and importlib.util.find_spec(module), name
    assert len(dsf.__all__) == len(set(dsf.__all__))
    with pytest.raises(AttributeError, match="no attribute 'compile'"):
        getattr(dsf, "compile")  # noqa: B009 (dsf.compile alone would read as a mistake)


def test_no_folder_is_called_as_a_library():
    for root in (*FOLDERS.values(), Path(__file__).parent):
        assert not {p.name for p in root.rglob("*") if p.is_dir()} & {"torch", "triton", "sympy", "numpy"}
