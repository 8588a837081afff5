"""A million tokens in pieces: the memory does not grow, and the state that is carried is that of one whole run."""

from pathlib import Path

import pytest
import torch

import dsf
from kernel_cases import close

LENGTH, PIECE = 1 << 20, 1 << 15
MEMORY = 64 << 20  # bytes; one piece's signals at these sizes are 4 to 17 MB
SIZES = {"heads": 2, "n": 16, "p": 16}


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads its memory from /proc")
@pytest.mark.parametrize("name", ["mamba2", "gla", "gated_deltanet", "mamba", "rglru", "s4d"])
def test_a_million_tokens_stream_in_constant_memory(name):
    architecture = dsf.architecture_named(name)
    sizes = SIZES | ({"p": 1} if name in ("mamba", "s4d") else {})
    state, held = None, []
    constants = architecture.sample(1, 1, dtype=torch.float32, generator=torch.Generator().manual_seed(0), **sizes)[0]
    with torch.no_grad():
        for piece in range(LENGTH // PIECE):
            generator = torch.Generator().manual_seed(piece)
            signals, u = architecture.sample(1, PIECE, dtype=torch.float32, generator=generator, **sizes)
            signals |= {k: constants[k] for k, domain in architecture.signals.items() if domain.const}
            y, state = dsf.simulate(architecture(**signals), u, state)
            assert y.shape[1] == PIECE and y.isfinite().all() and state.isfinite().all()
            held.append(resident())
    assert max(held[2:]) - held[1] < MEMORY


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mamba2", "gated_deltanet"])
def test_a_million_tokens_at_once_are_the_pieces(name):
    architecture = dsf.architecture_named(name)
    signals, u = architecture.sample(1, LENGTH, 1, 4, 4, torch.float32, torch.Generator().manual_seed(0))
    system = architecture(**signals)
    with torch.no_grad():
        whole, last = dsf.simulate(system, u)
        state = None
        for start in range(0, LENGTH, 1 << 18):
            stop = start + (1 << 18)
            y, state = dsf.simulate(system.slice(start, stop), u[:, start:stop], state)
            assert close(y, whole[:, start:stop], 1e-4)
    assert close(state, last, 1e-4)
