"""Builds the wheel and the sdist, looks inside both, installs the wheel in a fresh environment and runs `dsf list`.

The fresh environment borrows the dependencies of the Python that runs this script, so nothing is downloaded.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {"dsf": ROOT, "dsf_kernels": ROOT, "dsf_analysis": ROOT / "analysis"}
SDIST_FOLDERS = {"dsf", "dsf_kernels", "analysis", "tests", "examples", "docs", "scripts"}
SDIST_FILES = {
    *("pyproject.toml", "constraints.txt", "Makefile", "README.md", "CHANGELOG.md", "CONTRIBUTING.md"),
    *("CITATION.cff", "LICENSE"),
}
SDIST_EXTRA = {"PKG-INFO", ".gitignore"}  # the build backend adds these
UNWANTED = {"__pycache__", ".venv", "_build", ".pytest_cache", ".ruff_cache", ".hypothesis", ".git", ".DS_Store"}


class PackageError(Exception):
    """What is wrong with a built distribution."""


def run(*command: str | Path, cwd: Path = ROOT, **environment: str) -> str:
    """The command's standard output; its whole output in the error where it fails."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**inherited, "PYTHONNOUSERSITE": "1", **environment},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise PackageError(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def sources() -> set[str]:
    """The package files that an installation needs, as paths inside the wheel."""
    return {
        path.relative_to(parent).as_posix()
        for package, parent in PACKAGES.items()
        for path in (parent / package).rglob("*")
        if path.suffix == ".py" and "__pycache__" not in path.parts or path.name == "py.typed"
    }


def refuse(where: str, complaint: str, names: set[str]) -> None:
    """Raises where names is not empty."""
    if names:
        raise PackageError(f"{where}: {complaint}: {', '.join(sorted(names))}")


def check_wheel(wheel: Path) -> None:
    """The wheel holds the three packages, whole, and nothing else."""
    names = {name for name in zipfile.ZipFile(wheel).namelist() if not name.endswith("/")}
    installed = {name for name in names if not name.split("/")[0].endswith(".dist-info")}
    refuse(wheel.name, "does not belong in it", {name for name in installed if name.split("/")[0] not in PACKAGES})
    refuse(wheel.name, "unwanted", {name for name in installed if UNWANTED & set(name.split("/"))})
    refuse(wheel.name, "missing", sources() - installed)
    refuse(wheel.name, "missing", {f"{package}/py.typed" for package in PACKAGES} - installed)


def check_sdist(sdist: Path) -> None:
    """The sdist holds what its include list names, whole, and nothing else."""
    with tarfile.open(sdist) as archive:
        names = {member.name.split("/", 1)[1] for member in archive.getmembers() if member.isfile()}
    allowed = SDIST_FILES | SDIST_EXTRA
    outside = {name for name in names if name not in allowed and name.split("/")[0] not in SDIST_FOLDERS}
    refuse(sdist.name, "does not belong in it", outside)
    refuse(sdist.name, "unwanted", {name for name in names if UNWANTED & set(name.split("/"))})
    refuse(sdist.name, "missing", SDIST_FILES - names)
    refuse(sdist.name, "missing folders", SDIST_FOLDERS - {name.split("/")[0] for name in names})
    prefix = {package: parent.relative_to(ROOT).as_posix() for package, parent in PACKAGES.items()}
    expected = {f"{prefix[name.split('/')[0]]}/{name}".removeprefix("./") for name in sources()}
    refuse(sdist.name, "missing", expected - names)


def check_installed(wheel: Path, folder: Path) -> None:
    """The wheel alone, in a fresh environment and seen from another directory, imports and lists its architectures."""
    run(sys.executable, "-m", "venv", "--without-pip", folder / "fresh")
    bin_folder = folder / "fresh" / ("Scripts" if os.name == "nt" else "bin")
    python = bin_folder / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", wheel)
    purelib = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    # A plain path entry: the .pth files in that folder, editable installs among them, are not read.
    (purelib / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")

    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    question = f"import {', '.join(PACKAGES)}; print(*[m.__file__ for m in ({', '.join(PACKAGES)})], sep='\\n')"
    for file in run(python, "-c", question, cwd=elsewhere).splitlines():
        if purelib.resolve() not in Path(file).resolve().parents:
            raise PackageError(f"{wheel.name}: a package was imported from {file}, not from the installed wheel")
    if not run(bin_folder / "dsf", "list", cwd=elsewhere).strip():
        raise PackageError(f"{wheel.name}: `dsf list` printed nothing")


def main() -> int:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        try:
            print("building the sdist, and the wheel from it", flush=True)
            run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", ROOT)
            (wheel,), (sdist,) = (folder / "dist").glob("*.whl"), (folder / "dist").glob("*.tar.gz")
            print(f"looking inside {sdist.name} and {wheel.name}", flush=True)
            check_sdist(sdist)
            check_wheel(wheel)
            print("installing the wheel in a fresh environment and running `dsf list`", flush=True)
            check_installed(wheel, folder)
        except PackageError as error:
            print(error, file=sys.stderr)
            return 1
    print("the package is sound")
    return 0


if __name__ == "__main__":
    sys.exit(main())
