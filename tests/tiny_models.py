"""Whole tiny causal language models of the families that a converter should know, with weights that remember.

    model = tiny_model("mamba2")            # two layers, fp32, eval mode, the same numbers for the same seed
    tokens = example_tokens()               # (2, 70), of the vocabulary that all families share
    logits = FAMILIES["mamba2"].logits(model, tokens)

The weights are random but not those of transformers' initialisation, under which most of these models forget within a
few steps, attend uniformly and have idle sinks, biases and norms: most decays lie between 0.2 and 0.999, attention
weights differ by factors, and every mixer moves the logits. `FAMILIES[name].mixers` says what is where: (path of the
module, kind) in the order of the layers.

Kinds: mamba, mamba2, gated_deltanet, kda, rglru, rwkv4, mlstm, lightning (linear attention of constant decay),
short_conv, softmax_attention, differential_attention, indexed_attention (softmax over chosen blocks of keys), and two
that no causal system can be: bidirectional_attention, cross_attention.

transformers is imported where a model is built, not before.
"""

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

VOCABULARY = 128
RECURRENT = ("mamba", "mamba2", "gated_deltanet", "kda", "rglru", "rwkv4", "mlstm", "lightning")


def example_tokens(batch=2, length=70, seed=0):
    """Random tokens (batch, length); none is special to any family."""
    generator = torch.Generator().manual_seed(1000 + seed)
    return torch.randint(4, VOCABULARY, (batch, length), generator=generator)


def only_tokens(tokens):
    return {"input_ids": tokens}


@dataclass(frozen=True)
class Family:
    """What there is to know about one tiny model."""

    build: Callable[..., nn.Module]  # build(seed=0): fp32, eval mode
    mixers: tuple[tuple[str, str], ...]  # (path, kind), in the order of the layers
    cached: bool = True  # generate() works, with a cache and without
    inputs: Callable[[torch.Tensor], dict] = only_tokens  # the keywords that forward and generate take
    rows: int | None = None  # the largest batch that the model continues rightly one token at a time
    module: str | None = None  # what must be importable: pytest.importorskip(module)
    notes: str = ""  # what surprises

    @property
    def remembers(self):
        """Whether a mixer is recurrent, and not just a short convolution."""
        return any(kind in RECURRENT for _, kind in self.mixers)

    def logits(self, model, tokens, **more):
        """Logits (batch, length, VOCABULARY) of the tokens, without gradients."""
        with torch.no_grad():
            output = model(**self.inputs(tokens), **more)
        return output if isinstance(output, torch.Tensor) else output.logits

    def generate(self, model, tokens, new=8, **more):
        """The tokens (batch, new) of a greedy continuation."""
        given = self.inputs(tokens)
        settings = {"max_new_tokens": new, "do_sample": False, "pad_token_id": 0, **more}
        return model.generate(**given, **settings)[:, -new:]


FAMILIES: dict[str, Family] = {}


def tiny_model(name, seed=0):
    """The tiny model of a family; the same seed gives the same weights."""
    return FAMILIES[name].build(seed=seed)


# --- weights ---------------------------------------------------------------------------------------------------------

QUERY_OR_KEY = ("q_proj", "k_proj", "q_b_proj", "query_key_value", "c_attn", "Wqkv", "wq_b", "wk")
QUERY_OR_KEY_NORM = ("q_norm", "k_norm", "q_layernorm", "k_layernorm")


