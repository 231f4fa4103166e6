"""Influence scores, drops and the numbers of circuits, against values worked out by hand."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from distilled_circuits.artifacts import count_parameters
from distilled_circuits.comparison.circuit_summary import circuit_summary, edge_summary, stability_summary
from distilled_circuits.comparison.scores import (
    baseline_problem,
    clipped_drop,
    influence_scores,
    mean_clipped_drop,
    mean_drop,
    resampled_components,
    resampled_prompts,
    retained_percent,
)
from distilled_circuits.comparison.summary import robustness_summary
from distilled_circuits.comparison.variants import INFLUENCES
from distilled_circuits.report.register import register

UNABLATED = np.array([2.0, 4.0])
ABLATED = np.array([[0.0, 2.0], [1.0, 3.0], [3.0, 5.0], [4.0, 2.0]])
"""Mean 3; the components' mean drops are 2, 1, -1, 0."""


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("clamp_max", [1, 0.5, 0, 0]),
        ("abs_l1", [0.5, 0.25, 0.25, 0]),
        ("abs_max", [1, 0.5, 0.5, 0]),
        ("abs_l2", [2 / 6**0.5, 1 / 6**0.5, 1 / 6**0.5, 0]),
        ("l2", [2 / 6**0.5, 1 / 6**0.5, -1 / 6**0.5, 0]),
    ],
)
def test_influence_scores_by_hand(kind, expected):
    """Equation 5, the released code's form, and three more, from the same drops."""
    assert mean_drop(UNABLATED, ABLATED).tolist() == [2, 1, -1, 0]
    assert influence_scores(mean_drop(UNABLATED, ABLATED), kind) == pytest.approx(expected)


def test_influence_over_a_list_counts_repeated_components():
    """As released: drops 2, 1, 1 in percent with the last counted twice have l1 sum 5 and l2 root of 7."""
    weight = np.array([1.0, 1, 2])
    assert influence_scores([2, -1, 1], "abs_l1", weight) == pytest.approx([0.4, 0.2, 0.2])
    assert influence_scores([2, -1, 1], "abs_l2", weight) == pytest.approx([2 / 7**0.5, 1 / 7**0.5, 1 / 7**0.5])
    assert influence_scores([2, -1, 1], "clamp_max", np.array([0.0, 1, 1])) == pytest.approx([2, 0, 1])


def test_an_unknown_influence_is_named():
    """The error lists what there is."""
    with pytest.raises(ValueError, match="influence 'l3', allowed: clamp_max"):
        influence_scores([1.0], "l3")


@pytest.mark.parametrize("kind", INFLUENCES)
def test_influence_without_any_change_is_zero(kind):
    """Nothing is divided by a largest change of zero."""
    assert influence_scores(np.zeros(2), kind).tolist() == [0, 0]


@given(
    arrays(float, 5, elements=st.floats(-10, 10).filter(lambda drop: drop == 0 or abs(drop) > 1e-6)), st.floats(0.1, 10)
)
def test_influence_scores_do_not_depend_on_the_unit(drop, unit):
    """Logits or percent: scaling all drops changes no score."""
    for kind in INFLUENCES:
        assert influence_scores(unit * drop, kind) == pytest.approx(influence_scores(drop, kind), abs=1e-6)


def test_the_mean_clipped_drop_has_the_papers_interval():
    """Table 2: the mean of 100, 40, 0, 0 is 35; the interval is that of means of four drawn with repetition."""
    retained = [-50.0, 60.0, 100.0, 120.0]
    value, (low, high) = mean_clipped_drop(retained)
    assert value == 35
    draws = np.random.default_rng(42).integers(4, size=(10000, 4))
    means = [sum([100, 40, 0, 0][i] for i in row) / 4 for row in draws]
    assert (low, high) == pytest.approx(tuple(np.percentile(means, [2.5, 97.5])))


def test_drops_are_clipped_and_averaged():
    """Retained -50, 60, 100 and 120 percent are drops of 100, 40, 0 and 0 (DC Table 2)."""
    retained = np.array([-50.0, 60.0, 100.0, 120.0])
    assert clipped_drop(retained).tolist() == [100, 40, 0, 0]
    assert retained_percent(np.array([1.0, 3.0]), np.array([[1.0, 1.0]])).tolist() == [50]
    samples = resampled_components(retained, 4000, np.random.default_rng(0))
    assert samples.mean() == pytest.approx(35, abs=2)
    assert set(np.unique(samples)) <= {25 * a + 10 * b for a in range(5) for b in range(5)}


def test_drops_over_prompts_by_hand():
    """With all weight on the first prompt components keep 0, 1/2, 3/2 and 2 of it; on the second 1/2, 3/4, 5/4, 1/2."""
    weights = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    expected = [(100 + 50) / 4, (50 + 25 + 0 + 50) / 4, (200 / 3 + 100 / 3) / 4]
    assert resampled_prompts(UNABLATED, ABLATED, weights) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("values", "fine"),
    [([1.0, 1.2, 0.8], True), ([-1.0, -1.2, -0.8], True), ([1.0, -1.0, 0.1], False), ([0.001, 0.001], False)],
)
def test_percentages_need_a_logit_difference(values, fine):
    """A mean of its own size, apart from zero by two standard errors; else a reason and a remedy."""
    problem = baseline_problem(np.array(values))
    assert problem is None if fine else "too near zero" in problem and "prompts.number" in problem


