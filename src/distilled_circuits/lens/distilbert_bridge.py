"""DistilBERT for TransformerBridge, which has no adapter for it: where it keeps what the bridge names."""

from __future__ import annotations

from typing import Any

from transformer_lens.factories.architecture_adapter_factory import ArchitectureAdapterFactory
from transformer_lens.model_bridge.architecture_adapter import ArchitectureAdapter
from transformer_lens.model_bridge.generalized_components import (
    AttentionBridge,
    BlockBridge,
    EmbeddingBridge,
    LinearBridge,
    MLPBridge,
    NormalizationBridge,
    PosEmbedBridge,
    UnembeddingBridge,
)

HF_CLASS = "DistilBertForMaskedLM"


class DistilBertAdapter(ArchitectureAdapter):
    """Module paths of a DistilBERT; nothing is folded or centred, its norms stand behind the additions."""

    supports_generation = False
    supports_causal_loss = False

    def __init__(self, cfg: Any) -> None:
        super().__init__(cfg)
        self.cfg.normalization_type = "LN"
        self.cfg.positional_embedding_type = "standard"
        self.cfg.attention_dir = "bidirectional"
        self.cfg.act_fn = "gelu"
        self.cfg.final_rms = self.cfg.gated_mlp = self.cfg.attn_only = False
        self.supports_fold_ln = False
        self.weight_processing_conversions = {}
        self.component_mapping = {
            "embed": EmbeddingBridge(name="distilbert.embeddings.word_embeddings"),
            "pos_embed": PosEmbedBridge(name="distilbert.embeddings.position_embeddings"),
            "embed_ln": self._norm("distilbert.embeddings.LayerNorm"),
            "blocks": BlockBridge(name="distilbert.transformer.layer", submodules=self._block()),
            "mlm_head": LinearBridge(name="vocab_transform"),
            "ln_final": self._norm("vocab_layer_norm"),
            "unembed": UnembeddingBridge(name="vocab_projector"),
        }

    def prepare_model(self, hf_model: Any) -> None:
        """Take what the configuration calls otherwise."""
        self.cfg.d_mlp = hf_model.config.hidden_dim

    def _block(self) -> dict[str, Any]:
        linear = {"q": "q_lin", "k": "k_lin", "v": "v_lin", "o": "out_lin"}
        attention = {part: LinearBridge(name=name) for part, name in linear.items()}
        mlp = {"in": LinearBridge(name="lin1"), "out": LinearBridge(name="lin2")}
        return {
            "ln1": self._norm("sa_layer_norm"),
            "ln2": self._norm("output_layer_norm"),
            "attn": AttentionBridge(name="attention", config=self.cfg, is_causal=False, submodules=attention),
            "mlp": MLPBridge(name="ffn", config=self.cfg, submodules=mlp),
        }

    def _norm(self, name: str) -> NormalizationBridge:
        return NormalizationBridge(name=name, config=self.cfg, use_native_layernorm_autograd=True)


def register_adapter() -> None:
    """Make the adapter known to TransformerBridge; doing it again changes nothing."""
    ArchitectureAdapterFactory.register_adapter(HF_CLASS, DistilBertAdapter)