def random_value(owner, own, name, p, generator):
    """A value for parameter `name` of the module `owner`, which its parent calls `own`."""
    kind = type(owner).__name__

    def normal(mean=0.0, std=1.0):
        return mean + std * torch.randn(p.shape, generator=generator)

    def uniform(low, high):
        return low + (high - low) * torch.rand(p.shape, generator=generator)

    def log_steps(low, high):  # logarithms of numbers that grow from low to high, each moved a little
        return torch.linspace(math.log(low), math.log(high), p.numel()).view(p.shape) + normal(0.0, 0.1)

    safe = getattr(owner, "safe_gate_lower_bound", None) or getattr(owner, "safe_gate", None)
    # What sets the memory of a recurrence.
    if name == "A_log" and ("Delta" in kind or "ForgetGate" in kind):
        # exp(-exp(A_log) softplus(a + dt_bias)); the safe gate of KDA is exp(-5 sigmoid(exp(A_log) (f + dt_bias)))
        return normal(0.0, 0.1) if safe else log_steps(0.005, 0.3)
    if name == "dt_bias" and ("Delta" in kind or "ForgetGate" in kind):
        return normal(-5.0, 1.2) if safe else normal(0.0, 0.7)
    if name == "A_log":  # exp(-dt exp(A_log)); Mamba: of channel and state, Mamba-2: of the head
        return uniform(math.log(0.02), math.log(3.0)) if p.dim() > 1 else log_steps(0.03, 2.5)
    if name == "dt_bias":
        return normal(-0.5, 0.3)
    if own == "dt_proj" and name == "bias" or name == "dt_proj_bias":
        return normal(-1.0, 0.7)
    if name == "recurrent_param":  # RG-LRU: exp(-8 r softplus(.))
        return uniform(-6.0, -3.0)
    if name == "time_decay":  # RWKV: exp(-exp(.))
        return uniform(-6.0, -1.0)
    if own == "fgate_preact":  # mLSTM: sigmoid(.)
        return uniform(3.0, 5.0) if name == "bias" else normal(0.0, 0.5 * p.shape[1] ** -0.5)
    # Everything else.
    if name in ("D", "scale"):
        return normal(1.0, 0.3)
    if name == "sinks":
        return normal(3.0, 1.0)
    if name.startswith("time_mix"):
        return uniform(0.0, 1.0)
    if name.startswith("lambda_"):
        return normal(0.0, 0.3)
    if isinstance(owner, nn.Embedding):  # some multiply what they look up
        return normal(0.0, 1.0 / float(getattr(owner, "scalar_embed_scale", 1.0)))
    if isinstance(owner, nn.Conv1d):  # over time, each channel for itself
        return normal(0.0, 0.2 if name == "bias" else p.shape[-1] ** -0.5)
    if p.dim() == 1:  # biases, which were near 0, and weights of norms, which were 0 or 1
        return p.round() + normal(0.5 if own in QUERY_OR_KEY_NORM else 0.0, 0.1)
    fan_in = p.shape[0] if kind == "Conv1D" else p.shape[-1]  # that of GPT-2 is (in, out)
    return normal(0.0, (1.6 if own in QUERY_OR_KEY else 1.0) * fan_in**-0.5)


@torch.no_grad()
def randomized(model, seed):
    """The model in eval mode, every parameter replaced by a random value of sensible size."""
    generator = torch.Generator().manual_seed(12 + seed)  # 12: no two logits of the example nearly tie, see the tests
    done = set()
    for path, owner in model.named_modules():
        for name, p in owner.named_parameters(recurse=False):
            if p not in done:
                p.copy_(random_value(owner, path.rpartition(".")[2], name, p, generator))
                done.add(p)
    return model.eval()


# --- the families of transformers ------------------------------------------------------------------------------------


def family(name, config, settings, mixers, *, module=None, model=None, change=None, **facts):
    """Register a family: names of its configuration's class and of the model's, the settings, and the mixers."""
    module, model = module or name, model or config.replace("Config", "ForCausalLM")

    def build(seed=0):
        configuration = importlib.import_module(f"transformers.models.{module}.configuration_{module}")
        modeling = importlib.import_module(f"transformers.models.{module}.modeling_{module}")
        nothing_special = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"))  # nothing ends a generation
        made = getattr(configuration, config)(vocab_size=VOCABULARY, **{**nothing_special, **settings})
        made._experts_implementation = "eager"  # the default, grouped_mm, refuses fp64
        built = getattr(modeling, model)(made)
        if change is not None:
            change(built)
        return randomized(built, seed)

    needs = f"transformers.models.{module}.modeling_{module}"
    FAMILIES[name] = Family(build, tuple(mixers.items()), module=needs, **facts)


def untied(model):
    """Where the configuration cannot untie the head alone: tied to the embeddings it would repeat its input."""
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone())


