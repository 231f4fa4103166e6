"""Where each Hugging Face architecture keeps what a lens reads: module paths as data."""

from __future__ import annotations

from dataclasses import dataclass

from distilled_circuits.errors import UserError


@dataclass(frozen=True)
class Tap:
    """A tensor of a block: the `in`put or `out`put of the module at `path` below the block ("" is the block)."""

    path: str
    side: str


@dataclass(frozen=True)
class Architecture:
    """Module paths of one `model_type`.

    `mlp` and `unembed` are chains of modules: from the stream after attention to the MLP's output, and from the last
    stream to the logits. `post_norms`: the norms that stand after the addition of attention and of the MLP, so that an
    output is not simply added; empty where norms stand before. `fused_qkv`: one module writes q, k and v side by side.
    `conv1d`: weights are stored (in, out), not (out, in). `rotary`: the module of rotary angles, of the whole model.
    """

    model_type: str
    hf_class: str
    causal: bool
    layers: str
    attention: str
    qkv_norm: str
    mlp: tuple[str, ...]
    taps: dict[str, Tap]
    unembed: tuple[str, ...]
    post_norms: tuple[str, ...] = ()
    fused_qkv: str | None = None
    conv1d: bool = False
    rotary: str | None = None

    @property
    def post_ln(self) -> bool:
        """Whether the norms stand after the additions."""
        return bool(self.post_norms)


ARCHITECTURES = {
    architecture.model_type: architecture
    for architecture in (
        Architecture(
            "gpt2",
            "GPT2LMHeadModel",
            causal=True,
            layers="transformer.h",
            attention="attn",
            qkv_norm="ln_1",
            mlp=("ln_2", "mlp"),
            taps={
                "z": Tap("attn.c_proj", "in"),
                "attn_out": Tap("attn.c_proj", "out"),
                "resid_mid": Tap("ln_2", "in"),
                "mlp_out": Tap("mlp", "out"),
            },
            unembed=("transformer.ln_f", "lm_head"),
            fused_qkv="attn.c_attn",
            conv1d=True,
        ),
        Architecture(
            "llama",
            "LlamaForCausalLM",
            causal=True,
            layers="model.layers",
            attention="self_attn",
            qkv_norm="input_layernorm",
            mlp=("post_attention_layernorm", "mlp"),
            taps={
                "q": Tap("self_attn.q_proj", "out"),
                "k": Tap("self_attn.k_proj", "out"),
                "v": Tap("self_attn.v_proj", "out"),
                "z": Tap("self_attn.o_proj", "in"),
                "attn_out": Tap("self_attn.o_proj", "out"),
                "resid_mid": Tap("post_attention_layernorm", "in"),
                "mlp_out": Tap("mlp", "out"),
            },
            unembed=("model.norm", "lm_head"),
            rotary="model.rotary_emb",
        ),
        Architecture(
            "bert",
            "BertForMaskedLM",
            causal=False,
            layers="bert.encoder.layer",
            attention="attention.self",
            qkv_norm="",
            mlp=("intermediate", "output.dense"),
            taps={
                "q": Tap("attention.self.query", "out"),
                "k": Tap("attention.self.key", "out"),
                "v": Tap("attention.self.value", "out"),
                "z": Tap("attention.output.dense", "in"),
                "attn_out": Tap("attention.output.dense", "out"),
                "resid_mid": Tap("attention.output.LayerNorm", "out"),
                "mlp_out": Tap("output.dense", "out"),
            },
            unembed=("cls.predictions.transform", "cls.predictions.decoder"),
            post_norms=("attention.output.LayerNorm", "output.LayerNorm"),
        ),
        Architecture(
            "distilbert",
            "DistilBertForMaskedLM",
            causal=False,
            layers="distilbert.transformer.layer",
            attention="attention",
            qkv_norm="",
            mlp=("ffn",),
            taps={
                "q": Tap("attention.q_lin", "out"),
                "k": Tap("attention.k_lin", "out"),
                "v": Tap("attention.v_lin", "out"),
                "z": Tap("attention.out_lin", "in"),
                "attn_out": Tap("attention.out_lin", "out"),
                "resid_mid": Tap("sa_layer_norm", "out"),
                "mlp_out": Tap("ffn", "out"),
            },
            unembed=("vocab_transform", "activation", "vocab_layer_norm", "vocab_projector"),
            post_norms=("sa_layer_norm", "output_layer_norm"),
        ),
    )
}


def architecture_of(model_type: str) -> Architecture:
    """Return the architecture of a Hugging Face `model_type`; raise UserError for one that no lens knows."""
    if model_type not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise UserError(f"model type {model_type!r} is not supported; supported are {known}")
    return ARCHITECTURES[model_type]
