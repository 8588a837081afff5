"""The small byte-level models of transformers: how each is built, initialised, trained, measured and described.

`train_small_models.py` trains them. Each is a `Recipe` in RECIPES: a Mamba-2, a hybrid of gated DeltaNet layers with
negative eigenvalues and one attention layer (OLMo-hybrid), and a GPT-2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import cross_entropy, softplus

try:
    import transformers
except ImportError as error:
    raise SystemExit(
        "Mamba-2, OLMo-hybrid and GPT-2 are trained with transformers, which is not installed: "
        "pip install 'dsf-toolkit[hf]' (Python 3.11 or newer), or train --model byte_lstm, which needs torch alone"
    ) from error

transformers.logging.set_verbosity_error()  # that no faster kernels are installed is no news here

# Bytes have no special tokens; the defaults of the three configurations name some that lie outside 0..255.
BYTES = dict(vocab_size=256, pad_token_id=None, bos_token_id=None, eos_token_id=None, tie_word_embeddings=True)
POSITIONS = 1024
# Initial time constants of a layer's fastest and slowest head, in bytes. Training shortens those of the delta rules.
MAMBA2_SPAN, DELTA_SPAN = (1, 500), (5, 1000)
# Held-out files are read in windows of WINDOW bytes that overlap by half.
WINDOW = 1024
MEASURED_BYTES = 2048
INITIAL_STD = 0.05


@torch.no_grad()
def spread_time_constants(mixer: nn.Module, span: tuple[float, float]) -> None:
    """Heads that forget with time constants over `span`, in tokens, evenly on a logarithmic scale.

    A head decays by exp(-exp(A_log) softplus(input + dt_bias)) at each token. transformers draws dt at random, and A
    too, up to 16, for the delta rules: of so few heads there might be none that remembers, and a minute of training
    does not lengthen a memory much. 1 / time constant is split evenly between A and dt: were it all in dt, which in
    Mamba-2 scales what is written too, a head that forgets slowly would also hardly write.
    """
    dt = torch.logspace(math.log10(span[0]), math.log10(span[1]), mixer.A_log.numel()).rsqrt()
    mixer.A_log.copy_(dt.log())
    mixer.dt_bias.copy_(dt + torch.log(-torch.expm1(-dt)))  # the inverse of softplus


def new_mamba2() -> nn.Module:
    config = transformers.Mamba2Config(
        hidden_size=96, expand=2, num_heads=6, head_dim=32, state_size=16, n_groups=1, num_hidden_layers=2,
        chunk_size=32, initializer_range=INITIAL_STD, **BYTES,
    )  # fmt: skip
    model = transformers.Mamba2ForCausalLM(config)
    for layer in model.backbone.layers:
        spread_time_constants(layer.mixer, MAMBA2_SPAN)
    return model


def new_olmo_hybrid() -> nn.Module:
    config = transformers.OlmoHybridConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4,
        layer_types=["linear_attention", "linear_attention", "full_attention"],
        linear_num_key_heads=4, linear_num_value_heads=4, linear_key_head_dim=16, linear_value_head_dim=16,
        linear_allow_neg_eigval=True, max_position_embeddings=4096, initializer_range=INITIAL_STD, **BYTES,
    )  # fmt: skip
    model = transformers.OlmoHybridForCausalLM(config)
    for mixer in delta_rules(model).values():
        spread_time_constants(mixer, DELTA_SPAN)
        # Beta = 2 sigmoid(b): spread over (0, 2) from the start, not near 1, so that both halves are there to be used.
        nn.init.normal_(mixer.b_proj.weight, std=0.3)
    return model


def new_gpt2() -> nn.Module:
    config = transformers.GPT2Config(
        n_embd=64, n_layer=3, n_head=4, n_positions=POSITIONS, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        initializer_range=INITIAL_STD, **BYTES,
    )  # fmt: skip
    model = transformers.GPT2LMHeadModel(config)
    look_back(model.transformer.wpe.weight, model.transformer.h[0].attn.c_attn.weight, heads=config.n_head)
    return model


@torch.no_grad()
def look_back(positions: torch.Tensor, qkv: torch.Tensor, heads: int, strength: float = 2.2) -> None:
    """Head h of the first layer starts by looking at the byte h + 1 positions before.

    To find the byte before by position embeddings drawn at random takes a GPT-2 longer than the minute it has. Here
    positions are sinusoids. Of each head, q is k turned by the angles of its distance: q_t . k_s is largest at
    s = t - h - 1. All of it is trained on.
    """
    width = positions.shape[1]
    frequencies = torch.logspace(math.log10(0.9 * math.pi), math.log10(2 * math.pi / POSITIONS), width // 2)
    angles = torch.arange(POSITIONS)[:, None] * frequencies
    positions.copy_(0.1 * torch.stack([angles.sin(), angles.cos()], -1).flatten(1))
    size = width // heads
    fast = torch.arange(size)  # the position's fastest size / 2 sinusoids
    for head in range(heads):
        q, k = (qkv[:, part * width + head * size :][:, :size] for part in (0, 1))
        turn = [torch.tensor([[c, s], [-s, c]]) for c, s in _cos_sin((head + 1) * frequencies[: size // 2])]
        q.mul_(0.3)[fast] += strength * torch.block_diag(*turn)
        k.mul_(0.3)[fast] += strength * torch.eye(size)


def _cos_sin(angles: torch.Tensor) -> list[tuple[float, float]]:
    return [(math.cos(angle), math.sin(angle)) for angle in angles.tolist()]


def delta_rules(model: nn.Module) -> dict[str, nn.Module]:
    """The gated DeltaNet mixers of a model, by name."""
    return {name: module for name, module in model.named_modules() if name.endswith("linear_attn")}


def _recorded(model: nn.Module, tokens: torch.Tensor, modules: dict[str, nn.Module]) -> dict[str, torch.Tensor]:
    """What these modules give when the model reads the tokens."""
    outputs = {}
    if not modules:  # GPT-2 has none, and reads no more than its positions
        return outputs
    hooks = [
        module.register_forward_hook(lambda _, inputs, output, name=name: outputs.update({name: output}))
        for name, module in modules.items()
    ]
    try:
        with torch.no_grad():
            model.eval()(input_ids=tokens, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return outputs


def log_decays(model: nn.Module, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
    """The log of each head's decay at each of the tokens [B, T], by the name of its mixer: [B, T, heads].

    Mamba-2: dt A, with A = -exp(A_log). Gated DeltaNet: g = -exp(A_log) softplus(a + dt_bias). No recurrence: {}.
    """
    mixers = {name: module for name, module in model.named_modules() if hasattr(module, "A_log")}
    sources = {name: m.in_proj if hasattr(m, "in_proj") else m.a_proj for name, m in mixers.items()}
    found = {}
    for name, output in _recorded(model, tokens, sources).items():
        A_log, dt_bias = mixers[name].A_log.detach(), mixers[name].dt_bias.detach()
        found[name] = -A_log.exp() * softplus(output[..., -len(A_log) :] + dt_bias)
    return found


def time_constants(model: nn.Module, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
    """-1 / (mean log decay) over the tokens [B, T], in tokens: [heads], by the name of the mixer."""
    return {name: -1 / decay.mean((0, 1)) for name, decay in log_decays(model, tokens).items()}


def betas(model: nn.Module, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
    """beta = 2 sigmoid(b) at each of the tokens [B, T], by the name of the gated DeltaNet mixer: [B, T, heads]."""
    sources = {name: mixer.b_proj for name, mixer in delta_rules(model).items()}
    return {name: 2 * output.sigmoid() for name, output in _recorded(model, tokens, sources).items()}


def with_clamped_betas(model: nn.Module, measure: Callable[[], float]) -> float:
    """What `measure` gives while beta is clamped to [0, 1]: 2 sigmoid(b) <= 1 where b <= 0."""
    hooks = [
        mixer.b_proj.register_forward_hook(lambda _, inputs, output: output.clamp(max=0))
        for mixer in delta_rules(model).values()
    ]
    try:
        return measure()
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def bits_per_byte(
    model: nn.Module,
    texts: list[torch.Tensor],
    advance: Callable[[int], None] = lambda bytes_done: None,
    window: int = WINDOW,
) -> float:
    """Mean of -log2 p over every byte of the texts but the first of each, each byte once.

    A text is read in windows that overlap by half: its first window counts in full, each later one from its middle on,
    so that a byte is predicted from all the bytes before it in the text, or from window // 2 of them and more.
    """
    model.eval()
    half, windows = window // 2, []
    for text in texts:
        for start in range(0, max(1, len(text) - 1 - half), half):
            windows.append((text[start : start + window + 1], half if start else 0))
    windows.sort(key=lambda piece: len(piece[0]))  # so that little is padded
    total, count = 0.0, 0
    for first in range(0, len(windows), 8):
        pieces, skips = zip(*windows[first : first + 8], strict=True)
        padded = nn.utils.rnn.pad_sequence(list(pieces), batch_first=True)  # on the right: a causal model never sees it
        losses = cross_entropy(
            model(input_ids=padded[:, :-1], use_cache=False).logits.transpose(1, 2), padded[:, 1:], reduction="none"
        )
        for loss, piece, skip in zip(losses, pieces, skips, strict=True):
            total += loss[skip : len(piece) - 1].double().sum().item()
            count += len(piece) - 1 - skip
            advance(len(piece) - 1 - skip)
    assert count == sum(len(text) - 1 for text in texts)
    return total / math.log(2) / count


@dataclass(frozen=True)
class Recipe:
    """One model: how it is made, what it is trained on, and what its card says of it."""

    name: str
    title: str
    architecture: str
    new: Callable[[], nn.Module]
    learning_rate: float
    batch: int
    chunk: int
    initial: str
    limitation: str
    any_position: bool = False  # whether a training window may stand at any position the model has

    bits_per_byte = staticmethod(bits_per_byte)

    def parameter_groups(self, model: nn.Module, weight_decay: float) -> list[dict]:
        """Matrices decay; norms and biases do not. What sets the time constants learns slowly, as in S4."""
        named = dict(model.named_parameters())
        slow = {name for name in named if name.endswith(("A_log", "dt_bias"))}
        matrices = {name for name, parameter in named.items() if parameter.dim() > 1}
        return [
            {"params": [named[name] for name in named if name in matrices], "weight_decay": weight_decay},
            {"params": [named[name] for name in named if name not in matrices | slow], "weight_decay": 0.0},
            {"params": [named[name] for name in named if name in slow], "weight_decay": 0.0, "slower": 0.1},
        ]

    def losses(self, model: nn.Module, texts: list[torch.Tensor]) -> Iterator[torch.Tensor]:
        """The loss of one batch of windows after the other, each window from a random place in the joined texts."""
        joined = torch.cat(texts)
        steps = torch.arange(self.chunk + 1)
        while True:
            window = joined[torch.randint(len(joined) - self.chunk, (self.batch, 1)) + steps]
            where = {}
            if self.any_position:
                where["position_ids"] = torch.randint(POSITIONS - self.chunk + 1, (self.batch, 1)) + steps[:-1]
            logits = model(input_ids=window[:, :-1], use_cache=False, **where).logits
            yield cross_entropy(logits.flatten(0, 1), window[:, 1:].flatten())

    def save(self, model: nn.Module, folder: Path) -> None:
        """config.json and model.safetensors; generation_config.json would hold nothing, and is left out."""
        model.save_pretrained(folder)
        (folder / "generation_config.json").unlink(missing_ok=True)
        (folder / "model.safetensors").chmod(0o644)  # it is written for its owner alone

    def card(self, model: nn.Module, held_out: list[torch.Tensor], figures: dict) -> str:
        """The model card: what was measured in this run, and nothing else."""
        tokens = torch.stack([text[:MEASURED_BYTES] for text in held_out if len(text) >= MEASURED_BYTES])
        inside = recurrences(model, tokens)
        beta = torch.cat([beta.flatten() for beta in betas(model, tokens).values()] or [torch.empty(0)])
        if len(beta):
            clamped = with_clamped_betas(model, lambda: bits_per_byte(model, held_out))
            inside += NEGATIVE.format(
                share=f"{100 * (beta > 1).double().mean().item():.0f}",
                smallest=f"{1 - beta.max().item():.2f}",
                clamped_bits=f"{clamped:.3f}",
                model_bits=figures["model_bits"],
            )
        if self.any_position:
            bits = bits_per_byte(model, held_out, window=2 * self.chunk)
            inside += SHORTER.format(window=2 * self.chunk, bits=f"{bits:.3f}")
        return CARD.format(
            **figures,
            **vars(self),
            inside=inside,
            window=WINDOW,
            half=WINDOW // 2,
            transformers=transformers.__version__,
        )


def recurrences(model: nn.Module, tokens: torch.Tensor) -> str:
    """The table of the measured time constants, or nothing where no layer has a decay."""
    constants = time_constants(model, tokens)
    if not constants:
        return ""
    rows = [f"| `{name}` | {', '.join(f'{c:.1f}' for c in row.tolist())} |" for name, row in constants.items()]
    return RECURRENCES.format(texts=len(tokens), bytes=tokens.shape[1], rows="\n".join(rows))


RECURRENCES = """
## What its heads remember