WIDE = {"hidden_size": 48, "intermediate_size": 64, "tie_word_embeddings": False}
GROUPED = {"num_attention_heads": 4, "num_key_value_heads": 2}
FOUR = {"num_attention_heads": 4, "num_key_value_heads": 4}
SANDWICH = {"num_hidden_layers": 3, "layer_types": ["linear_attention", "full_attention", "linear_attention"]}
MAMBA2 = {"mamba_n_heads": 4, "mamba_n_groups": 2, "mamba_d_state": 8, "mamba_d_head": 24, "mamba_chunk_size": 16}
MAMBA_SANDWICH = {
    "model.layers.0.mamba": "mamba2",
    "model.layers.1.self_attn": "softmax_attention",
    "model.layers.2.mamba": "mamba2",
}

RESTARTS = "Continuing a cache by more than one token starts from a zero state, in all of transformers' Mamba."

# Mamba.
family(
    "mamba",
    "MambaConfig",
    {"hidden_size": 48, "state_size": 8, "num_hidden_layers": 2, "tie_word_embeddings": False},
    {"backbone.layers.0.mixer": "mamba", "backbone.layers.1.mixer": "mamba"},
    notes=RESTARTS,
)
family(
    "falcon_mamba",
    "FalconMambaConfig",
    {"hidden_size": 48, "state_size": 8, "num_hidden_layers": 2, "tie_word_embeddings": False},
    {"backbone.layers.0.mixer": "mamba", "backbone.layers.1.mixer": "mamba"},
    notes=RESTARTS,
)
family(
    "jamba",
    "JambaConfig",
    {
        **WIDE,
        **GROUPED,
        "num_hidden_layers": 3,
        "attn_layer_period": 3,
        "attn_layer_offset": 1,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "mamba_d_state": 8,
    },
    {
        "model.layers.0.mamba": "mamba",
        "model.layers.1.self_attn": "softmax_attention",
        "model.layers.2.mamba": "mamba",
    },
    notes=RESTARTS,
)
family(
    "zamba",
    "ZambaConfig",
    {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "layers_block_type": ["linear_attention", "hybrid", "hybrid"],
        **FOUR,
        "n_mamba_heads": 2,
        "mamba_d_state": 8,
    },
    {
        "model.layers.0.mamba": "mamba",
        "model.layers.1.shared_transf.self_attn": "softmax_attention",
        "model.layers.1.mamba_decoder.mamba": "mamba",
        "model.layers.2.shared_transf.self_attn": "softmax_attention",
        "model.layers.2.mamba_decoder.mamba": "mamba",
    },
    change=untied,
    notes=RESTARTS + " The attention modules of the hybrid layers share their parameters (if tie_word_embeddings is"
    " set), on twice the width, with the scale (head_dim / 2)**-0.5. The scan is called once for each Mamba head.",
)

