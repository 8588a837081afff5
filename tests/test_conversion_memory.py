"""Converting needs little memory beside the module's own forward: both peaks are measured in fresh processes."""

import os
import subprocess
import sys

import pytest

LENGTH, FACTOR = 4096, 3.0
MEASURED = """
import resource, sys, torch
torch.set_num_threads(1)
torch.manual_seed(0)
what, kind, options = sys.argv[1], sys.argv[2], eval(sys.argv[3])
if what == "convert":
    import dsf
module = getattr(torch.nn, kind)(160, 160, batch_first=True, **options).eval()

def run(x):
    with torch.no_grad():
        return module(x) if what == "forward" else dsf.convert(module, x)

run(torch.randn(1, 8, 160))
x = torch.randn(1, int(sys.argv[4]), 160)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
kept = run(x)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def growth(what, kind, options):
    """Growth of the peak resident memory, in KiB on Linux, while the module runs or is converted."""
    # By way of a shell that forks: on Linux a process starts with the peak of its parent, and that of pytest is high.
    command = ["sh", "-c", '"$0" "$@"; exit $?', sys.executable, "-c", MEASURED, what, kind, repr(options), str(LENGTH)]
    path = os.pathsep.join(p for p in sys.path if p)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    found = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert found.returncode == 0, found.stderr
    return int(found.stdout)


TWO_LAYERS = pytest.param("LSTM", dict(num_layers=2), id="LSTM, two layers")


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "options"), [("LSTM", {}), ("RNN", {}), TWO_LAYERS])
def test_peak_memory_of_a_conversion(kind, options):
    forward, conversion = growth("forward", kind, options), growth("convert", kind, options)
    assert forward > 4 * LENGTH * 160 / 1024, "the measurement sees less than one output: it is broken"
    assert conversion <= FACTOR * forward, f"{conversion} KiB, the module alone {forward} KiB"