| recurrence | time constants of its heads, in bytes |
|---|---|
{rows}

-1 / (mean log decay of a step), measured at the first {bytes} bytes of each of the {texts} held-out files that are as
long. It is how long a head's state lasts by its decay alone; what a delta rule overwrites goes sooner.
"""

NEGATIVE = """
Of the betas of the delta rules on these bytes, {share} % are above 1: there the eigenvalue along k of
A = exp(g) (I - beta k k^T) is negative, down to exp(g) times {smallest}. With beta clamped to [0, 1], and nothing
trained again, the held-out loss goes from {model_bits} to {clamped_bits} bits per byte.
"""

SHORTER = """
In windows of {window} bytes, nearer to those it was trained on, its held-out loss is {bits} bits per byte.
"""

CARD = """\
# {title} over bytes, trained on the source of the Python standard library

A language model over bytes, small enough to look into: {architecture}. It gives the logits of the next byte. Tokens are
bytes, 0..255, without a tokenizer. It is an example for dsf, not a tool for writing code.

```python
from transformers import AutoModelForCausalLM

from dsf.checkpoints import bytes_of

model = AutoModelForCausalLM.from_pretrained("examples/models/{name}").eval()
logits = model(bytes_of("import os")).logits  # [1, 9, 256]
```

## Measured

