"""What several test files need: sizes, random tensors that hit special values, relative errors."""

import torch

from dsf.reference import scan

SPECIAL = (0.0, 1.0, -1.0, 2.0)  # where a formula divides, vanishes or reflects


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def numbers(*shape, seed=0, dtype=torch.float64, special=0.2):
    """Normal random numbers, a share of them replaced by 0, 1, -1 or 2."""
    g = generator(seed)
    x = torch.randn(shape, generator=g, dtype=dtype)
    chosen = torch.tensor(SPECIAL, dtype=dtype)[torch.randint(0, len(SPECIAL), shape, generator=g)]
    return torch.where(torch.rand(shape, generator=g) < special, chosen, x)


def relative(actual, expected):
    """The largest difference, relative to the largest entry; shapes must agree."""
    assert actual.shape == expected.shape, f"{tuple(actual.shape)} instead of {tuple(expected.shape)}"
    if actual.numel() == 0:
        return 0.0
    difference = (actual - expected).abs().max().item()
    return difference / max(expected.abs().max().item(), 1e-300) if difference == difference else float("inf")


def flat(result):
    """(y, state) as a list of tensors; a state may be a pair."""
    y, state = result
    return [y, *(state if isinstance(state, tuple) else (state,))]


def assert_close(actual, expected, tolerance):
    """Two results (tensors, or (y, state)) agree."""
    pairs = [(actual, expected)] if isinstance(actual, torch.Tensor) else zip(flat(actual), flat(expected), strict=True)
    for a, e in pairs:
        assert relative(a, e) < tolerance


def sampled(arch, *, batch=2, length=7, heads=2, n=3, p=2, seed=0, **more):
    """Signals and drive of an architecture, small."""
    return arch.sample(batch, length, heads, n, p, generator=generator(seed), **more)


def at_times(arch, signals, cut):
    """The signals, where those that vary in time are sliced by `cut`, or changed by it if it is a function."""
    change = (lambda x: x[:, cut]) if isinstance(cut, slice) else cut
    return {k: x if arch.signals[k].const else change(x) for k, x in signals.items()}


def linear(arch, signals, u):
    """The linear System of an architecture; with feedback, that of frozen gates along the trajectory."""
    system = arch(**signals)
    return system.along(scan(system, u)[0], u) if arch.feedback else system
