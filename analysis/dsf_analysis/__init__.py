"""dsf_analysis: what follows from A, B, C, D. Verdicts with theorems and certificates; `dsf.parity`, `dsf.spectrum`."""