def test_robustness_has_both_intervals_and_grows_with_compression():
    """Student 40 %, teacher 10 %: 30 points at a compression of one half are 6 points for each tenth."""
    unablated = {"teacher": np.full(6, 10.0), "student": np.full(6, 10.0)}
    ablated = {"teacher": np.full((3, 6), 9.0), "student": np.array([[2.0] * 6, [10.0] * 6, [6.0] * 6])}
    found = robustness_summary(unablated, ablated, {"teacher": 200, "student": 100}, 500, np.random.default_rng(0))
    assert found["teacher"]["value"] == pytest.approx(10)
    assert found["teacher"]["interval95"] == pytest.approx([10, 10])
    assert found["student"]["value"] == pytest.approx(40)
    assert found["student"]["interval95_prompts"] == pytest.approx([40, 40])
    low, high = found["student"]["interval95"]
    assert low < 40 < high
    assert found["difference"]["value"] == pytest.approx(30)
    assert found["brittleness"]["value"] == pytest.approx(6)
    assert found["brittleness"]["interval95"] == pytest.approx([(low - 10) / 5, (high - 10) / 5])
    assert (found["student"]["share_above_10"], found["student"]["share_above_20"]) == pytest.approx((2 / 3, 2 / 3))


def test_robustness_without_a_baseline_has_a_reason_and_no_number():
    """The other model keeps its numbers; there is no difference to a model without percentages."""
    unablated = {"teacher": np.array([1.0, -1.0, 0.2]), "student": np.array([1.0, 1.1, 0.9])}
    ablated = {"teacher": np.ones((2, 3)), "student": np.ones((2, 3)) / 2}
    found = robustness_summary(unablated, ablated, {"teacher": 2, "student": 1}, 50, np.random.default_rng(0))
    assert found["teacher"]["value"] is None
    assert "too near zero" in found["teacher"]["why_none"]
    assert found["student"]["value"] == pytest.approx(50, abs=0.1)
    assert found["difference"] is found["brittleness"] is None


def circuit_artifacts() -> tuple[dict, dict[str, np.ndarray]]:
    """Return a circuit of three nodes on two prompts, as its artifacts have it."""
    circuit = {
        "nodes": ["L0H1", "L3H2", "MLP3"],
        "trace": [{"sweep": 1}, {"sweep": 3}],
        "why_none": None,
        "thresholds": [{"threshold": 0.3, "nodes": ["MLP3"], "only_circuit": 3.5, "without_circuit": 1.0}],
    }
    evaluation = {
        "full": np.array([4.0, 6.0]),
        "only_circuit": np.array([3.0, 5.0]),
        "without_circuit": np.array([-1.0, 0.0]),
        "without_node": np.array([[2.0, 4.0], [3.0, 5.0], [0.0, 0.0]]),
        "random": np.array([[1.0, 1.0], [0.0, 3.0]]),
        "curve_size": np.array([0, 3]),
        "curve": np.array([[0.0, 1.0], [5.0, 5.0]]),
    }
    return circuit, evaluation


def test_circuit_summary_by_hand():
    """Percentages are of the full model's mean; a node's minimality is what the circuit loses without it."""
    found = circuit_summary(*circuit_artifacts(), 100, np.random.default_rng(0))
    assert (found["heads"], found["mlps"], found["sweeps"]) == (2, 1, 3)
    assert found["only_circuit"]["percent"]["value"] == 80
    assert found["only_circuit"]["percent"]["interval95"] == pytest.approx([75, 500 / 6])
    assert found["without_circuit"]["percent"]["value"] == -10
    assert {row["node"]: row["value"] for row in found["minimality"]} == {"L0H1": 20, "L3H2": 0, "MLP3": 80}
    assert found["random_percent"] == {"value": 25, "range": [20, 30]}
    assert found["curve"] == {"size": [0, 3], "percent": [10, 100]}
    assert found["thresholds"] == [
        {"threshold": 0.3, "heads": 0, "mlps": 1, "only_circuit_percent": 70, "without_circuit_percent": 20}
    ]


def test_a_circuit_that_is_none_has_a_reason_and_no_percentages():
    """What is left out cannot be read as zero."""
    circuit, evaluation = circuit_artifacts()
    found = circuit_summary({**circuit, "why_none": "because"}, evaluation, 10, np.random.default_rng(0))
    assert found["why_none"] == "because"
    assert "only_circuit" not in found