| | held-out bits per byte |
|---|---|
| this model | {model_bits} |
| byte bigram, add-one backoff, counted on the same training files | {bigram_bits} |

The mean of -log2 p over every byte of the held-out files but the first of each; both see exactly the same bytes.
A file is read in windows of {window} bytes that overlap by half. The first window counts in full, each later one from
its middle on: every byte counts once, and is predicted from all bytes before it in its file, or from at least {half}
of them. The running training loss ended at {train_bits} bits per byte.

| | |
|---|---|
| parameters | {parameters} |
| model.safetensors | {size} bytes, float32 |
{inside}
## Data and split

{data}

## Training

{steps} steps of AdamW on {batch} windows of {chunk} bytes from random places of the joined training files; no state
is carried between windows. Learning rate {rate} with a short warm-up, then a cosine; weight decay {decay} on matrices,
gradients clipped at norm {clip}; seed {seed}. It took {cpu_seconds} seconds of CPU time on one thread, {seconds} of
wall time (torch {torch}, transformers {transformers}).
{initial}
The settings were chosen by the held-out loss of a few short runs, so its held-out figure is slightly optimistic.

## Limitations

- It has seen Python source of one style and era; other text was not measured. What it generates is not to be run.
- One seed; no variance was measured. Held-out files share authors, idioms and licence texts with the training files.
- Other CPython versions have other files under these names: there the held-out figure will differ.
- It was trained for about a minute on windows of {chunk} bytes: nothing taught it to use longer dependencies.
- {limitation}

