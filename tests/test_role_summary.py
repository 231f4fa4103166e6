"""Numbers of role validation worked out by hand: recoveries, output scores, curves, the register's rows, labels."""

import numpy as np
import pytest

from distilled_circuits.comparison.role_summary import output_summary, patching_summary, probe_summary
from distilled_circuits.figures.heads import token_labels
from distilled_circuits.report.register import register


@pytest.fixture
def rng():
    """A generator."""
    return np.random.default_rng(0)


def patched(clean: float = 4.0) -> dict[str, np.ndarray]:
    """Return patches of a model of 2 layers with 2 heads, 10 prompts that differ by what noise they have."""
    noise = np.linspace(-0.1, 0.1, 10)
    found = {
        "patching/clean": clean + noise,
        "patching/corrupted": noise,
        "patching/whole_places": np.array(["0", "1", "last", "all"]),
        "patching/named_places": np.array(["last", "all"]),
    }
    for part in ("attention", "mlp", "z", "qk", "v"):
        places = 2 if part in ("qk", "v") else 4
        heads = (2,) if part in ("z", "qk", "v") else ()
        found[f"patching/{part}"] = np.tile(noise, (2, *heads, places, 1))
    found["patching/attention"][1, 2] += 2
    found["patching/z"][0, 1, 3] += 3
    found["patching/z"][0, 0, 3] -= 1
    found["patching/v"][1, 0, 0] -= 1
    return found


def test_the_strongest_patch_of_each_place(rng):
    """Attention of layer 1 brings half back at the last token; a head's v takes a quarter away."""
    summary = patching_summary(patched(), 50, rng)
    last, everywhere = summary["places"]["last"], summary["places"]["all"]
    assert summary["gap"]["value"] == pytest.approx(4)
    assert last["attention"]["where"] == "layer 1"
    assert last["attention"]["value"] == pytest.approx(0.5)
    assert last["attention"]["interval95"] == pytest.approx([0.5, 0.5])
    assert last["attention"]["logits"]["value"] == pytest.approx(2)
    assert [layer["value"] for layer in last["attention_by_layer"]] == pytest.approx([0, 2])
    assert (last["v"]["where"], last["v"]["value"]) == ("L1H0", pytest.approx(-0.25))
    assert everywhere["z"]["where"] == "L0H1"
    assert everywhere["z"]["within_layer"] == pytest.approx(0.75)
    assert everywhere["z"]["z"] == pytest.approx(1)


def test_without_a_gap_there_is_nothing_to_bring_back(rng):
    """Shares of a difference near zero are not given; the reason is."""
    summary = patching_summary(patched(clean=0.0), 50, rng)
    assert summary["places"] == {}
    assert "nothing to bring back" in summary["why_none"]


def test_output_scores_by_hand(rng):
    """One head promotes the answer in every second prompt, all others never."""
    hits = np.zeros((2, 2, 10), dtype=bool)
    hits[1, 0, ::2] = True
    summary = output_summary({"promoted/answer": hits, "promoted/distractor": np.zeros_like(hits)}, 50, rng)
    assert summary["answer"]["heads"] == [[0, 0], [50, 0]]
    assert summary["answer"]["mean"]["value"] == pytest.approx(12.5)
    assert (summary["answer"]["best"], summary["answer"]["best_z"]) == ("L1H0", pytest.approx(1))
    assert summary["answer"]["best_score"]["value"] == pytest.approx(50)
    assert summary["distractor"]["mean"]["value"] == 0


def probed(**changes) -> dict[str, np.ndarray]:
    """Return probes of one question on three stages, and of two layers with two heads."""
    found = {
        "promoted/answer": np.zeros((2, 2, 40), dtype=bool),
        "probes/stages": np.array(["embedding", "L0 after attention", "L0 after MLP"]),
        "probes/answer/title": "the answer",
        "probes/answer/chance": np.float64(0.25),
        "probes/answer/residual_reached": np.array([[0.2, 0.3], [0.6, 0.8], [1, 1]]),
        "probes/answer/residual_control": np.array([[0.2, 0.3], [0.4, 0.4], [0.1, 0.2]]),
        "probes/answer/head_reached": np.array([[[0.1, 0.3], [0.6, 0.6]], [[0.9, 0.9], [0.2, 0.4]]]),
        "probes/answer/head_control": np.array([[[0.3, 0.3], [0.2, 0.2]], [[0.1, 0.1], [0.2, 0.4]]]),
    }
    return found | changes


