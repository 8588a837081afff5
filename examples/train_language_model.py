"""Trains a small language model whose sequence layers are any registered architecture, on a CPU in about a minute.

    python examples/train_language_model.py                                   # gated DeltaNet
    python examples/train_language_model.py --architecture mamba2 --steps 600 --sample 300
    python examples/train_language_model.py --list

The text is the source of the running Python's standard library, byte by byte (train_small_models.py, which has models
that are trained for longer and measured). Whatever the architecture, the model is the same: an embedding, blocks of
[norm, dsf.Mixer, norm, MLP] and a linear head. An architecture of your own works by its name once it is registered.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from train_small_models import THREADS, is_held_out, library_files, read

import dsf
from dsf.checkpoints import bytes_of
from dsf.cli_output import tracked

WARMUP, WEIGHT_DECAY, CLIP = 0.05, 0.01, 1.0
HELD_OUT_WINDOWS = 128
PROMPT = "def "


class Block(nn.Module):
    """x + mixer(norm(x)), then x + MLP(norm(x)); what the mixer carries goes from call to call."""

    def __init__(self, architecture: str, width: int, heads: int):
        super().__init__()
        self.norms = nn.ModuleList(nn.RMSNorm(width) for _ in range(2))
        self.mixer = dsf.Mixer(architecture, width, heads, conv=4, gate=True, norm="rms")
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor, cache: Any = None) -> tuple[torch.Tensor, Any]:
        return self._onward(x, *self.mixer(self.norms[0](x), cache))

    def step(self, x: torch.Tensor, cache: Any) -> tuple[torch.Tensor, Any]:
        return self._onward(x, *self.mixer.step(self.norms[0](x), cache))

    def _onward(self, x: torch.Tensor, y: torch.Tensor, cache: Any) -> tuple[torch.Tensor, Any]:
        x = x + y
        return x + self.mlp(self.norms[1](x)), cache


class LanguageModel(nn.Module):
    """Bytes [B, T] -> logits [B, T, 256] and the caches of the blocks, from which `step` goes on with one byte [B]."""

    def __init__(self, architecture: str, layers: int, width: int, heads: int):
        super().__init__()
        self.embedding = nn.Embedding(256, width)
        self.blocks = nn.ModuleList(Block(architecture, width, heads) for _ in range(layers))
        self.norm, self.head = nn.RMSNorm(width), nn.Linear(width, 256)

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, list[Any]]:
        return self._run(tokens, self.blocks, [None] * len(self.blocks))

    def step(self, token: torch.Tensor, caches: list[Any]) -> tuple[torch.Tensor, list[Any]]:
        return self._run(token, [block.step for block in self.blocks], caches)

    def _run(self, tokens: torch.Tensor, blocks: Any, caches: list[Any]) -> tuple[torch.Tensor, list[Any]]:
        x, after = self.embedding(tokens), []
        for block, cache in zip(blocks, caches, strict=True):
            x, cache = block(x, cache)
            after.append(cache)
        return self.head(self.norm(x)), after


def loss_of(model: nn.Module, windows: torch.Tensor) -> torch.Tensor:
    """Mean of -log p (nats) of each byte of windows [B, T + 1] but the first, from those before it in its window."""
    return cross_entropy(model(windows[:, :-1])[0].flatten(0, 1), windows[:, 1:].flatten())


def rate(step: int, steps: int) -> float:
    """A linear warm-up, then a cosine to zero."""
    warmup = max(1, round(WARMUP * steps))
    return min((step + 1) / warmup, 0.5 * (1 + math.cos(math.pi * step / steps)))


def train(model: nn.Module, text: torch.Tensor, options: argparse.Namespace) -> float:
    """AdamW on windows from random places of the text; tokens per second."""
    optimiser = torch.optim.AdamW(model.parameters(), options.learning_rate, (0.9, 0.99), weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate(step, options.steps))
    offsets, begin = torch.arange(options.length + 1), time.perf_counter()
    for step in tracked(range(1, options.steps + 1), f"training {options.architecture}", options.steps):
        starts = torch.randint(len(text) - options.length, (options.batch, 1))
        loss = loss_of(model, text[starts + offsets].to(options.device))
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimiser.step()
        schedule.step()
        if step % max(1, options.steps // 10) == 0 or step == 1:
            print(f"step {step:5d}  {in_words(loss.item())}", flush=True)
    return options.steps * options.batch * options.length / (time.perf_counter() - begin)


@torch.no_grad()
def held_out_loss(model: nn.Module, text: torch.Tensor, options: argparse.Namespace) -> float:
    """The loss on windows evenly spread over the text, in nats."""
    starts = torch.linspace(0, len(text) - options.length - 1, HELD_OUT_WINDOWS).long()
    windows = text[starts[:, None] + torch.arange(options.length + 1)].to(options.device)
    return sum(loss_of(model, w).item() * len(w) for w in windows.split(options.batch)) / len(windows)


@torch.no_grad()
def sample(model: LanguageModel, length: int, device: str) -> str:
    """The prompt, read at once, and what the model goes on with: one byte at a time, from the carried states."""
    text = bytes_of(PROMPT).to(device)
    logits, caches = model(text)
    logits = logits[:, -1]
    for _ in range(length):
        byte = logits.softmax(-1).multinomial(1)
        text = torch.cat([text, byte], 1)
        logits, caches = model.step(byte[:, 0], caches)
    return bytes(text[0].tolist()).decode("utf-8", errors="replace")


def in_words(nats: float) -> str:
    return f"{nats:.4f} nats, {nats / math.log(2):.4f} bits per byte"


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"should be a whole number >= 1, got {text!r}")
    return int(text)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--architecture", default="gated_deltanet", help="a name in --list (default %(default)s)")
    sizes = {"layers": 2, "width": 96, "heads": 4, "steps": 300, "length": 128, "batch": 8}
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=positive, default=default, metavar="N", help="default %(default)s")
    parser.add_argument("--learning-rate", type=float, default=4e-3, help="the largest (default %(default)s)")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, ...")
    parser.add_argument("--compile", action="store_true", help="torch.compile the model: needs a C++ compiler on a CPU")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sample", type=int, default=200, metavar="N", help="bytes written at the end (default 200)")
    parser.add_argument("--out", type=Path, metavar="FILE.safetensors", help="where the weights go")
    parser.add_argument("--list", action="store_true", help="the architectures, and stop")
    return parser


def main(argv: list[str] | None = None) -> float:
    """Trains, measures, writes a sample; returns the held-out loss in nats."""
    parser = arguments()
    options = parser.parse_args(argv)
    if options.list:
        for name, architecture in dsf.architectures().items():
            print(f"{name:20s}{architecture.title}")
        raise SystemExit(0)
    if not 0 < options.learning_rate < float("inf"):
        parser.error(f"--learning-rate should be positive and finite, got {options.learning_rate}")
    if options.out and (options.out.suffix != ".safetensors" or not options.out.parent.is_dir()):
        parser.error(f"--out should be FILE.safetensors in a folder that is there, got {options.out}")
    if options.width == options.heads:
        parser.error("--width should be larger than --heads: a head of one channel has nothing to normalise")
    torch.set_num_threads(THREADS)
    torch.manual_seed(options.seed)
    try:
        model = LanguageModel(options.architecture, options.layers, options.width, options.heads).to(options.device)
    except (KeyError, TypeError, ValueError, RuntimeError, AssertionError) as error:
        parser.error(str(error.args[0]))  # an unknown name, no trainable layer, sizes that do not fit, no such device
    if options.compile:
        model.compile()
    texts = [(is_held_out(file.name), read(file)) for file in library_files()]
    training, held_out = (torch.cat([text for held, text in texts if held is which]) for which in (False, True))
    if options.length >= min(len(training), len(held_out)):
        parser.error(f"--length should be less than the texts' {min(len(training), len(held_out))} bytes")
    print(f"{options.architecture}: {sum(p.numel() for p in model.parameters())} parameters, {len(training)} bytes")
    speed = train(model, training, options)
    frequencies = (torch.bincount(training, minlength=256) + 1.0).log()
    frequencies -= frequencies.logsumexp(0)
    nats = held_out_loss(model, held_out, options)
    print(f"held out  {in_words(nats)}; {speed:.0f} bytes per second of training")
    print(f"held out  {in_words(-frequencies[held_out].mean().item())}: the frequencies of bytes alone")
    if options.sample > 0:
        print(f"\n{sample(model, options.sample, options.device)}")
    if options.out:
        from safetensors.torch import save_file

        save_file(model.state_dict(), options.out, metadata={"architecture": options.architecture})
        print(f"\nsaved to {options.out}")
    return nats


if __name__ == "__main__":
    main()
