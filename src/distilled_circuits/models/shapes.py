"""Models before training: fresh weights of an architecture, or a student that starts from its teacher's layers."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from distilled_circuits.errors import UserError

MAXIMUM_POSITIONS = 64


def new_gpt2(
    vocabulary: int,
    layers: int,
    heads: int,
    width: int,
    initial_scale: float,
    end: int,
    positions: int = MAXIMUM_POSITIONS,
) -> GPT2LMHeadModel:
    """Return a GPT-2 with random weights and no dropout; seed torch before calling."""
    config = GPT2Config(
        vocab_size=vocabulary,
        n_positions=positions,
        n_embd=width,
        n_layer=layers,
        n_head=heads,
        # GPT-2's own function, in one kernel instead of eight.
        activation_function="gelu_pytorch_tanh",
        initializer_range=initial_scale,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=end,
        eos_token_id=end,
    )
    return GPT2LMHeadModel(config)


def new_llama(
    vocabulary: int, layers: int, heads: int, key_value_heads: int, width: int, initial_scale: float, end: int
) -> LlamaForCausalLM:
    """Return a Llama with random weights: rotary angles, grouped queries, root-mean-square norms, gated MLPs.

    Seed torch before calling. The gated MLP is 8/3 widths, which gives it as many weights as GPT-2's four widths.
    """
    config = LlamaConfig(
        vocab_size=vocabulary,
        max_position_embeddings=MAXIMUM_POSITIONS,
        hidden_size=width,
        intermediate_size=8 * width // 3,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_value_heads,
        initializer_range=initial_scale,
        tie_word_embeddings=True,
        bos_token_id=end,
        eos_token_id=end,
    )
    return LlamaForCausalLM(config)


def student_from_layers(teacher: GPT2LMHeadModel, layers: Sequence[int]) -> GPT2LMHeadModel:
    """Return a student that starts as a copy of the teacher's embeddings and of the named layers."""
    if max(layers) >= teacher.config.n_layer:
        raise UserError(
            f"params.yaml: the student starts from teacher layer {max(layers)}, but the teacher has layers "
            f"0 to {teacher.config.n_layer - 1}: change models.*.student.layers"
        )
    config = GPT2Config.from_dict({**teacher.config.to_dict(), "n_layer": len(layers)})
    student = GPT2LMHeadModel(config)
    source, target = teacher.transformer, student.transformer
    for name in ("wte", "wpe", "ln_f"):
        getattr(target, name).load_state_dict(getattr(source, name).state_dict())
    for block, layer in zip(target.h, layers, strict=True):
        block.load_state_dict(source.h[layer].state_dict())
    return student