## How to make it again

{again}
"""

DECAYS = (
    "The heads of a layer start with time constants from {} to {} bytes, by A_log and dt_bias, whose learning rate\n"
    "is a tenth of that."
)
RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="byte_mamba2",
            title="A small Mamba-2",
            architecture="transformers' `Mamba2ForCausalLM`, 2 layers of width 96,\n6 heads of 32 channels with "
            "16 states per channel",
            new=new_mamba2,
            learning_rate=6e-3,
            batch=4,
            chunk=256,
            initial=DECAYS.format(*MAMBA2_SPAN),
            limitation="Training saw no byte further back than its window, so the heads with the longest time "
            "constants were hardly asked\n  to be that long: part of their memory is their initialisation.",
        ),
        Recipe(
            name="byte_olmo_hybrid",
            title="A small OLMo-hybrid",
            architecture="transformers' `OlmoHybridForCausalLM`, two\nlayers of gated DeltaNet with negative "
            "eigenvalues (4 heads, k and v of size 16, `linear_allow_neg_eigval`), then\none of softmax attention "
            "with rotary positions (4 heads), of width 64",
            new=new_olmo_hybrid,
            learning_rate=5e-3,
            batch=4,
            chunk=256,
            initial=DECAYS.format(*DELTA_SPAN)
            + " The weights of beta start with a standard deviation of 0.3, so that beta spreads over (0, 2).",
            limitation="Training saw no byte further back than its window, so the heads with the longest time "
            "constants were hardly asked\n  to be that long: part of their memory is their initialisation. Beta, too, "
            "starts on both sides of 1.",
        ),
        Recipe(
            name="byte_gpt2",
            title="A small GPT-2",
            architecture=f"transformers' `GPT2LMHeadModel`, 3 layers of width 64\nwith 4 heads, {POSITIONS} positions",
            new=new_gpt2,
            learning_rate=6e-3,
            batch=8,
            chunk=128,
            initial="Each window stands at a random position. Position embeddings start as sinusoids, and the heads "
            "of the first layer\nwith their q and k such that they look 1, 2, 3 and 4 bytes back.",
            limitation=f"It reads at most {POSITIONS} bytes at a time.",
            any_position=True,
        ),
    )
}
