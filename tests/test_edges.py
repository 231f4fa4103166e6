"""Path patching agrees with frozen runs on every architecture; attribution with path patching in the limit."""

import dataclasses

import numpy as np
import pytest
import torch
from checkpoints import random_model, random_prompts
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_loops import slow_patched_edge

from distilled_circuits.circuits.ablated_model import AblatedModel, nested_means
from distilled_circuits.circuits.ablation import Values, constant, mean_activations, replacement
from distilled_circuits.circuits.attribution import attribute_edges
from distilled_circuits.circuits.edges import Edge, edge_drop, possible_edges
from distilled_circuits.circuits.exchange import ExchangedCircuit, edge_name, from_exchange, to_exchange
from distilled_circuits.circuits.node_sets import NodeSets
from distilled_circuits.circuits.path_patching import patch_circuit
from distilled_circuits.circuits.paths import patch_edges, trace
from distilled_circuits.circuits.stability import resampled_edges
from distilled_circuits.errors import UserError
from distilled_circuits.lens.blocks import Blocks
from distilled_circuits.lens.components import Component, all_components
from distilled_circuits.lens.hooks import HookLens

NODES = [
    Component(0, 0), Component(0, 3), Component(0), Component(1, 1), Component(1, 2), Component(1), Component(2, 1),
    Component(2, 4), Component(2),
]  # fmt: skip


@pytest.mark.parametrize("kind", ["corrupted_mean", "resample"])
def test_every_edge_equals_a_slow_frozen_run(any_model, prompts, kind):
    """Into q, k, v, MLPs and the logits, from heads and MLPs, also of the same layer, in a circuit and in the model."""
    lens = HookLens(any_model)
    given_values = replacement(lens, kind, prompts, 64)
    for nodes in (NODES, lens.components[:8] + lens.components[12:]):
        outside = [component for component in lens.components if component not in nodes]
        found = patch_circuit(lens, prompts, given_values, nodes, batch_size=4)
        for edge, patched in zip(possible_edges(nodes), found.patched, strict=True):
            expected = slow_patched_edge(lens, prompts, given_values(prompts), outside, edge)
            assert np.allclose(patched, expected, atol=1e-4), edge


def test_stacked_passes_change_nothing(any_model, prompts):
    """One edge at a time and many at once give the same numbers."""
    lens = HookLens(any_model)
    values = mean_activations(lens, prompts.corrupted, 64)
    model = AblatedModel(Blocks(lens), values, frozenset(c for c in lens.components if c not in NODES))
    clean, corrupted = (trace(model, lens.embed(ids)) for ids in (prompts.ids, prompts.corrupted))
    one, many = (patch_edges(model, prompts, clean, corrupted, possible_edges(NODES), size) for size in (1, 50))
    assert torch.allclose(one, many, atol=1e-5)


def test_attribution_is_path_patching_in_the_limit(any_model, prompts):
    """For ever smaller changes of the sender, what an edge does becomes gradient times difference."""
    lens = HookLens(any_model.double())
    # Llama's norm computes in single precision whatever the model's type is, so its step must be larger.
    step, tolerance = (1e-3, 0.02) if lens.architecture.model_type == "llama" else (1e-5, 1e-3)
    values = replacement(lens, "clean_mean", prompts, 64)(prompts).to(torch.float64)
    model = AblatedModel(Blocks(lens), values, frozenset(c for c in lens.components if c not in NODES))
    clean, far = (trace(model, lens.embed(ids)) for ids in (prompts.ids, prompts.corrupted))
    near = dataclasses.replace(
        clean,
        z=[a if a is None else a + step * (b - a) for a, b in zip(clean.z, far.z, strict=True)],
        mlp_out=[a + step * (b - a) for a, b in zip(clean.mlp_out, far.mlp_out, strict=True)],
    )
    edges = possible_edges(NODES)
    end = model.blocks.final(clean.end[:, -1])
    weight = model.blocks.unembedding.weight
    direction = weight[prompts.answers] - weight[prompts.distractors]
    circuit = (end * direction).sum(-1)
    bias = getattr(model.blocks.unembedding, "bias", None)
    if bias is not None:
        circuit = circuit + bias[prompts.answers] - bias[prompts.distractors]
    # Read out in double: what one edge changes here is far below the rounding of single precision.
    exact = torch.stack([_double_patch(model, prompts, clean, near, edge) for edge in edges]) - circuit
    estimate = attribute_edges(model, prompts, clean, near, edges)
    scale = estimate.abs().max()
    assert scale > 0
    assert ((exact - estimate).abs().max() / scale) < tolerance


