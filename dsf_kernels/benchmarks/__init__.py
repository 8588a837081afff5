"""What `dsf bench` measures: every kernel beside other implementations of the same recurrence, and beside the floor.

    from dsf_kernels.benchmarks import bench
    print(bench(["gla"], length=512))

cases.py says what is run, peers.py by whom, contest.py and measure.py how, rates.py what this device can do at all.
No kernel lives here.
"""

from .report import Report, bench

__all__ = ["Report", "bench"]