# Mamba-2, in chunks of 16. One-token decoding ignores the limits of dt (time_step_limit), which these weights never
# reach; to test the limits, set `time_step_limit` of the mixers.
family(
    "mamba2",
    "Mamba2Config",
    {
        "hidden_size": 48,
        "num_heads": 6,
        "head_dim": 16,
        "state_size": 8,
        "n_groups": 2,
        "chunk_size": 16,
        "num_hidden_layers": 2,
    },
    {"backbone.layers.0.mixer": "mamba2", "backbone.layers.1.mixer": "mamba2"},
)
family(
    "bamba",
    "BambaConfig",
    {**WIDE, **GROUPED, **MAMBA2, "num_hidden_layers": 3, "attn_layer_indices": [1]},
    MAMBA_SANDWICH,
    notes="Continuing a cache by hand is wrong without position_ids.",
)
family(
    "zamba2",
    "Zamba2Config",
    {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "layers_block_type": ["linear_attention", "hybrid", "hybrid"],
        "num_attention_heads": 4,
        "n_mamba_heads": 4,
        "mamba_ngroups": 2,
        "mamba_d_state": 8,
        "chunk_size": 16,
        "use_shared_attention_adapter": True,
        "adapter_rank": 4,
        "use_mem_rope": True,
    },
    {
        "model.layers.0.mamba": "mamba2",
        "model.layers.1.shared_transformer.self_attn": "softmax_attention",
        "model.layers.1.mamba_decoder.mamba": "mamba2",
        "model.layers.2.shared_transformer.self_attn": "softmax_attention",
        "model.layers.2.mamba_decoder.mamba": "mamba2",
    },
    change=untied,
    notes="dt is limited from below by time_step_min. The attention modules of the hybrid layers share"
    " their parameters but the adapters (if tie_word_embeddings is set), on twice the width, with the scale"
    " (head_dim / 2)**-0.5.",
)
family(
    "nemotron_h",
    "NemotronHConfig",
    {
        **WIDE,
        **GROUPED,
        "layers_block_type": ["linear_attention", "moe", "full_attention", "mlp", "linear_attention"],
        "head_dim": 12,
        "mamba_num_heads": 4,
        "mamba_head_dim": 24,
        "n_groups": 2,
        "ssm_state_size": 8,
        "chunk_size": 16,
        "n_routed_experts": 4,
        "moe_intermediate_size": 32,
        "moe_shared_expert_intermediate_size": 32,
    },
    {
        "model.layers.0.mixer": "mamba2",
        "model.layers.2.mixer": "softmax_attention",
        "model.layers.4.mixer": "mamba2",
    },
    notes="dt is limited from below by time_step_min. Layers 1 and 3, experts and an MLP, are called mixer too.",
)
family(
    "granitemoehybrid",
    "GraniteMoeHybridConfig",
    {
        **WIDE,
        **GROUPED,
        **SANDWICH,
        **MAMBA2,
        "num_local_experts": 4,
        "shared_intermediate_size": 32,
        "position_embedding_type": "rope",
        "attention_multiplier": 0.3,  # the scale of the scores, instead of 1 / sqrt(head_dim)
        "residual_multiplier": 0.8,
        "embedding_multiplier": 1.2,
    },
    MAMBA_SANDWICH,
)
# Mamba-2 and attention in every layer, side by side.
family(
    "falcon_h1",
    "FalconH1Config",
    {
        **WIDE,
        **GROUPED,
        **MAMBA2,
        "num_hidden_layers": 2,
        "mamba_d_ssm": 96,
        "mamba_rms_norm": True,
        "key_multiplier": 0.8,
        "attention_in_multiplier": 1.1,
        "attention_out_multiplier": 0.9,
        "ssm_in_multiplier": 1.2,
        "ssm_out_multiplier": 0.9,
        "ssm_multipliers": [0.8, 1.1, 0.9, 1.2, 0.7],
    },
    {
        "model.layers.0.mamba": "mamba2",
        "model.layers.0.self_attn": "softmax_attention",
        "model.layers.1.mamba": "mamba2",
        "model.layers.1.self_attn": "softmax_attention",
    },
)

# Delta rules, in chunks of 64. Two heads of keys serve four heads of values.
DELTA = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 12,
    "linear_value_head_dim": 16,
}
EXPERTS = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
}
DELTA_SANDWICH = {
    "model.layers.0.linear_attn": "gated_deltanet",
    "model.layers.1.self_attn": "softmax_attention",
    "model.layers.2.linear_attn": "gated_deltanet",
}
family(
    "qwen3_next", "Qwen3NextConfig", {**WIDE, **GROUPED, **SANDWICH, **DELTA, **EXPERTS, "head_dim": 16}, DELTA_SANDWICH
)
family(
    "qwen3_5",
    "Qwen3_5TextConfig",
    {**WIDE, **GROUPED, **SANDWICH, **DELTA, "head_dim": 16},
    DELTA_SANDWICH,
    model="Qwen3_5ForCausalLM",
)
family(
    "qwen3_5_moe",
    "Qwen3_5MoeTextConfig",
    {**WIDE, **GROUPED, **SANDWICH, **DELTA, **EXPERTS, "head_dim": 16},
    DELTA_SANDWICH,
    model="Qwen3_5MoeForCausalLM",
)
family(
    "olmo_hybrid",
    "OlmoHybridConfig",
    {**WIDE, **GROUPED, **SANDWICH, **DELTA, "linear_allow_neg_eigval": True},
    DELTA_SANDWICH,
)

# Kimi delta attention, with a decay per channel; the attention between is latent (MLA).
LATENT = {"kv_lora_rank": 16, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8, "v_head_dim": 10}
KDA_SANDWICH = {
    "model.layers.0.self_attn": "kda",
    "model.layers.1.self_attn": "softmax_attention",
    "model.layers.2.self_attn": "kda",
}
family(
    "kimi_linear",
    "KimiLinearConfig",
    {
        **WIDE,
        **FOUR,
        **SANDWICH,
        **LATENT,
        "moe_intermediate_size": 32,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "linear_num_heads": 4,
        "linear_head_dim": 12,
    },
    KDA_SANDWICH,
)
family(
    "bailing_hybrid",
    "BailingHybridConfig",
    {
        **WIDE,
        **FOUR,
        **SANDWICH,
        **LATENT,
        "moe_intermediate_size": 32,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "n_group": 2,
        "topk_group": 1,
        "first_k_dense_replace": 1,
        "head_dim": 12,
    },
    KDA_SANDWICH,
)