def _double_patch(model, prompts, clean, near, edge: Edge) -> torch.Tensor:
    """Patch one edge and read the logit difference out in double precision."""
    from distilled_circuits.circuits import ablated_model

    class Double(ablated_model.ReadOut):
        def differences(self, read: torch.Tensor) -> torch.Tensor:
            logits = self.blocks.unembedding(read)
            rows = torch.arange(len(self.prompts))
            return logits[:, rows, self.prompts.answers] - logits[:, rows, self.prompts.distractors]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distilled_circuits.circuits.paths.ReadOut", Double)
        return patch_edges(model, prompts, clean, near, [edge], 1)[0]


def test_screening_patches_the_strongest_estimates_alone(gpt2, prompts):
    """With a share of edges, those are exact and the others unknown; all have an estimate."""
    lens = HookLens(gpt2)
    values = replacement(lens, "corrupted_mean", prompts, 64)
    everything, screened = (
        patch_circuit(lens, prompts, values, NODES, batch_size=4, exact_share=share) for share in (1.0, 0.25)
    )
    known = ~np.isnan(screened.patched).any(1)
    assert known.sum() == round(0.25 * len(known))
    assert np.allclose(screened.patched[known], everything.patched[known], atol=1e-5)
    estimate = np.abs(screened.attribution.mean(1))
    assert estimate[known].min() >= estimate[~known].max()
    assert not np.isnan(everything.patched).any()


def test_the_circuit_that_edges_are_patched_in_is_the_one_that_was_judged(any_model, prompts):
    """What the circuit alone keeps is the same number in both places, with either convention of means."""
    lens = HookLens(any_model)
    given_values = replacement(lens, "corrupted_mean", prompts, 64)
    outside = frozenset(c for c in lens.components if c not in NODES)
    heads = frozenset(c for c in outside if c.head is not None)
    nested = nested_means(Blocks(lens), [lens.embed(prompts.corrupted)], given_values(prompts), heads)
    for values, over in (
        (given_values, None),
        (constant(Values(given_values(prompts).z, nested)), prompts.corrupted),
    ):
        found = patch_circuit(lens, prompts, values, NODES, batch_size=3)
        judged = NodeSets(lens, prompts, given_values, 4, nested_over=over)
        assert np.allclose(found.circuit, judged.only(NODES), atol=1e-5)
        assert np.allclose(found.full, judged.differences(()), atol=1e-5)


def test_a_circuit_without_nodes_has_no_edges(gpt2, prompts):
    """The empty circuit is no special case for who reads the result."""
    lens = HookLens(gpt2)
    found = patch_circuit(lens, prompts, replacement(lens, "zero", prompts, 64), [], batch_size=4)
    assert found.patched.shape == (0, len(prompts))
    assert not np.allclose(found.circuit, found.full)


def test_edges_go_upwards_and_from_a_head_to_its_own_mlp():
    """Two layers by hand: a head reaches its layer's MLP, an MLP reaches the heads above, everything the logits."""
    nodes = [Component(0, 1), Component(0), Component(1, 0)]
    assert [str(edge) for edge in possible_edges(nodes)] == [
        "L0H1->MLP0", "L0H1->L1H0<q>", "L0H1->L1H0<k>", "L0H1->L1H0<v>", "L0H1->logits",
        "MLP0->L1H0<q>", "MLP0->L1H0<k>", "MLP0->L1H0<v>", "MLP0->logits", "L1H0->logits",
    ]  # fmt: skip


def test_names_of_edges_are_read_in_both_forms():
    """Our names and those of the exchange format; what is none of them is refused."""
    for edge in possible_edges(NODES):
        assert Edge.parse(str(edge)) == Edge.parse(edge_name(edge)) == edge
    for name in ("L0H1->L2H3", "MLP0->MLP1<q>", "L0H1", "input->MLP0", "logits->MLP1"):
        with pytest.raises(ValueError, match="names no"):
            Edge.parse(name)


def test_both_readings_of_the_threshold_by_hand():
    """Full 10, circuit 8, patched 7: 30 % of the full model are missing, 12.5 % of the circuit."""
    full, circuit, patched = np.array([12.0, 8.0]), np.array([9.0, 7.0]), np.array([[8.0, 6.0], [9.0, 7.0]])
    assert edge_drop(patched, circuit, full, "full") == pytest.approx([0.3, 0.2])
    assert edge_drop(patched, circuit, full, "circuit") == pytest.approx([0.125, 0])
    weights = np.array([1.0, 0.0])
    assert edge_drop(patched, circuit, full, "circuit", weights) == pytest.approx([1 / 9, 0])


