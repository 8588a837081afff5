"""Trains a small byte-level LSTM on the source of Python's standard library, in about a minute on two CPU cores.

    python examples/train_small_models.py                         # 60 seconds of training
    python examples/train_small_models.py --steps 3000 --seed 0   # the same weights again, on the same machine

The text is the top-level .py files of the running Python's standard library. A file is held out by a hash of its name, so
every Python version agrees on it. The model has to beat a byte bigram on the held-out files, or the exit code is 1.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import platform
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch.nn.functional import cross_entropy

from dsf.checkpoints import ByteModel, bytes_of, save_checkpoint

CELL, WIDTH, HIDDEN, LAYERS = "LSTM", 48, 160, 1
BATCH, CHUNK = 32, 128
LEARNING_RATE, WARMUP, WEIGHT_DECAY, CLIP = 4e-3, 0.02, 0.01, 1.0
HELD_OUT_ONE_IN = 10
# Written by the build or the administrator of one machine: they differ everywhere and hold its paths.
LOCAL_FILES = ("_sysconfigdata", "sitecustomize", "usercustomize")


def library_files() -> list[Path]:
    """The top-level .py files of the standard library, by name; no tests, no packages, nothing of this machine."""
    folder = Path(sysconfig.get_path("stdlib"))
    files = [f for f in sorted(folder.glob("*.py")) if not f.name.startswith(LOCAL_FILES) and f.stat().st_size > 1]
    if len(files) < 50:
        raise SystemExit(f"only {len(files)} source files in {folder}: this Python comes without its library's source")
    return files


def is_held_out(name: str) -> bool:
    """Whether the file of this name is held out: one in ten, by the hash of the name alone."""
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % HELD_OUT_ONE_IN == 0


def read(file: Path) -> torch.Tensor:
    """The bytes of a source file, int64 [T], with the line ends of Unix."""
    return bytes_of(file.read_bytes().replace(b"\r\n", b"\n"))[0]


class Bigram:
    """p(b | a) = (n(a b) + strength p(b)) / (n(a) + strength): backs off to the bytes' add-one frequencies p(b)."""

    def __init__(self, texts: list[torch.Tensor], strength: float = 1.0):
        pairs = torch.zeros(256 * 256, dtype=torch.float64)
        for text in texts:
            pairs += torch.bincount(256 * text[:-1] + text[1:], minlength=256 * 256)
        pairs = pairs.view(256, 256)
        single = (pairs.sum(0) + 1) / (pairs.sum() + 256)
        self.log_p = ((pairs + strength * single) / (pairs.sum(1, keepdim=True) + strength)).log()

    def bits_per_byte(self, texts: list[torch.Tensor]) -> float:
        """Mean of -log2 p over every byte of the texts but the first of each."""
        total = sum(-self.log_p[text[:-1], text[1:]].sum().item() for text in texts)
        return total / math.log(2) / sum(len(text) - 1 for text in texts)


@torch.no_grad()
def bits_per_byte(model: ByteModel, texts: list[torch.Tensor], advance: Callable = lambda bytes_done: None) -> float:
    """Mean of -log2 p over every byte of the texts but the first of each; each text starts from the zero state."""
    model.eval()
    total, done = 0.0, 0
    for text in texts:
        state = None
        for start in range(0, len(text) - 1, 4096):
            piece = text[start : start + 4097]
            logits, state = model.advance(piece[None, :-1], state)
            total += cross_entropy(logits[0].double(), piece[1:], reduction="sum").item()
            done += len(piece) - 1
            advance(len(piece) - 1)
    return total / math.log(2) / done


def new_model() -> ByteModel:
    """A ByteModel whose LSTM starts by remembering: forget gates near sigmoid(1)."""
    model = ByteModel(CELL, WIDTH, HIDDEN, LAYERS)
    if CELL == "LSTM":
        for name, parameter in model.recurrent.named_parameters():
            if name.startswith("bias_ih"):
                parameter.data[HIDDEN : 2 * HIDDEN] = 1.0
    return model


def train(
    texts: list[torch.Tensor],
    seconds: float,
    steps: int | None,
    seed: int,
    report: Callable[[float, int, float], None] = lambda fraction, step, loss: None,
) -> tuple[ByteModel, int]:
    """Truncated back-propagation on BATCH streams through the texts; returns the model and the steps taken.

    The texts are joined in a random order, anew in each epoch, and cut into BATCH streams. A stream is read in chunks of CHUNK
    bytes, each from the (detached) state in which the one before it ended. `report` gets the fraction of the budget
    that is spent, the step, and the running loss in bits per byte.
    """
    torch.manual_seed(seed)
    model = new_model().train()
    optimiser = torch.optim.AdamW(model.parameters(), LEARNING_RATE, betas=(0.9, 0.99), weight_decay=WEIGHT_DECAY)
    begin, step, running = time.perf_counter(), 0, None
    while True:
        joined = torch.cat([texts[i] for i in torch.randperm(len(texts)).tolist()])
        streams = joined[: len(joined) // BATCH * BATCH].view(BATCH, -1)
        state = None
        for start in range(0, streams.shape[1] - CHUNK, CHUNK):
            fraction = step / steps if steps else (time.perf_counter() - begin) / seconds
            if fraction >= 1:
                return model.eval(), step
            rate = min(1.0, fraction / WARMUP + 0.02) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * fraction)))
            for group in optimiser.param_groups:
                group["lr"] = LEARNING_RATE * rate
            chunk = streams[:, start : start + CHUNK + 1]
            logits, state = model.advance(chunk[:, :-1], state)
            state = tuple(part.detach() for part in state) if isinstance(state, tuple) else state.detach()
            loss = cross_entropy(logits.flatten(0, 1), chunk[:, 1:].flatten())
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimiser.step()
            bits = loss.item() / math.log(2)
            running = bits if running is None else 0.98 * running + 0.02 * bits
            step += 1
            report(fraction, step, running)
