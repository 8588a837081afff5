"""torch.nn.RNN, LSTM and GRU: one converted layer per layer and direction, one head, the module's own weights.

    LSTM, gates in the order i, f, u, o      RNN: one, tanh or relu      GRU, gates in the order r, z, u

A module returns the output of its last layer only. The layers below are run by torch, as one-layer modules on the same
weights, so that what every layer is compared with is torch's arithmetic and not dsf's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from dsf import Drive, I, Matrix, Param, Previous, System, architecture, architecture_named, diag, relu_secant
from dsf.converter_registry import converter
from dsf.cores import Core, Signals, Steps
from dsf.feedback import State
from dsf.recording import Call, ConversionError

States = tuple[torch.Tensor, ...]  # torch's (h,) or (h, c)
Weights = dict[str, torch.Tensor]  # weight_ih, weight_hh, bias_ih, bias_hh, weight_hr (the projection): of one layer
Encoding = Callable[[Weights], Callable[[torch.Tensor], tuple[Signals, torch.Tensor]]]


@architecture("Elman, relu", year=1990, cite="elman1990", register=False)
def relu_rnn(u=Drive, y=Previous, R=Param(Matrix)):
    """torch.nn.RNN(nonlinearity="relu"): y_t = relu(u_t + R y_{t-1}), in the secant form."""
    gain = relu_secant(u + R @ y)
    return System(A=diag(gain) @ R, B=diag(gain), C=I)


relu_rnn.body.rebuild = ("dsf.converters.recurrent:relu_rnn", {})  # type: ignore[attr-defined]


def check(call: Call) -> None:
    """Refuses what would give a wrong or unclear result, before torch runs."""
    module, x = call.module, call.arguments.get("input")
    if isinstance(x, PackedSequence):
        raise ConversionError(
            f"{call.where} is given a PackedSequence: convert takes sequences of one length. Pass the padded tensor, "
            "or each sequence alone"
        )
    if not isinstance(x, torch.Tensor):
        raise ConversionError(f"{call.where} takes a tensor, got {type(x).__name__}")
    if module.training and module.dropout > 0 and module.num_layers > 1:
        raise ConversionError(
            f"{call.where} is in training mode with dropout {module.dropout} between its layers: its output is random. "
            "Call module.eval() first"
        )
    layout = _layout(module, x)
    axes = ", ".join(str(module.input_size) if axis == "F" else axis for axis in layout)
    if x.dim() not in (2, 3) or x.shape[-1] != module.input_size:
        raise ConversionError(f"the input of {call.where} should be [{axes}], got shape {tuple(x.shape)}")
    if 0 in x.shape:
        raise ConversionError(f"the input of {call.where} is empty: [{axes}] = {tuple(x.shape)}; give one step or more")
    weight = module.weight_ih_l0
    if (x.dtype, x.device) != (weight.dtype, weight.device):
        raise ConversionError(
            f"the input of {call.where} is {x.dtype} on {x.device}, its weights {weight.dtype} on {weight.device}; "
            "move one with .to(...)"
        )
    _refuse_nan(call, module)


def _refuse_nan(call: Call, module: nn.RNNBase) -> None:
    given = call.arguments.get("hx")
    tensors = {"the input": call.arguments["input"]}
    tensors |= {f"initial state {i}": h for i, h in enumerate(_states(given))}
    tensors |= dict(module.named_parameters())
    for name, tensor in tensors.items():
        # by the extremes, which NaN overrides: one pass, where isfinite takes five
        if isinstance(tensor, torch.Tensor) and not torch.stack(tensor.detach().aminmax()).isfinite().all():
            raise ConversionError(f"{name} of {call.where} holds NaN or infinity")


def _layout(module: nn.RNNBase, x: torch.Tensor) -> str:
    return "TF" if x.dim() == 2 else "BTF" if module.batch_first else "TBF"


# ----------------------------------------------------------------------------------- the three: input -> signals, drive
# pre [B, T, 1, gates * n] is ONE tensor, of which the signals are views.


def _pre_activations(x: torch.Tensor, weights: Weights, bias: torch.Tensor | None, gates: int):
    return F.linear(x, weights["weight_ih"], bias)[:, :, None].chunk(gates, -1)


def _summed_biases(w: Weights) -> torch.Tensor | None:
    return w["bias_ih"] + w["bias_hh"] if "bias_ih" in w else None


def lstm_signals(w: Weights) -> Callable[[torch.Tensor], tuple[Signals, torch.Tensor]]:
    recurrent, bias = w["weight_hh"], _summed_biases(w)
    if "weight_hr" in w:  # torch feeds back h = P y, so the recurrent weights on y are R P
        recurrent = recurrent @ w["weight_hr"]
    Ri, Rf, Ru, Ro = recurrent[None].chunk(4, 1)

    def encode(x):
        i, f, u, o = _pre_activations(x, w, bias, 4)
        return dict(f=f, i=i, o=o, Rf=Rf, Ri=Ri, Ro=Ro, Ru=Ru), u

    return encode


def gru_signals(w: Weights) -> Callable[[torch.Tensor], tuple[Signals, torch.Tensor]]:
    n = w["weight_hh"].shape[1]
    Rr, Rz, Ru = w["weight_hh"][None].chunk(3, 1)
    bias, inside = None, w["weight_hh"].new_zeros(n)
    if "bias_ih" in w:
        bias = torch.cat([(w["bias_ih"] + w["bias_hh"])[: 2 * n], w["bias_ih"][2 * n :]])
        inside = w["bias_hh"][2 * n :]  # r multiplies this one: it belongs to Ru y, not to the input

    def encode(x):
        r, z, u = _pre_activations(x, w, bias, 3)
        return dict(z=z, r=r, Rz=Rz, Rr=Rr, Ru=Ru, bias=inside[None]), u

    return encode


def rnn_signals(w: Weights) -> Callable[[torch.Tensor], tuple[Signals, torch.Tensor]]:
    R, bias = w["weight_hh"][None], _summed_biases(w)
    return lambda x: (dict(R=R), _pre_activations(x, w, bias, 1)[0])


# ------------------------------------------------------------------------------------------------ layer by layer
_named = cache(architecture_named)  # which asks every file of the zoo


def _lstm(module: nn.Module) -> tuple[Any, Encoding]:
    return _named("lstm"), lstm_signals


def _gru(module: nn.Module) -> tuple[Any, Encoding]:
    return _named("gru"), gru_signals


def _rnn(module: nn.Module) -> tuple[Any, Encoding]:
    return _named("elman") if module.nonlinearity == "tanh" else relu_rnn, rnn_signals


KINDS = {nn.LSTM: _lstm, nn.GRU: _gru, nn.RNN: _rnn}


def parts(call: Call) -> Iterator[tuple[str, Call, Callable[[Call], Steps]]]:
    """A call for each layer and direction, with what torch alone returns there and copies of the weights."""
    module, x = call.module, call.arguments["input"]
    output, final = call.output[0], _states(call.output[1])
    directions = 2 if module.bidirectional else 1
    for layer in range(module.num_layers):
        rows = slice(layer * directions, (layer + 1) * directions)  # of torch's states: by layer, then direction
        states = _given(call, rows)
        y, last = output, tuple(h[rows] for h in final)
        if layer < module.num_layers - 1:
            y, last = _alone(module, layer, x, states)
        for d, out in enumerate(y.chunk(directions, -1)):
            weights = {k: w.detach().clone() for k, w in _weights(module, layer, d).items()}
            alone = {
                "input": x,
                "state": None if states is None else tuple(h[d] for h in states),
                "weights": weights,
                "reverse": d == 1,
            }
            yield _part(layer, d), replace(call, arguments=alone, output=(out, *(h[d] for h in last))), _one
        x = y


@converter(
    nn.LSTM, nn.GRU, nn.RNN, check=check, parts=parts, families=("torch.nn.LSTM", "torch.nn.GRU", "torch.nn.RNN")
)
def recurrent(call: Call) -> Steps:
    """nn.LSTM, also with proj_size (exactly an LSTM with recurrent weights R P, followed by P), nn.GRU, nn.RNN."""
    module, y = call.module, call.arguments["input"]
    directions, finals = 2 if module.bidirectional else 1, []
    for layer in range(module.num_layers):
        states = _given(call, slice(layer * directions, (layer + 1) * directions))
        if layer and module.training and module.dropout:
            y = F.dropout(y, module.dropout)
        outputs = []
        for d in range(directions):
            state = None if states is None else tuple(h[d] for h in states)
            out, *last = yield from _layer(call, _part(layer, d), y, state, _weights(module, layer, d), d == 1)
            outputs.append(out)
            finals.append(last)
        y = torch.cat(outputs, -1) if directions > 1 else outputs[0]
    h, c = (torch.stack(states) for states in zip(*((last[0], last[-1]) for last in finals), strict=True))
    return y, ((h, c) if isinstance(module, nn.LSTM) else h)


def _one(call: Call) -> Steps:
    a = call.arguments
    return (yield from _layer(call, "", a["input"], a["state"], a["weights"], a["reverse"]))


def _layer(call: Call, part: str, x: torch.Tensor, state: States | None, weights: Weights, reverse: bool) -> Steps:
    """One layer in one direction, x and its output in the module's layout: output and final states h (, c)."""
    arch, signals_of = next(read for cls, read in KINDS.items() if isinstance(call.module, cls))(call.module)
    layout, projection = _layout(call.module, x), weights.get("weight_hr")
    x = x[None] if layout == "TF" else x.transpose(0, 1) if layout == "TBF" else x
    signals, drive = signals_of(weights)(x.flip(1) if reverse else x)
    initial = None if state is None else _initial(call, state, projection)
    y, (c, h) = yield Core(arch, signals, drive, initial, part, from_the_end=reverse)
    y, h, c = y[:, :, 0], h[:, 0], c[:, 0, :, 0]
    if projection is not None:
        y, h = y @ projection.mT, h @ projection.mT
    y = y.flip(1) if reverse else y
    if layout == "TF":
        y, h, c = y[0], h[0], c[0]
    y = y.transpose(0, 1) if layout == "TBF" else y
    return (y, h, c) if isinstance(call.module, nn.LSTM) else (y, h)