def edges_artifact() -> dict[str, np.ndarray]:
    """Return four edges of a circuit that keeps 8 of 10; the last one was screened out."""
    patched = np.array([[6.0, 6.0], [8.0, 7.0], [8.5, 8.0], [np.nan, np.nan]])
    return {
        "edges": np.array(["L0H1->MLP1", "MLP0->MLP1", "MLP1->logits", "MLP0->logits"]),
        "patched": patched,
        "circuit": np.array([8.0, 8.0]),
        "full": np.array([10.0, 10.0]),
        "kept": np.array([True, True, False, False]),
        "attribution": np.array([[-2.5, -2.0], [-0.1, -0.1], [0.2, 0.2], [0.05, 0.05]]),
    }


def test_edge_summary_by_hand():
    """The strongest costs 2 of the circuit's 8. One edge is screened out, so the paper's reading cannot be counted.

    With its value known (7, that is 30 % of 10 missing) there are three as in the paper, of 40, 25 and 30 %.
    """
    found = edge_summary(edges_artifact(), 0.2, 100, np.random.default_rng(0))
    assert (found["possible"], found["patched"], found["kept"], found["kept_as_in_paper"]) == (4, 3, 2, None)
    assert [(row["edge"], row["value"]) for row in found["strongest"]] == [("L0H1->MLP1", 25), ("MLP0->MLP1", 6.25)]
    assert found["agreement"] == {"spearman": 1, "edges": 3, "kept_among_largest_estimates": None}
    known = {**edges_artifact(), "patched": np.vstack([edges_artifact()["patched"][:3], [[7.0, 7.0]]])}
    found = edge_summary(known, 0.2, 100, np.random.default_rng(0))
    assert (found["patched"], found["kept_as_in_paper"]) == (4, 3)
    assert found["agreement"]["kept_among_largest_estimates"] == 0.5
    nothing = edge_summary({"edges": []}, 0.2, 10, np.random.default_rng(0))
    assert nothing["possible"] == nothing["kept"] == 0


def test_stability_summary_tells_always_from_sometimes():
    """A node of every resample, one of some, one of none."""
    nodes = {
        "why_none": None, "prompts": 9, "failed": 0, "jaccard": [1.0, 0.5], "sizes": [2, 1],
        "selected": {"MLP0": 1, "L0H0": 0.5, "L0H1": 0},
        "jaccard_of_reference_to_circuit": 0.75, "reference": ["MLP0", "L0H0"],
    }  # fmt: skip
    found = stability_summary(
        {"nodes": nodes, "edges": {"selected": {"a": 1}, "jaccard": {"mean": 1, "interval95": [1, 1]}}}
    )
    assert (found["always"], found["sometimes"]) == (["MLP0"], {"L0H0": 0.5})
    assert found["jaccard"] == {"value": 0.75, "range": [0.5, 1.0]}
    failed = stability_summary({"nodes": {"why_none": None, "jaccard": []}, "edges": {}})
    assert "no resample" in failed["why_none"]


def test_parameters_are_counted_from_the_header(tmp_path):
    """Products of the shapes of all files; what is no tensor does not count."""
    for name, shape in (("a.safetensors", [2, 3]), ("b.safetensors", [4])):
        header = json.dumps({"__metadata__": {"format": "pt"}, "w": {"dtype": "F32", "shape": shape}}).encode()
        (tmp_path / name).write_bytes(len(header).to_bytes(8, "little") + header)
    assert count_parameters(tmp_path) == 10


def test_the_register_finds_thresholds_and_brittleness():
    """Appendix N by threshold, Appendix L on numerals; nothing for a threshold that was not run."""

    def entry(where, quantity, setting):
        return {
            "id": where,
            "paper": "2505.10822v2",
            "where": where,
            "quantity": quantity,
            "setting": setting,
            "value": 1,
        }

    circuit = circuit_summary(*circuit_artifacts(), 10, np.random.default_rng(0))
    task = {
        "title": "Numerals",
        "published_as": "",
        "circuit": {"teacher": circuit},
        "robustness": {"brittleness": {"value": 6, "interval95": [5, 7]}},
    }
    pair = {"pair": "mini", "tasks": {"numerals": task}, "circuit_threshold": 0.2, "circuit_source": "pruned"}
    pair |= {"circuit_ablation": "corrupted_mean", "ablation": "corrupted_mean"}
    pair |= {"models": {side: {"source": {}} for side in ("teacher", "student")}}
    retained = "logit difference retained by the circuit alone, percent"
    rows = register(
        [
            entry("Appendix N", retained, {"pair": "gpt2/distilgpt2", "task": "numerals", "threshold": 0.3}),
            entry("Appendix N", retained, {"pair": "gpt2/distilgpt2", "task": "numerals", "threshold": 0.1}),
            entry("Appendix L", "brittleness, percentage points per 0.1 compression", {"pair": "gpt2/distilgpt2"}),
            entry("3.1.1", "loss keeping only the circuit, percent", {"task": "numerals", "model": "gpt2"}),
        ],
        pair,
    )
    measured = [row["measured"] and row["measured"]["value"] for row in rows]
    assert measured == [70, None, 6, 20]
    assert rows[3]["measured"]["interval95"] == pytest.approx([500 / 30, 25])
