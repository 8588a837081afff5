"""Programs compiled for a GPU that need not be there: what a run would launch, in registers, memory and spills."""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from dsf_kernels.gpu import configurations
from dsf_kernels.registry import kernels

SHARED = {80: 163 * 1024, 90: 227 * 1024}  # bytes of shared memory that a program may have, by compute capability
SMALL = {89: 99 * 1024}  # on cards for graphics
POINTERS = {torch.float32: "*fp32", torch.float16: "*fp16", torch.bfloat16: "*bf16"}
POINTERS |= {torch.int64: "*i64", torch.int32: "*i32"}


@dataclass(frozen=True)
class Compiled:
    """A program: registers of a thread, bytes of its stack (what did not fit the registers), bytes of shared memory."""

    name: str
    registers: int
    stack: int
    shared: int
    threads: int


def launches(monkeypatch, run, *arguments, capability=90):
    """What a run on tensors without memory launches on such a device: (program, grid, arguments, constants)."""
    found = []
    monkeypatch.setattr(configurations, "shared_memory", lambda device: (SHARED | SMALL)[capability])
    kernels()  # every module of kernels is there

    def launch(program, grid, like, *given, **constants):
        if all(grid):
            found.append((program, grid, given, constants))

    for name, module in list(sys.modules.items()):
        if name.startswith("dsf_kernels.gpu.") and hasattr(module, "launch"):
            monkeypatch.setattr(module, "launch", launch)
    with torch.device("meta"):
        run(*arguments)
    return found


def compiled(launch, capability=90):
    """Compiles one launch for a device of this compute capability."""
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    program, _, given, constants = launch
    options = {k: constants[k] for k in ("num_warps", "num_stages") if k in constants}
    fixed = {k: v for k, v in constants.items() if k not in options}
    signature, attrs = {}, {}
    for place, (name, x) in enumerate(zip(program.arg_names, given, strict=False)):
        if isinstance(x, torch.Tensor):
            signature[name], attrs[(place,)] = POINTERS[x.dtype], [["tt.divisibility", 16]]
        elif isinstance(x, int) and x == 1:
            signature[name], fixed[name] = "constexpr", 1
        elif isinstance(x, float):
            signature[name] = "fp32"
        else:
            signature[name] = "i32" if abs(x) < 2**31 else "i64"
            if x % 16 == 0:
                attrs[(place,)] = [["tt.divisibility", 16]]
    signature |= {name: "constexpr" for name in fixed}
    signature = {name: signature[name] for name in program.arg_names}
    source = ASTSource(fn=program, signature=signature, constexprs=fixed, attrs=attrs)
    made = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    path = Path(f"/tmp/{made.hash}.cubin")
    path.write_bytes(made.asm["cubin"])
    said = subprocess.run([tool, "--dump-resource-usage", path], capture_output=True, text=True, check=True).stdout
    path.unlink()
    usage = {k: int(v) for k, v in re.findall(r"(REG|STACK):(\d+)", said)}
    return Compiled(program.__name__, usage["REG"], usage["STACK"], made.metadata.shared, 32 * made.metadata.num_warps)
