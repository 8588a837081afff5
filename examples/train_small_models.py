"""Trains small byte-level language models on the source of Python's standard library, each in about a minute on a CPU.

    python examples/train_small_models.py                         # the LSTM, 60 seconds of training
    python examples/train_small_models.py --steps 6400 --seed 0   # the same weights again, on the same machine
    python examples/train_small_models.py --model byte_mamba2     # one of transformers' (small_models.py)
    python examples/train_small_models.py --model all             # all four, 60 seconds each

The text is the top-level .py files of the running Python's standard library. A file is held out by a hash of its name,
so every Python version agrees on it. A model has to beat a byte bigram on the held-out files, or the exit code is 1.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import platform
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch.nn.functional import cross_entropy

from dsf.checkpoints import ByteModel, bytes_of, save_checkpoint

MODELS = ("byte_lstm", "byte_mamba2", "byte_olmo_hybrid", "byte_gpt2")
CELL, WIDTH, HIDDEN, LAYERS = "LSTM", 48, 160, 1
BATCH, CHUNK = 16, 64
LEARNING_RATE, WARMUP, WEIGHT_DECAY, CLIP = 8e-3, 0.02, 0.01, 1.0
HELD_OUT_ONE_IN = 10
# Matrices this small lose more by waiting for a second thread than they gain, above all on a machine that is shared.
THREADS = 1
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
    texts = sorted(texts, key=len, reverse=True)  # so that the texts not yet at their end are the first ones
    total, state = 0.0, None
    for start in range(0, len(texts[0]) - 1, 512):
        pieces = [text[start : start + 513] for text in texts if len(text) - 1 > start]
        if state is not None:
            parts = state if isinstance(state, tuple) else (state,)
            parts = tuple(part[:, : len(pieces)].contiguous() for part in parts)
            state = parts if isinstance(state, tuple) else parts[0]
        padded = torch.nn.utils.rnn.pad_sequence(pieces, batch_first=True, padding_value=-1)
        logits, state = model.advance(padded[:, :-1].clamp(min=0), state)
        targets = padded[:, 1:].flatten()
        total += cross_entropy(logits.flatten(0, 1), targets, ignore_index=-1, reduction="none").double().sum().item()
        advance(int((targets >= 0).sum()))
    return total / math.log(2) / sum(len(text) - 1 for text in texts)


class LSTM:
    """The LSTM: how it is made, trained and described. `small_models.Recipe` is the same for transformers' models."""

    name, learning_rate, batch, chunk = "byte_lstm", LEARNING_RATE, BATCH, CHUNK
    bits_per_byte = staticmethod(bits_per_byte)

    def new(self) -> ByteModel:
        """A ByteModel whose LSTM starts by remembering: forget gates near sigmoid(1)."""
        model = ByteModel(CELL, WIDTH, HIDDEN, LAYERS)
        for name, parameter in model.recurrent.named_parameters():
            if name.startswith("bias_ih"):
                parameter.data[HIDDEN : 2 * HIDDEN] = 1.0
        return model

    def parameter_groups(self, model: ByteModel, weight_decay: float) -> list[dict[str, Any]]:
        return [{"params": list(model.parameters()), "weight_decay": weight_decay}]

    def losses(self, model: ByteModel, texts: list[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Truncated back-propagation on BATCH streams through the texts: the loss of one chunk after the other.

        The texts are joined in a random order, anew in each epoch, and cut into BATCH streams. A stream is read in
        chunks of CHUNK bytes, each from the (detached) state in which the one before it ended.
        """
        while True:
            joined = torch.cat([texts[i] for i in torch.randperm(len(texts)).tolist()])
            streams = joined[: len(joined) // BATCH * BATCH].view(BATCH, -1)
            state = None
            for start in range(0, streams.shape[1] - CHUNK, CHUNK):
                chunk = streams[:, start : start + CHUNK + 1]
                logits, state = model.advance(chunk[:, :-1], state)
                state = tuple(part.detach() for part in state)
                yield cross_entropy(logits.flatten(0, 1), chunk[:, 1:].flatten())

    def save(self, model: ByteModel, folder: Path) -> None:
        save_checkpoint(model, folder, card="not measured yet")

    def card(self, model: ByteModel, held_out: list[torch.Tensor], figures: dict[str, Any]) -> str:
        """The model card: what was measured in this run, and nothing else."""
        return CARD.format(cell=CELL, width=WIDTH, hidden=HIDDEN, layers=LAYERS, batch=BATCH, chunk=CHUNK, **figures)


def train(
    recipe: Any,
    texts: list[torch.Tensor],
    seconds: float,
    steps: int | None,
    seed: int,
    report: Callable[[float, int, float], None] = lambda fraction, step, loss: None,
) -> tuple[torch.nn.Module, int]:
    """AdamW on the recipe's losses until the budget is spent; returns the model and the steps taken.

    `report` gets the fraction of the budget that is spent, the step, and the running loss in bits per byte.
    """
    torch.manual_seed(seed)
    model = recipe.new().train()
    optimiser = torch.optim.AdamW(recipe.parameter_groups(model, WEIGHT_DECAY), recipe.learning_rate, betas=(0.9, 0.99))
    losses = recipe.losses(model, texts)
    begin, step, running = time.perf_counter(), 0, None
    while True:
        fraction = step / steps if steps else (time.perf_counter() - begin) / seconds
        if fraction >= 1:
            return model.eval(), step
        rate = min(1.0, fraction / WARMUP + 0.02) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * fraction)))
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate * rate * group.get("slower", 1.0)
        loss = next(losses)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimiser.step()
        bits = loss.item() / math.log(2)
        running = bits if running is None else 0.98 * running + 0.02 * bits
        step += 1
        report(fraction, step, running)


# What every card says alike, whatever the model.
DATA = """\
The top-level .py files of the standard library of CPython {python}, as bytes, with Unix line ends: no packages, no test
directories, no files that the build writes (`_sysconfigdata*`). A file is held out when the SHA-256 of its name, as
an integer, is divisible by {one_in}: {held_files} held-out files ({held_bytes} bytes), {train_files} training files
({train_bytes} bytes). CPython's source is under the PSF licence."""

AGAIN = """\
```
{command}
```

With --steps, the same seed, Python and torch on the same machine give the same training; other machines may round
differently. With --seconds the schedule follows the clock."""

CARD = """\
# A byte-level {cell} trained on the source of the Python standard library

A language model over bytes, small enough to look into: Embedding(256, {width}) -> {cell}({hidden}, {layers} layer) ->
Linear({hidden}, 256). It gives the logits of the next byte. It is an example for dsf, not a tool for writing code.

```python
from dsf.checkpoints import bytes_of, load_checkpoint

model, config = load_checkpoint("examples/models/byte_lstm")
logits = model(bytes_of("import os"))  # [1, 9, 256]
```

## Measured

| | held-out bits per byte |
|---|---|
| this model | {model_bits} |
| byte bigram, add-one backoff, counted on the same training files | {bigram_bits} |

The mean of -log2 p over every byte of the held-out files but the first of each; both see exactly the same bytes.
Each file starts from the zero state. The running training loss ended at {train_bits} bits per byte.

| | |
|---|---|
| parameters | {parameters} |
| model.safetensors | {size} bytes, float32 |

## Data and split

{data}

## Training

{steps} steps of AdamW on {batch} streams in chunks of {chunk} bytes: truncated back-propagation, the state carried from
chunk to chunk. Learning rate {rate} with a short warm-up, then a cosine; weight decay {decay}, gradients clipped at
norm {clip}; seed {seed}. It took {seconds} seconds of wall time on one CPU thread (torch {torch}).
The settings were chosen by the held-out loss of a few short runs, so its held-out figure is slightly optimistic.

## Limitations

- It has seen Python source of one style and era; other text was not measured. What it generates is not to be run.
- One seed; no variance was measured. Held-out files share authors, idioms and licence texts with the training files.
- Other CPython versions have other files under these names: there the held-out figure will differ.
- It was trained on chunks of {chunk} bytes: nothing taught it to use much longer dependencies.

## How to make it again

{again}
"""


def small_models() -> ModuleType:
    """The recipes of transformers' models, imported when they are needed: the LSTM needs torch alone."""
    sys.path.insert(0, str(Path(__file__).parent))
    import small_models

    return small_models


def make(recipe: Any, options: argparse.Namespace, training: list[torch.Tensor], held_out: list[torch.Tensor]) -> bool:
    """Trains, measures and saves one model; False where it does not beat the bigram."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[loss]}"))
    held_bytes = sum(map(len, held_out))
    train_bits = math.nan
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        task = progress.add_task(f"training {recipe.name}", total=1.0, loss="")

        def report(fraction: float, step: int, bits: float) -> None:
            nonlocal train_bits
            train_bits = bits
            progress.update(task, completed=fraction, loss=f"{bits:.3f} bits/byte")
            if step % 400 == 0:
                print(f"step {step:6d}  train {bits:.3f} bits per byte", flush=True)

        begin, cpu_begin = time.perf_counter(), time.process_time()
        model, steps = train(recipe, training, options.seconds, options.steps, options.seed, report)
        seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - cpu_begin
        progress.update(task, completed=1.0)
        task = progress.add_task("held out", total=held_bytes - len(held_out), loss="")
        model_bits = recipe.bits_per_byte(model, held_out, lambda done: progress.advance(task, done))

    bigram_bits = Bigram(training).bits_per_byte(held_out)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"train    {train_bits:.4f} bits per byte after {steps} steps ({seconds:.0f} s, {cpu_seconds:.0f} s of CPU)")
    print(f"held out {model_bits:.4f} bits per byte: {recipe.name} of {parameters} parameters")
    print(f"held out {bigram_bits:.4f} bits per byte: byte bigram")
    if not model_bits < bigram_bits:  # also where the loss is NaN
        print("the model does not beat the bigram: nothing is saved; train it longer", file=sys.stderr)
        return False

    figures = dict(model_bits=f"{model_bits:.3f}", bigram_bits=f"{bigram_bits:.3f}", train_bits=f"{train_bits:.3f}")
    figures |= dict(decay=WEIGHT_DECAY, clip=CLIP, rate=recipe.learning_rate, steps=steps, seed=options.seed)
    figures |= dict(
        parameters=parameters, seconds=f"{seconds:.0f}", cpu_seconds=f"{cpu_seconds:.0f}", torch=torch.__version__
    )
    spent = f"--steps {options.steps}" if options.steps else f"--seconds {options.seconds:g}"
    which = "" if recipe.name == LSTM.name else f"--model {recipe.name} "
    figures["again"] = AGAIN.format(
        command=f"python examples/train_small_models.py {which}{spent} --seed {options.seed}"
    )
    figures["data"] = DATA.format(
        python=platform.python_version(),
        one_in=HELD_OUT_ONE_IN,
        held_files=len(held_out),
        held_bytes=held_bytes,
        train_files=len(training),
        train_bytes=sum(map(len, training)),
    )
    folder = options.out / recipe.name
    recipe.save(model, folder)
    figures["size"] = (folder / "model.safetensors").stat().st_size
    (folder / "README.md").write_text(recipe.card(model, held_out, figures), encoding="utf-8")
    print(f"saved to {folder}")
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=(*MODELS, "all"), default=LSTM.name, help="which one (default byte_lstm)")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--seconds", type=float, default=60.0, help="training time of each model (default 60)")
    budget.add_argument("--steps", type=int, help="training steps instead of a time: reproducible")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "models", help="where their folders go")
    options = parser.parse_args()
    if options.seconds <= 0 or (options.steps is not None and options.steps <= 0):
        parser.error("--seconds and --steps should be positive")

    torch.set_num_threads(THREADS)
    names = MODELS if options.model == "all" else (options.model,)
    recipes = [LSTM() if name == LSTM.name else small_models().RECIPES[name] for name in names]
    files = library_files()
    training = [read(file) for file in files if not is_held_out(file.name)]
    held_out = [read(file) for file in files if is_held_out(file.name)]
    train_bytes, held_bytes = (sum(map(len, texts)) for texts in (training, held_out))
    print(f"training: {len(training)} files, {train_bytes} bytes; held out: {len(held_out)} files, {held_bytes} bytes")
    beaten = [make(recipe, options, training, held_out) for recipe in recipes]
    return 0 if all(beaten) else 1


if __name__ == "__main__":
    sys.exit(main())