def test_probe_curves_by_hand():
    """Means over splits; the best head of each layer, and of its control the best one too; where chance is inside."""
    target = probe_summary(probed())["targets"]["answer"]
    assert target["residual"]["mean"] == pytest.approx([0.25, 0.7, 1])
    assert target["best_heads"] == ["L0H1", "L1H0"]
    assert target["head"]["mean"] == pytest.approx([0.6, 0.9])
    assert target["head_control"]["mean"] == pytest.approx([0.3, 0.3])
    assert target["control_contains_chance"] == pytest.approx(2 / 3), "the second control is always at 0.4"
    rare = probe_summary(probed(**{"probes/answer/chance": np.float64(1e-4)}))["targets"]["answer"]
    assert rare["control_contains_chance"] is None


def pair_with(role: dict) -> dict:
    """Return as much of a pair's numbers as the rows of Table 1 and Appendix J need."""
    curve = {"mean": [0.1, 0.2, 0.3, 0.4, 0.9], "low": [0.0] * 5, "high": [1.0] * 5}
    task = {
        "title": "Numerals",
        "published_as": "",
        "roles": {"teacher": {"successor": role, "numeral_mover": role}},
        "probes": {"teacher": {"targets": {"next_element": {"residual": curve}, "all_elements": {"residual": curve}}}},
        "output_scores": {"teacher": {kind: {"heads": [[1.0, 2], [3, 4]]} for kind in ("answer", "distractor")}},
    }
    published = {"circuit_source": "pruned", "circuit_ablation": "corrupted_mean", "circuit_threshold": 0.2}
    task["circuit"] = {"teacher": {"why_none": None}}
    return {
        "pair": "mini",
        "models": {"teacher": {"source": {}}, "student": {"source": {}}},
        **published,
        "tasks": {"numerals": task},
        "distillation": {"task": "ioi"},
    }


def rows_of(role: dict) -> dict[str, dict]:
    """Return the register's rows of one published number each: Table 1's successor, its score, its probe."""
    setting = {"pair": "gpt2/distilgpt2", "model": "teacher", "task": "numerals"}
    entries = [
        ("t1", "Table 1", "ablation change, percent", {**setting, "role": "successor"}),
        ("score", "Appendix J", "successor score of L9H1 / L4H1, percent", setting),
        ("probe", "Appendix J", "probe accuracy, next numeral, layer 9 / 4, percent", setting),
    ]
    published = [
        {"id": name, "paper": "2505.10822v2", "where": where, "quantity": quantity, "setting": given, "value": 1.0}
        for name, where, quantity, given in entries
    ]
    return {row["id"]: row for row in register(published, pair_with(role))}


def test_the_register_reads_the_head_of_a_role():
    """The change within the circuit, the head's own successor score, the probe behind its block."""
    change = {"value": -30.0, "interval95": [-31.0, -29.0]}
    rows = rows_of({"plays": True, "best": "L1H0", "in_circuit": change})
    assert rows["t1"]["measured"] == change
    assert rows["score"]["measured"] == {"value": 3.0}
    assert rows["probe"]["measured"]["value"] == pytest.approx(90)


def test_an_absent_role_is_said_to_be_absent():
    """No number is made up for a role that nobody plays, or whose head the circuit lacks."""
    rows = rows_of({"plays": False, "best": "L1H0", "in_circuit": None})
    assert all(row["measured"] is None for row in rows.values())
    assert rows["t1"]["verdict"] == "not measured: no head stands out as successor"
    assert rows["score"]["verdict"] == rows["probe"]["verdict"] == rows["t1"]["verdict"]
    outside = rows_of({"plays": True, "best": "L1H0", "in_circuit": None})["t1"]
    assert outside["verdict"] == "not measured: the head of this role is not in the circuit"


def test_positions_are_labelled_by_what_stands_there():
    """The token where it never changes, the role where one is known, else an example with an ellipsis."""
    records = [
        {"tokens": ["When", "Ann", "and", "Bob", "ran"], "positions": {"io": [1], "s1": [3]}},
        {"tokens": ["When", "Cid", "and", "Dan", "sat"], "positions": {"io": [3], "s1": [1]}},
    ]
    assert token_labels(records) == ["When", "IO/S1", "and", "IO/S1", "ran…"]
