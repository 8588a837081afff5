"""The shipped hybrid with its negative eigenvalues taken away: the loss changes, and the verdict, as the table says."""

from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

import dsf
from dsf.checkpoints import bytes_of
from dsf.edits import clamp
from dsf.opened_models import open_model
from dsf_analysis.report import layer_report

pytest.importorskip("transformers")
MODEL = Path(__file__).parent.parent / "examples" / "models" / "byte_olmo_hybrid"


def nats(module, tokens):
    with torch.no_grad():
        logits = module(tokens).logits[:, :-1]
    return cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).item()


def test_beta_clamped_to_one():
    import json.decoder

    opened = open_model(MODEL)
    tokens = bytes_of(Path(json.decoder.__file__))[:, :768]
    conversion = edited = dsf.convert(opened.module, opened.inputs(tokens))
    paths = [path for path, layer in conversion.layers.items() if "beta" in layer.signals]
    assert len(paths) == 2
    for path in paths:
        edited = edited.edit(path, beta=clamp(0, 1))
    own, same, changed = (nats(m, tokens) for m in (opened.module, conversion.module(), edited.module()))
    assert abs(same - own) < 1e-4 and abs(changed - own) > 5e-3
    for path in paths:
        before, after = (layer_report(c.layers[path]) for c in (conversion, edited))
        assert before.parity.answer is True and after.parity.answer is False and after.parity.check()
        assert dsf.spectrum(conversion.layers[path].architecture).parts == (dsf.Interval(-1, 1),)
        assert dsf.spectrum(edited.layers[path].architecture).parts == (dsf.Interval(0, 1),)
        eigenvalues = [dsf.spectrum(c.layers[path]).parts[0] for c in (conversion, edited)]
        assert eigenvalues[0].lo < -0.1 and eigenvalues[1].lo >= 0
    attention = next(path for path in conversion.layers if path not in paths)
    assert conversion.layers[attention].architecture is edited.layers[attention].architecture