def glm5_next(seed=0):
    """No class for text alone has a head: this is the one for images and text, its vision tower without layers."""
    configuration = importlib.import_module("transformers.models.glm5_next.configuration_glm5_next")
    modeling = importlib.import_module("transformers.models.glm5_next.modeling_glm5_next")
    text = {
        **{k: v for k, v in WIDE.items() if k != "tie_word_embeddings"},
        **FOUR,
        "vocab_size": VOCABULARY,
        "pad_token_id": None,
        "num_hidden_layers": 3,
        "layer_types": ["linear_attention", "indexed_attention", "linear_attention"],
        "mlp_layer_types": ["dense", "sparse", "dense"],
        "indexer_types": ["full", "full", "full"],
        "moe_intermediate_size": 32,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "linear_num_heads": 4,
        "linear_head_dim": 12,
        "q_lora_rank": 24,
        "kv_lora_rank": 16,
        "qk_nope_head_dim": 12,
        "v_head_dim": 8,
        "index_n_heads": 16,  # fewer tie, see the notes
        "index_head_dim": 8,
        "index_topk": 16,
        "index_kpool": 4,
        "hc_mult": 2,
    }
    vision = {
        "depth": 0,
        "hidden_size": 16,
        "num_heads": 2,
        "intermediate_size": 16,
        "patch_size": 2,
        "image_size": 8,
        "out_hidden_size": 48,
        "projection_intermediate_size": 16,
    }
    config = configuration.Glm5NextConfig(text_config=text, vision_config=vision, tie_word_embeddings=False)
    config._experts_implementation = "eager"
    return randomized(modeling.Glm5NextForConditionalGeneration(config), seed)


FAMILIES["glm5_next"] = Family(
    glm5_next,
    (
        ("model.language_model.layers.0.self_attn", "kda"),
        ("model.language_model.layers.1.self_attn", "indexed_attention"),
        ("model.language_model.layers.2.self_attn", "kda"),
    ),
    notes="The indexer chooses 4 blocks of 4 keys, and the unfinished one. Blocks tie where all heads score 0; which"
    " of them is chosen depends on the length: with few heads, logits of a prefix are not a prefix of the logits.",
    module="transformers.models.glm5_next.modeling_glm5_next",
)

# Other recurrences.
family(
    "recurrent_gemma",
    "RecurrentGemmaConfig",
    {
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "attention_window_size": 24,
        "tie_word_embeddings": False,
    },
    {
        "model.layers.0.temporal_block.rg_lru": "rglru",
        "model.layers.1.temporal_block.rg_lru": "rglru",
        "model.layers.2.temporal_block": "softmax_attention",
    },
    notes="The states are attributes of the modules, reset where position_ids are 0; the output has no cache, so bring"
    " a DynamicCache. Continuing it by more than one token restarts the convolution. Left padding is not masked before"
    " the recurrence, not even with position_ids.",
)
family(
    "rwkv",
    "RwkvConfig",
    {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 3, "context_length": 256},
    {f"rwkv.blocks.{i}.attention": "rwkv4" for i in range(3)},
    rows=1,
    notes="One token at a time with a state, batches of two or more broadcast against themselves: logits are (batch,"
    " batch, vocabulary) and wrong. attention_mask is ignored. The first forward in eval mode divides weights of the"
    " layers from rescale_every on, of which this model has none. A state is a list, changed in place.",
)
family(
    "xlstm",
    "xLSTMConfig",
    {
        "hidden_size": 128,
        "num_hidden_layers": 2,
        "num_blocks": 2,
        "num_heads": 4,
        "chunk_size": 16,
        "ffn_proj_factor": 1.0,
    },
    {"backbone.blocks.0.mlstm_layer": "mlstm", "backbone.blocks.1.mlstm_layer": "mlstm"},
    notes="hidden_size * qk_dim_factor must be a multiple of 64, or the cache has the wrong shape. Each mlstm_backend"
    " holds its functions from its construction on: replacing them in the module has no effect on it. attention_mask"
    " is ignored.",
)
family(
    "minimax",
    "MiniMaxConfig",
    {**WIDE, **GROUPED, **SANDWICH, "head_dim": 12, "num_local_experts": 4, "num_experts_per_tok": 2, "block_size": 16},
    {
        "model.layers.0.self_attn": "lightning",
        "model.layers.1.self_attn": "softmax_attention",
        "model.layers.2.self_attn": "lightning",
    },
    notes="Continuing a cache by hand is wrong without position_ids, and by more than one token at a time: the cache"
    " reports length 0, so that the softmax layer is masked wrongly.",
)
family(
    "lfm2",
    "Lfm2Config",
    {
        **WIDE,
        **GROUPED,
        "block_auto_adjust_ff_dim": False,
        "num_hidden_layers": 3,
        "layer_types": ["conv", "full_attention", "conv"],
    },
    {
        "model.layers.0.conv": "short_conv",
        "model.layers.1.self_attn": "softmax_attention",
        "model.layers.2.conv": "short_conv",
    },
)