def test_edges_on_resampled_prompts():
    """An edge that costs something on every prompt is always kept, one that costs on some of them sometimes."""
    circuit = np.full(20, 10.0)
    patched = np.array([np.full(20, 9.0), np.where(np.arange(20) < 4, 6.0, 10.0), circuit])
    kept = resampled_edges(patched, circuit, circuit, 0.05, "circuit", 200, np.random.default_rng(0)).mean(0)
    assert kept[0] == 1
    assert 0.5 < kept[1] < 1
    assert kept[2] == 0


COMPONENTS = all_components(3, 2)


@settings(max_examples=30, deadline=None)
@given(st.sets(st.sampled_from(COMPONENTS)), st.randoms(use_true_random=False))
def test_the_exchange_format_keeps_a_circuit(nodes, random):
    """Export and import give back the nodes, the edges and their scores."""
    edges = possible_edges(nodes)
    circuit = ExchangedCircuit(
        3, 2, 8,
        tuple(component for component in COMPONENTS if component in nodes),
        {edge: random.uniform(-2, 2) for edge in edges},
        frozenset(edge for edge in edges if random.random() < 0.5),
    )  # fmt: skip
    read = from_exchange(to_exchange(circuit), "a.json")
    assert (read.layers, read.heads, read.d_model) == (3, 2, 8)
    assert (read.nodes, read.edges) == (circuit.nodes, circuit.edges)
    assert {edge: read.scores[edge] for edge in edges} == circuit.scores


def test_an_export_is_the_whole_graph_of_the_format():
    """Every node and edge that EAP-IG makes of such a model, by its own names: it looks up each of them."""
    exported = to_exchange(ExchangedCircuit(2, 2, 8, (Component(0, 1),), {}, frozenset()))
    assert list(exported["nodes"]) == ["input", "a0.h0", "a0.h1", "m0", "a1.h0", "a1.h1", "m1", "logits"]
    # input: 6 + 1 + 6 + 1 + 1; heads of layer 0: 2 x (1 + 6 + 1 + 1); m0: 6 + 1 + 1; heads of layer 1: 2 x 2; m1: 1
    assert len(exported["edges"]) == 15 + 18 + 8 + 4 + 1
    assert exported["edges"]["input->a0.h1<k>"] == {"score": 0.0, "in_graph": True}
    assert exported["edges"]["a0.h0->m0"] == {"score": 0.0, "in_graph": False}
    assert exported["cfg"] == {"n_layers": 2, "n_heads": 2, "parallel_attn_mlp": False, "d_model": 8}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "no circuit of EAP-IG or MIB"),
        ({"cfg": {"n_layers": 1, "n_heads": 1, "d_model": 4}, "nodes": {"a9.h0": {"in_graph": True}}, "edges": {}},
         "L9H0 not in a model of 1 layers with 1 heads"),
        ({"cfg": {"n_layers": 1, "n_heads": 1, "d_model": 4}, "nodes": {"x": {"in_graph": True}}, "edges": {}},
         "'x' names no component"),
        ({"cfg": {"n_layers": 1, "n_heads": 1, "d_model": 4, "parallel_attn_mlp": True}, "nodes": {}, "edges": {}},
         "in parallel"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_named_with_what_is_wrong(content, message):
    """The error says which file and what in it."""
    with pytest.raises(UserError, match=f"circuit.json: .*{message}"):
        from_exchange(content, "circuit.json")


def test_grouped_queries_share_what_enters_their_key(prompts):
    """On grouped-query Llama an edge into one head's key is the edge into the key of the whole group."""
    lens = HookLens(random_model("llama"))
    nodes = [Component(0, 0), Component(2, 0), Component(2, 1), Component(2, 5)]
    edges = possible_edges(nodes)
    found = patch_circuit(lens, prompts, replacement(lens, "corrupted_mean", prompts, 64), nodes, batch_size=8)
    row = {str(edge): values for edge, values in zip(edges, found.patched, strict=True)}
    assert np.allclose(row["L0H0->L2H0<k>"], row["L0H0->L2H1<k>"], atol=1e-6)
    assert not np.allclose(row["L0H0->L2H0<k>"], row["L0H0->L2H5<k>"], atol=1e-6)
    assert not np.allclose(row["L0H0->L2H0<q>"], row["L0H0->L2H1<q>"], atol=1e-6)


def test_prompts_in_batches_give_the_same_edges(gpt2):
    """Memory is bounded by the batch, results do not depend on it."""
    lens = HookLens(gpt2)
    prompts = random_prompts(9)
    values = replacement(lens, "resample", prompts, 64)
    small, large = (patch_circuit(lens, prompts, values, NODES, batch_size=size) for size in (2, 50))
    assert np.allclose(small.patched, large.patched, atol=1e-5)
    assert np.allclose(small.attribution, large.attribution, atol=1e-4)
