"""Kimi Delta Attention, as transformers calls it: a decay per channel, and THEN the reflection.

x_t = (I - beta_t k_t k_t^T) diag(e^{g_t}) x_{t-1} + beta_t k_t u_t^T      y_t = q_t^T x_t / sqrt(n)
"""

from __future__ import annotations

from dsf import Core, LogDecay, Scalar, Vector, architecture_named
from dsf.converter_registry import tap
from dsf.converter_tools import found_domain, refuse_packed, wide
from dsf.converters.gated_delta_rule import queries_and_keys
from dsf.cores import Steps
from dsf.recording import Call

FAMILIES = ("kimi_linear", "bailing_hybrid", "glm5_next")
ARGUMENTS = """query key value g beta chunk_size? initial_state? output_final_state? use_qk_l2norm_in_kernel?
    cu_seqlens?"""


@tap(
    *("chunk_kimi_delta_attention", "recurrent_kimi_delta_attention"),
    **dict(check=refuse_packed, parameters=ARGUMENTS, families=FAMILIES),
)
def delta_attention(call: Call) -> Steps:
    """query, key, g [B, T, H, n], value [B, T, H, p], beta [B, T, H] -> y [B, T, H, p], final state [B, H, n, p]."""
    a = call.arguments
    q, k, of_k = queries_and_keys(a)
    domains = dict(k=of_k, beta=found_domain(call, "beta", Scalar))
    domains["g"] = found_domain(call, "g", Vector, within=Vector(LogDecay.set))
    signals = dict(q=q, k=k, beta=wide(a["beta"]), g=wide(a["g"]))
    state = None if a["initial_state"] is None else wide(a["initial_state"])
    y, x = yield Core(architecture_named("kda").with_domain(**domains), signals, wide(a["value"]), state)
    return y.to(a["query"].dtype), x if a["output_final_state"] else None