# Softmax attention.
TWO = {"num_hidden_layers": 2}
ATTENTION = {"model.layers.0.self_attn": "softmax_attention", "model.layers.1.self_attn": "softmax_attention"}
WINDOW = {"sliding_window": 24, "layer_types": ["sliding_attention", "full_attention"]}
family(
    "gpt2",
    "GPT2Config",
    {
        "n_embd": 48,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 128,
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
        "tie_word_embeddings": False,
    },
    {"transformer.h.0.attn": "softmax_attention", "transformer.h.1.attn": "softmax_attention"},
    model="GPT2LMHeadModel",
    notes="Left padding needs position_ids. Weights of Conv1D are (in, out).",
)
family(
    "gpt_neox",
    "GPTNeoXConfig",
    {**WIDE, **TWO, "num_attention_heads": 4},
    {"gpt_neox.layers.0.attention": "softmax_attention", "gpt_neox.layers.1.attention": "softmax_attention"},
)
family("llama", "LlamaConfig", {**WIDE, **TWO, **GROUPED}, ATTENTION)
family("mistral", "MistralConfig", {**WIDE, **TWO, **GROUPED, "sliding_window": 24}, ATTENTION)
family(
    "gemma3",
    "Gemma3TextConfig",
    {**WIDE, **TWO, **GROUPED, **WINDOW, "head_dim": 16, "query_pre_attn_scalar": 16},
    ATTENTION,
    model="Gemma3ForCausalLM",
)
family(
    "gemma2",
    "Gemma2Config",
    {**WIDE, **TWO, **GROUPED, **WINDOW, "head_dim": 16, "query_pre_attn_scalar": 16, "attn_logit_softcapping": 5.0},
    ATTENTION,
)
family(
    "gpt_oss",
    "GptOssConfig",
    {
        **WIDE,
        **TWO,
        **GROUPED,
        **WINDOW,
        "head_dim": 16,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "rope_parameters": {  # a factor of 32, the default, multiplies the scores by 1.8
            "rope_type": "yarn",
            "rope_theta": 150000.0,
            "factor": 2.0,
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "truncate": False,
            "original_max_position_embeddings": 4096,
        },
    },
    ATTENTION,
)
family(
    "deepseek_v3",
    "DeepseekV3Config",
    {
        **WIDE,
        **TWO,
        **FOUR,
        **LATENT,
        "q_lora_rank": 24,
        "moe_intermediate_size": 32,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "n_group": 2,
        "topk_group": 1,
        "first_k_dense_replace": 1,
    },
    ATTENTION,
)
family("qwen3", "Qwen3Config", {**WIDE, **TWO, **GROUPED, "head_dim": 16}, ATTENTION)
family(
    "bloom",
    "BloomConfig",
    {"hidden_size": 48, "n_layer": 2, "n_head": 4, "tie_word_embeddings": False},
    {"transformer.h.0.self_attention": "softmax_attention", "transformer.h.1.self_attention": "softmax_attention"},
    notes="The attention module adds the residual to its output. ALiBi, not through the attention interface.",
)
family(
    "mpt",
    "MptConfig",
    {
        "d_model": 48,
        "n_heads": 4,
        "n_layers": 2,
        "expansion_ratio": 2,
        "max_seq_len": 256,
        "tie_word_embeddings": False,
        "use_cache": True,
    },
    {"transformer.blocks.0.attn": "softmax_attention", "transformer.blocks.1.attn": "softmax_attention"},
    notes="ALiBi, not through the attention interface; the mask is boolean, True where a key is hidden.",
)
family(
    "diffllama",
    "DiffLlamaConfig",
    {**WIDE, **TWO, **GROUPED},
    dict.fromkeys(ATTENTION, "differential_attention"),
    notes="Two calls of the attention function for each layer: same queries and keys, one half of the values each.",
)