def _part(layer: int, direction: int) -> str:
    return f"layer{layer}" + ".reverse" * direction


def _given(call: Call, rows: slice) -> States | None:
    """torch's initial states of a layer, by direction."""
    given = call.arguments.get("hx")
    return None if given is None else tuple(h[rows] for h in _states(given))


def _weights(module: nn.RNNBase, layer: int, direction: int) -> Weights:
    """The weights of one layer and direction, by their names without the suffix."""
    suffix = f"_l{layer}" + "_reverse" * direction
    kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
    return {k: getattr(module, k + suffix) for k in kinds if hasattr(module, k + suffix)}


def _alone(module: nn.RNNBase, layer: int, x: torch.Tensor, states: States | None) -> tuple[torch.Tensor, States]:
    """Output and final states of one layer, by torch: a module of one layer on the same weights."""
    kept = ("bias", "batch_first", "bidirectional")
    options: dict[str, Any] = {name: getattr(module, name) for name in kept}
    if isinstance(module, nn.RNN):
        options["nonlinearity"] = module.nonlinearity
    if isinstance(module, nn.LSTM):
        options["proj_size"] = module.proj_size
    base = next(cls for cls in KINDS if isinstance(module, cls))
    one = base(x.shape[-1], module.hidden_size, device="meta", **options)
    for name, _ in list(one.named_parameters()):
        weight = getattr(module, name.replace("_l0", f"_l{layer}")).detach()
        setattr(one, name, nn.Parameter(weight, requires_grad=False))
    y, last = one(x, states if states is None or len(states) == 2 else states[0])
    return y, _states(last)


def _states(h: Any) -> States:
    return tuple(h) if isinstance(h, (tuple, list)) else (h,)


def _initial(call: Call, state: States, projection: torch.Tensor | None) -> State:
    """torch's states of one direction, [B, n] or [n], as the state (x [B, 1, n, 1], y [B, 1, n])."""
    h, c = (s if s.dim() == 2 else s[None] for s in (state[0], state[-1]))
    x, y = c[:, None, :, None], h[:, None]
    if projection is None:
        return x, y
    full = y.double() @ torch.linalg.pinv(projection.double()).mT  # some y with P y = h: only P y enters the recurrence
    rounding = torch.finfo(y.dtype).eps ** 0.5
    if (full @ projection.double().mT - y).abs().max() > rounding * y.abs().max():
        raise ConversionError(f"the initial state of {call.where} is not in the range of its projection")
    return x, full.to(y.dtype)
