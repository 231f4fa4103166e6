"""Random models of the shapes that are timed, and the loops that a researcher would write for them."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from distilled_circuits.circuits.ablation import PromptTensors, Values
from distilled_circuits.lens.bridge import BridgeLens
from distilled_circuits.lens.components import Component
from distilled_circuits.lens.hooks import HookLens
from distilled_circuits.models.loading import one_kernel_gelu

POSITIONS = 23
"""Tokens of a prompt of the first paper's sequence task."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a model; `groups` is the number of key-value heads and makes it a Llama."""

    layers: int
    heads: int
    width: int
    vocabulary: int
    groups: int | None = None
    hidden: int | None = None


SHAPES = {
    "gpt2-small": Shape(12, 12, 768, 50257),
    "llama-3.1-8b": Shape(32, 32, 4096, 128256, groups=8, hidden=14336),
    "tiny-gpt2": Shape(3, 4, 64, 320),
    "tiny-llama": Shape(3, 4, 64, 320, groups=2, hidden=96),
}


def random_model(shape: Shape, device: torch.device, dtype: torch.dtype) -> PreTrainedModel:
    """Return a random model as Hugging Face makes it."""
    torch.manual_seed(0)
    sizes = {"vocab_size": shape.vocabulary, "bos_token_id": 0, "eos_token_id": 0}
    with torch.device(device):
        if shape.groups:
            config = LlamaConfig(
                hidden_size=shape.width, intermediate_size=shape.hidden, num_hidden_layers=shape.layers,
                num_attention_heads=shape.heads, num_key_value_heads=shape.groups, **sizes,
            )  # fmt: skip
            model = LlamaForCausalLM._from_config(config, dtype=dtype)  # noqa: SLF001 - no public way gives a type
        else:
            config = GPT2Config(n_embd=shape.width, n_layer=shape.layers, n_head=shape.heads, **sizes)
            model = GPT2LMHeadModel._from_config(config, dtype=dtype)  # noqa: SLF001
    return model.eval().requires_grad_(requires_grad=False)


def as_loaded(model: PreTrainedModel) -> PreTrainedModel:
    """Return the model as the pipeline loads it: the same weights, GPT-2's GELU as one kernel."""
    if model.config.model_type != "gpt2":
        return model
    config = one_kernel_gelu(copy.deepcopy(model.config))
    loaded = GPT2LMHeadModel(config)
    loaded.load_state_dict(model.state_dict())
    return loaded.to(model.device, model.dtype).eval().requires_grad_(requires_grad=False)


def random_prompts(number: int, vocabulary: int, device: torch.device) -> PromptTensors:
    """Return prompts of random tokens with random corrupted partners."""
    generator = torch.Generator().manual_seed(1)
    ids, corrupted = (
        torch.randint(0, vocabulary, (number, POSITIONS + 2), generator=generator).to(device) for _ in range(2)
    )
    return PromptTensors(ids[:, :POSITIONS], ids[:, -2], ids[:, -1], corrupted[:, :POSITIONS])


@torch.no_grad()
def hook_loop(
    model: PreTrainedModel, prompts: PromptTensors, values: Values, *, last_only: bool = False
) -> torch.Tensor:
    """Ablate one component after the other with a torch hook each: the loop over plain Hugging Face.

    `last_only` spares the logits of all other positions, which few people know to ask for.
    """
    lens = HookLens(model)
    heads = lens.dimensions.heads
    width = lens.dimensions.d_head
    options = {"use_cache": False, **({"logits_to_keep": 1} if last_only else {})}
    rows = []
    for component in lens.components:
        hook = _hook(lens, component, values, width)
        logits = model(prompts.ids, **options).logits[:, -1].float()
        hook.remove()
        rows.append((logits.gather(1, prompts.answers[:, None]) - logits.gather(1, prompts.distractors[:, None]))[:, 0])
    assert len(rows) == lens.dimensions.layers * (heads + 1)
    return torch.stack(rows)


def _hook(lens: HookLens, component: Component, values: Values, width: int) -> torch.utils.hooks.RemovableHandle:
    block = lens.blocks[component.layer]
    if component.head is None:
        value = values.mlp_out[component.layer]
        return block.mlp.register_forward_hook(lambda _m, _a, out: value.to(out.dtype).expand_as(out))
    value = values.z[component.layer][:, :, component.head]
    part = slice(component.head * width, (component.head + 1) * width)
    output = block.attn.c_proj if lens.architecture.model_type == "gpt2" else block.self_attn.o_proj

    def replace(_module: torch.nn.Module, args: tuple) -> tuple:
        z = args[0].clone()
        z[:, :, part] = value.to(z.dtype)
        return (z,)

    return output.register_forward_pre_hook(replace)


@torch.no_grad()
def bridge_loop(lens: BridgeLens, prompts: PromptTensors, values: Values) -> torch.Tensor:
    """Ablate one component after the other through TransformerBridge, with its own names and hooks."""
    rows = []
    for component in lens.components:
        layer, head = component.layer, component.head

        def replace(out: torch.Tensor, hook: object, layer=layer, head=head) -> torch.Tensor:  # noqa: ANN001, ARG001
            if head is None:
                return values.mlp_out[layer].to(out.dtype).expand_as(out)
            out = out.clone()
            out[:, :, head] = values.z[layer][:, :, head].to(out.dtype)
            return out

        name = f"blocks.{layer}." + ("mlp.hook_out" if head is None else "attn.hook_z")
        logits = lens.bridge.run_with_hooks(prompts.ids, fwd_hooks=[(name, replace)], use_cache=False)[:, -1].float()
        rows.append((logits.gather(1, prompts.answers[:, None]) - logits.gather(1, prompts.distractors[:, None]))[:, 0])
    return torch.stack(rows)
