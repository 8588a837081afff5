"""The Triton kernel of scalar decays against the reference."""

import pytest
import torch

import dsf
from dsf import I, LogDecay, System, Vector, architecture, decay
from kernel_cases import MIN, check_causal, check_reference, draw, poisoned_memory, with_ends  # noqa: F401
from long_cases import some_slow
from triton_cases import DEVICE, FP32, LENGTHS, MARKS, check_packed, many_segments  # noqa: F401

pytestmark = [*MARKS, pytest.mark.usefixtures("poisoned_memory")]
KERNEL = "triton_scalar"


@architecture("One decay for all, read before", register=False)
def read_before(q=Vector, k=Vector, g=LogDecay):
    return System(A=decay(g) * I, B=k, C=q, reads="before")


def check(arch, length, n=5, p=3, **ends):
    signals, u = draw(arch, length, heads=2, n=n, p=p)
    check_reference(KERNEL, arch, with_ends(signals, **ends), u, torch.float32, FP32, device=DEVICE)


@pytest.mark.parametrize("length", some_slow(LENGTHS, 63, 64))
@pytest.mark.parametrize("name", ["linear_attention", "mamba2"])
def test_agrees_with_the_reference(name, length):
    check(dsf.architecture_named(name), length)


@pytest.mark.parametrize("length", [1, 65])
def test_reads_before(length):
    check(read_before, length)


def test_resets_and_strong_decays_are_exact():
    check(read_before, 130, g=(-20.0, MIN, 0.0, -200.0))
    check(dsf.architecture_named("retnet"), 130)


@pytest.mark.parametrize("name", ["mamba2", "retnet"])
def test_segments_of_time_meet(name, many_segments):  # noqa: F811
    check(dsf.architecture_named(name), 200)


def test_several_blocks_of_channels():
    check(dsf.architecture_named("mamba2"), 70, n=20, p=70)


def test_the_future_does_not_reach_the_past():
    check_causal(
        KERNEL, dsf.architecture_named("mamba2"), heads=2, n=5, p=3, batch=1, dtype=torch.float32, device=DEVICE
    )


@pytest.mark.parametrize("arch", [dsf.architecture_named("mamba2"), read_before], ids=lambda arch: arch.name)
def test_sequences_in_one_pack(arch):
    check_packed(KERNEL, arch)


def test_segments_of_packed_sequences(many_segments):  # noqa: F811
    check_packed(KERNEL, dsf.architecture_named("retnet"), ends=(0, 10, 150, 330), heads=1)


def test_short_chunks_of_packed_sequences(monkeypatch):
    """As fp32 has them on a device."""
    monkeypatch.setattr("dsf_kernels.gpu.walk_cut.INTERPRETED", False)
    check_packed(KERNEL, dsf.architecture_named("mamba2"))
