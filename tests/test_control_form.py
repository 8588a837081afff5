"""Control theory's convention: the same map, there and back, and python-control's own simulation agrees."""

import builtins

import numpy as np
import pytest
import torch

import dsf
from dsf import Dense, I, RealPart, System, diag
from dsf.reference import scan
from helpers import assert_close, numbers, relative, sampled

EXACT = 1e-10
B, T, H, N = 2, 9, 2, 3
ARCHITECTURES = dict(dsf.architectures())
OTHERS = "softmax_attention alibi deltaproduct mlstm rwkv4 lstm elman gru".split()  # no finite A, B, C, D of their own
LINEAR = [name for name in ARCHITECTURES if name not in OTHERS]
TIME_INVARIANT = ["s4d", "lssl"]


def built():
    """Systems of every combination of vectors and operators in B and C."""
    a, c = numbers(B, T, H, N, N) / 3, torch.complex(numbers(B, T, H, N, seed=1), numbers(B, T, H, N, seed=2))
    b, in_, out = (
        numbers(1, 1, H, N, seed=3),
        Dense(numbers(1, 1, H, N, 4, seed=4)),
        Dense(numbers(B, T, H, 4, N, seed=5)),
    )
    d = numbers(B, T, H, 1, seed=6)
    return {
        "channels": (System(A=Dense(a), B=b, C=c.real, D=d), 2),
        "vectors": (System(A=Dense(a), B=in_, C=out, D=d), 4),
        "vectors, D an operator": (System(A=Dense(a), B=in_, C=out, D=Dense(numbers(1, 1, H, 4, 4, seed=7))), 4),
        "vector in, number out": (System(A=Dense(a), B=in_, C=c.real), 4),
        "number in, vector out": (System(A=Dense(a), B=b, C=out), 1),
        "real part of vectors": (System(A=diag(c / 3), B=in_, C=RealPart(c)), 4),
        "structures": (System(A=I - 0.5 * dsf.outer(b), B=b, C=c.real, D=2.0), 2),
        "identity": (System(A=I, B=I, C=I, D=diag(b)), N),
    }


@pytest.mark.parametrize("name", LINEAR)
def test_architectures_in_control_form_are_the_same_map(name):
    arch = ARCHITECTURES[name]
    signals, u = sampled(arch, length=T)
    system = arch(**signals)
    control = system.to_control()
    assert control.reads == "before" and type(control.A) is type(system.A)
    assert_close(scan(control, u), scan(system, u), EXACT)
    assert isinstance(control.C, RealPart) == (name == "s4d")
    assert control.to_control() is control
    if name != "rwkv6":
        wrong = System(A=system.A, B=system.B, C=system.C, D=system.D, reads="before")
        assert relative(scan(wrong, u)[0], scan(system, u)[0]) > 1e-3


@pytest.mark.parametrize("name", built())
def test_vectors_and_operators_in_control_form(name):
    system, width = built()[name]
    u, x0 = numbers(B, T, H, width, seed=8), numbers(B, H, N, 1 if system.input_is_vector else width, seed=9)
    started = dsf.System(**{k: getattr(system, k) for k in ("A", "B", "C", "D")}, x0=x0)
    assert_close(scan(started.to_control(), u), scan(started, u), EXACT)


def test_there_and_back():
    """One head's matrices make a system again, and the same one."""
    system, width = built()["vectors"]
    one = System(A=system.A, B=system.B, C=system.C, D=system.D).slice(0, 1).map(lambda x: x[:1, :, :1])
    matrices = [M[0, 0, 0] for M in one.to_control().dense_operators()]
    back = System.from_control(tuple(M.numpy() for M in matrices))
    u = numbers(1, T, 1, width, seed=8)
    assert_close(scan(back, u), scan(one, u), EXACT)
    assert all(torch.equal(a[0, 0, 0], b) for a, b in zip(back.to_control().dense_operators(), matrices, strict=True))
    assert all(
        M.dtype == torch.float64 for M in System.from_control(tuple(M.float() for M in matrices)).dense_operators()
    )
    singular = System.from_control((np.zeros((2, 2)), np.ones((2, 1)), np.ones((1, 2)), np.zeros((1, 1))))
    assert scan(singular, torch.ones(1, 3, 1, 1, dtype=torch.float64))[0].flatten().tolist() == [0, 2, 2]