def with_source(tokens):
    """Tokens for the decoder, after a fixed source text for the encoder."""
    return {"input_ids": example_tokens(len(tokens), 6, seed=7), "decoder_input_ids": tokens}


family(
    "t5",
    "T5Config",
    {
        "d_model": 48,
        "d_kv": 16,
        "d_ff": 64,
        "num_layers": 2,  # of the encoder; generate() makes a cache for as many, even if the decoder has more
        "num_decoder_layers": 2,
        "num_heads": 4,
        "dropout_rate": 0.0,
        "decoder_start_token_id": 1,
        "tie_word_embeddings": False,  # only switches off a factor of the logits
    },
    {
        "encoder.block.0.layer.0.SelfAttention": "bidirectional_attention",
        "encoder.block.1.layer.0.SelfAttention": "bidirectional_attention",
        "decoder.block.0.layer.0.SelfAttention": "softmax_attention",
        "decoder.block.0.layer.1.EncDecAttention": "cross_attention",
        "decoder.block.1.layer.0.SelfAttention": "softmax_attention",
        "decoder.block.1.layer.1.EncDecAttention": "cross_attention",
    },
    model="T5ForConditionalGeneration",
    change=untied,
    inputs=with_source,
    notes="The scores are not divided by sqrt(d_kv); the bias of the first layer serves all layers.",
)


# --- torch.nn --------------------------------------------------------------------------------------------------------


class TorchEncoder(nn.Module):
    """Causal nn.TransformerEncoderLayers between an embedding and a head."""

    def __init__(self, width=48, heads=4, layers=2):
        super().__init__()
        self.embedding, self.positions = nn.Embedding(VOCABULARY, width), nn.Embedding(256, width)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, heads, 64, dropout=0.0, batch_first=True, norm_first=True)
            for _ in range(layers)
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, VOCABULARY)

    def forward(self, input_ids):
        length = input_ids.shape[1]
        x = self.embedding(input_ids) + self.positions(torch.arange(length))
        mask = nn.Transformer.generate_square_subsequent_mask(length, dtype=x.dtype)
        for layer in self.layers:
            x = layer(x, src_mask=mask, is_causal=True)
        return self.head(self.norm(x))


class TorchAttention(nn.Module):
    """Causal nn.MultiheadAttention between an embedding and a head; time first, as is its default."""

    def __init__(self, width=48, heads=4):
        super().__init__()
        self.embedding, self.positions = nn.Embedding(VOCABULARY, width), nn.Embedding(256, width)
        self.norm, self.attention = nn.LayerNorm(width), nn.MultiheadAttention(width, heads)
        self.head = nn.Linear(width, VOCABULARY)

    def forward(self, input_ids):
        length = input_ids.shape[1]
        x = self.embedding(input_ids) + self.positions(torch.arange(length))
        x = self.norm(x).transpose(0, 1)
        mask = torch.ones(length, length, dtype=torch.bool).triu(1)  # True: may not look
        y, _ = self.attention(x, x, x, attn_mask=mask, need_weights=False)
        return self.head((x + y).transpose(0, 1))


FAMILIES["torch_encoder"] = Family(
    lambda seed=0: randomized(TorchEncoder(), seed),
    tuple((f"layers.{i}.self_attn", "softmax_attention") for i in range(2)),
    cached=False,
)
FAMILIES["torch_attention"] = Family(
    lambda seed=0: randomized(TorchAttention(), seed), (("attention", "softmax_attention"),), cached=False
)
