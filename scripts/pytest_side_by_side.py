"""Runs pytest in as many processes as there are processors, a share of the tests each: no plugin is needed.

    python scripts/pytest_side_by_side.py -m gpu tests/test_gpu_*.py

Exits with 1 where a process found no test, or a failure. Most of the time of the GPU's tests goes to compilers, which
take a processor each.
"""

import os
import subprocess
import sys
from tempfile import TemporaryFile

MOST = 16  # every one has a context on the GPU


def main(arguments: list[str]) -> int:
    count = min(os.cpu_count() or 1, MOST)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    runs = []
    for share in range(count):
        output = TemporaryFile()
        run = subprocess.Popen([*command, "--share", f"{share}/{count}"], stdout=output, stderr=subprocess.STDOUT)
        runs.append((run, output))
    failed = [run for run, _ in runs if run.wait()]
    for _, output in runs:
        output.seek(0)
        print(output.read().decode(errors="replace"), flush=True)
    print(f"{count - len(failed)} of {count} processes passed")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