@pytest.mark.parametrize("head", [0, 1])
@pytest.mark.parametrize("name", TIME_INVARIANT)
def test_python_control_simulates_time_invariant_architectures(name, head):
    """S4D's complex state as a real one of twice the size."""
    control = pytest.importorskip("control")
    arch = ARCHITECTURES[name]
    signals, u = sampled(arch, length=T, n=N, p=1, ends=0.0)
    system = arch(**signals)
    sys = system.statespace(head=head)
    assert sys.dt == 1 and sys.nstates == (2 * N if name == "s4d" else N)
    assert max(abs(np.linalg.eigvals(sys.A))) <= 1 + 1e-12
    response = control.forced_response(sys, U=u[0, :, head, 0].numpy())
    y = scan(system, u)[0][0, :, head, 0]
    assert relative(torch.tensor(response.outputs), y) < EXACT
    other = control.forced_response(system.statespace(head=1 - head), U=u[0, :, head, 0].numpy())
    assert relative(torch.tensor(other.outputs), y) > 1e-3
    if name == "lssl":
        again = System.from_control(sys)
        assert relative(scan(again, u[:1, :, head : head + 1])[0][0, :, 0, 0], y) < EXACT


def test_python_control_simulates_vectors():
    control = pytest.importorskip("control")
    system, width = built()["real part of vectors"]
    one = system.slice(3, 4)
    u = numbers(1, T, 1, width, seed=8)
    response = control.forced_response(one.statespace(batch=1, head=1), U=u[0, :, 0].T.numpy())
    alone = one.map(lambda x: x[-1:, :, -1:])
    assert relative(torch.tensor(np.atleast_2d(response.outputs)).T, scan(alone, u)[0][0, :, 0]) < EXACT


def test_what_python_control_cannot_hold():
    control = pytest.importorskip("control")
    arch = ARCHITECTURES["mamba2"]
    varying = arch(**sampled(arch)[0])
    with pytest.raises(ValueError, match=r"7 time steps; take one of them with system.slice\(t, t \+ 1\)"):
        varying.statespace()
    assert varying.slice(2, 3).statespace(batch=0, head=1).nstates == N
    spiral = built()["real part of vectors"][0].slice(0, 1)
    with pytest.raises(ValueError, match="output of this one is complex"):
        System(A=spiral.A, B=spiral.B, C=spiral.C.c).statespace(0, 0)
    with pytest.raises(ValueError, match="output of this one is complex"):
        System(A=0.5 * I, B=spiral.B, C=spiral.C.c.real, D=Dense(1j * numbers(1, 1, H, 1, 4))).statespace(0, 0)
    with pytest.raises(ValueError, match=r"continuous time; sample it first"):
        System.from_control(control.ss([[-1.0]], [[1.0]], [[1.0]], [[0.0]]))
    sampled_ = System.from_control(control.ss([[-1.0]], [[1.0]], [[1.0]], [[0.0]]).sample(0.1))
    assert sampled_.A.M.item() == pytest.approx(np.exp(-0.1))
    for name in ("softmax_attention", "deltaproduct"):
        with pytest.raises(ValueError, match="only a linear system"):
            ARCHITECTURES[name](**sampled(ARCHITECTURES[name])[0]).to_control()


@pytest.mark.parametrize(
    "source, error, message",
    [
        ("A", TypeError, "StateSpace or a tuple"),
        ((np.eye(2), np.ones((2, 1)), np.ones((1, 2))), TypeError, "StateSpace or a tuple"),
        (
            (np.eye(2), np.ones((3, 1)), np.ones((1, 2)), np.zeros((1, 1))),
            ValueError,
            "B should be 2 x 1 .* got \\(3, 1\\)",
        ),
        ((np.eye(2), np.ones((2, 1)), np.ones((1, 3)), np.zeros((1, 1))), ValueError, "C should be 1 x 2"),
        ((np.eye(2), np.ones((2, 1)), np.ones((1, 2)), np.zeros((2, 2))), ValueError, "D should be 1 x 1"),
        ((np.eye(2) * np.nan, np.ones((2, 1)), np.ones((1, 2)), np.zeros((1, 1))), ValueError, "A holds NaN"),
    ],
)
def test_wrong_sources(source, error, message):
    with pytest.raises(error, match=message):
        System.from_control(source)


def test_a_missing_extra_is_named(monkeypatch):
    imported = builtins.__import__

    def without_control(name, *args, **kwargs):
        if name.split(".")[0] == "control":
            raise ModuleNotFoundError("No module named 'control'", name="control")
        return imported(name, *args, **kwargs)

    monkeypatch.setattr("importlib.import_module", without_control)
    with pytest.raises(ImportError, match=r"""needs the extra "control": pip install 'dsf-toolkit\[control\]'"""):
        ARCHITECTURES["lssl"](**sampled(ARCHITECTURES["lssl"])[0]).statespace()
