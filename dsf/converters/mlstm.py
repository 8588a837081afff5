"""xLSTM's mLSTM, as transformers' backend is called: one forget gate per head, an exponential input gate, a normaliser.

    x_t = sigmoid(f_t) x_{t-1} + e^{i_t} k_t u_t^T      y_t = q_t^T x_t / max(|q_t^T n_t|, 1)      n: x driven by ones

transformers keeps x and n divided by e^m, m_t = max(log sigmoid(f_t) + m_{t-1}, i_t), and adds 1e-6 to that
denominator.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from dsf import Core, architecture_named
from dsf.converter_registry import converter
from dsf.converter_tools import wide
from dsf.cores import Steps
from dsf.recording import Call


@converter(
    "transformers.models.xlstm.modeling_xlstm.xLSTMBackend",
    parameters="query key value igate fgate c_initial? n_initial? m_initial? return_last_states? mode?",
    families=("xlstm",),
)
def backend(call: Call) -> Steps:
    """query, key [B, H, T, n], value [B, H, T, p], igate, fgate [B, H, T] -> h [B, H, T, p] (and the last c, n, m)."""
    a, config = call.arguments, call.module.config
    q, k, u, i, f = (wide(a[name]).transpose(1, 2) for name in ("query", "key", "value", "igate", "fgate"))
    log_f = F.logsigmoid(f)
    state, m = None, torch.zeros_like(i[:, 0])
    if a["c_initial"] is not None:
        state, m = torch.cat([a["c_initial"], a["n_initial"][..., None]], -1), a["m_initial"][..., 0]
        state = wide(state) * m.exp()[..., None, None]
    signals = dict(q=q * q.shape[-1] ** -0.5, k=k, f=log_f, i=i)
    y, x = yield Core(architecture_named("mlstm"), signals, u, state)
    y = y.transpose(1, 2).to(a["query"].dtype)
    mode = a["mode"] or config.mode
    last = a["return_last_states"] if a["return_last_states"] is not None else config.return_last_states
    if "train" in mode and not last:
        return y
    after = log_f.flip(1).cumsum(1).flip(1)  # from each step to the end, its own gate included
    m = torch.maximum((i + after - log_f).amax(1), m + after[:, 0])
    x = x * (-m).exp()[..., None, None]
    return y, (x[..., :-1], x[..., -1], m[..., None])
