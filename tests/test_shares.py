"""Shares of the tests, for processes side by side: every test is in one of them."""

import subprocess
import sys
from pathlib import Path


def collected(*more):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--collect-only", "-m", "gpu", *more]
    path = Path(__file__).parent / "test_gpu_scalar.py"
    found = subprocess.run([*command, str(path)], capture_output=True, text=True, check=True).stdout
    return [line for line in found.splitlines() if "::" in line]


def test_shares_are_the_whole():
    whole, shares = collected(), [collected("--share", f"{i}/3") for i in range(3)]
    assert all(shares) and sorted(sum(shares, [])) == sorted(whole)
    assert len(set(sum(shares, []))) == len(whole) > 10
