"""The loop over (batch, head) that all oracles share, so that each of them states its equations for one sequence."""

import torch


def over_heads(sequence, signals, u, params=(), shared=()):
    """Apply ``sequence(**signals of one head, u=...) -> (y, state)`` to every batch entry and head; stack the results.

    Signals are [B, T, H, ...], except those named in ``params``, which are constant and start with [H], and those in
    ``shared``, whose head axis has one entry per group of heads. ``u`` is [B, T, H, ...]. Returns y [B, T, H, ...]
    and the state [B, H, ...] (a tuple of such tensors where the sequence returns a tuple).
    """
    B, T, H = u.shape[:3]
    for name, value in signals.items():
        heads = value.shape[0 if name in params else 2]
        if heads != H and not (name in shared and H % heads == 0):
            raise ValueError(f"signal {name!r} has {heads} heads, the drive u has {H}")
        if name not in params and value.shape[:2] != (B, T):
            raise ValueError(f"signal {name!r} is {tuple(value.shape)}, expected [B, T] = [{B}, {T}] in front")

    def of_one_head(name, value, b, h):
        if name in params:
            return value[h]
        return value[b, :, h * value.shape[2] // H]  # the group's entry if shared, else the head's own

    rows = [
        [sequence(**{n: of_one_head(n, x, b, h) for n, x in signals.items()}, u=u[b, :, h]) for h in range(H)]
        for b in range(B)
    ]
    y = torch.stack([torch.stack([y for y, _ in row], dim=1) for row in rows])
    states = [[state for _, state in row] for row in rows]
    if not isinstance(states[0][0], tuple):
        return y, _stack(states)
    return y, tuple(_stack([[state[i] for state in row] for row in states]) for i in range(len(states[0][0])))


def _stack(states):
    return torch.stack([torch.stack(row) for row in states])
