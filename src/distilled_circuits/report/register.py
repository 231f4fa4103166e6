"""The register: every published number beside what was measured here, and whether the two may be compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from distilled_circuits.comparison.variants import TABLE_5
from distilled_circuits.lens.components import Component
from distilled_circuits.report.comparability import side_of, verdict

FIRST_PAPER = "2505.10822v2"
STAND_INS = {"simpleqa": "facts"}
"""Tasks of the papers that another task stands in for here."""
ROLES = {
    "similar member detection": "duplicate_token",
    "numeral detection": "numeral_detection",
    "numeral mover": "numeral_mover",
    "successor": "successor",
}
"""Roles of Table 1 by the names of our detectors."""
TABLE_5_MATCHINGS = {"soft top-5": "soft"}
"""Matchings of Table 5 by our names."""
PAPERS_THRESHOLD = 0.20
"""Of pruning, for what section 3.1.1 prints."""
Measured = dict[str, Any] | None
Finder = Callable[[dict[str, Any], dict[str, Any]], Measured]


def register(published: list[dict[str, Any]], pair: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each number of the first paper: it, ours with its interval or None, and whether they compare."""
    rows = []
    for entry in published:
        if entry["paper"] == FIRST_PAPER:
            measured = _measure(entry, pair)
            rows.append(register_row(entry, measured, _verdict(entry, measured, pair)))
    return rows


def register_row(entry: dict[str, Any], measured: Measured, verdict: str) -> dict[str, Any]:
    """Return a published number beside a measured one."""
    return {
        "id": entry["id"],
        "paper": entry["paper"],
        "where": entry["where"],
        "quantity": entry["quantity"],
        "setting": entry["setting"],
        "published": entry["value"],
        "published_interval95": entry.get("interval95"),
        "measured": measured,
        "verdict": verdict,
        "note": entry.get("note"),
    }


def _verdict(entry: dict[str, Any], measured: Measured, pair: dict[str, Any]) -> str:
    if measured is None:
        has_finder = (entry["paper"], entry["where"], entry["quantity"]) in FINDERS
        absent = _absent_role(entry, pair)
        if has_finder and absent:
            return f"not measured: {absent}"
        return "not measured in this run" if has_finder else "not measured by this version"
    by = "; by the released variant, as most likely there"
    # A brittleness is of numerals, though its setting does not say so.
    said = verdict(entry, measured, pair, _task({"task": "numerals", **entry["setting"]}, pair))
    return said + (by if (entry["where"], entry["quantity"]) == ("Table 3", "alignment") else "")


def _absent_role(entry: dict[str, Any], pair: dict[str, Any]) -> str | None:
    """Say why a number that hangs on the head of a role is not there: an absent role is a finding."""
    setting = entry["setting"]
    role = ROLES.get(setting.get("role")) or OF_ROLES.get(entry["quantity"])
    if role is None or not _task(setting, pair):
        return None
    found = _played(setting, pair, role)
    return "the head of this role is not in the circuit" if found else f"no head stands out as {role.replace('_', ' ')}"


def _measure(entry: dict[str, Any], pair: dict[str, Any]) -> Measured:
    finder = FINDERS.get((entry["paper"], entry["where"], entry["quantity"]))
    return finder(entry["setting"], pair) if finder else None


def _task(setting: dict[str, Any], pair: dict[str, Any]) -> dict[str, Any] | None:
    """Return the task that has the paper's own prompts, else the one that stands for them."""
    name = setting.get("task")
    own = [task for task in pair["tasks"].values() if name and task["published_as"] == name]
    return own[0] if own else pair["tasks"].get(STAND_INS.get(name, name))


def _side(setting: dict[str, Any]) -> str:
    return side_of(setting.get("model", "teacher"))


def _value(value: float) -> dict[str, Any]:
    return {"value": value}


def _robustness(setting: dict[str, Any], pair: dict[str, Any]) -> Measured:
    task = _task(setting, pair)
    found = task and task["robustness"][_side(setting)]
    return {key: found[key] for key in ("value", "interval95")} if found and found["value"] is not None else None


def _robustness_gap(setting: dict[str, Any], pair: dict[str, Any]) -> Measured:
    task = _task(setting, pair)
    return task and task["robustness"]["difference"]


def _brittleness(_setting: dict[str, Any], pair: dict[str, Any]) -> Measured:
    # The paper does it on numerals; the pair is in the setting, the task is not.
    task = _task({"task": "numerals"}, pair)
    return task and task["robustness"]["brittleness"]


def _of_logit_difference(part: str) -> Finder:
    def find(setting: dict[str, Any], pair: dict[str, Any]) -> Measured:
        task = _task(setting, pair)
        return task and task["logit_difference"][part or _side(setting)]

    return find


def _alignment(setting: dict[str, Any], pair: dict[str, Any]) -> Measured:
    """Return Table 3's alignment as its notebooks computed it: `released`."""
    task = _task(setting, pair)
    return task and task["alignment"]["variants"]["released"].get("score")


def _sensitivity(setting: dict[str, Any], pair: dict[str, Any]) -> Measured:
    """Return Table 5's alignment under one normalisation and matching, everything else as printed."""
    task = _task(setting, pair)
    name = TABLE_5[setting["normalisation"], TABLE_5_MATCHINGS.get(setting["matching"], setting["matching"])]
    return task and task["alignment"]["variants"][name].get("score")


def _circuit(setting: dict[str, Any], pair: dict[str, Any]) -> dict[str, Any] | None:
    task = _task(setting, pair)
    found = task and task["circuit"][_side(setting)]
    as_published = pair["circuit_source"] == "pruned" and pair["circuit_ablation"] == "corrupted_mean"
    return found if found and as_published and not found["why_none"] else None


def _circuit_as_published(setting: dict[str, Any], pair: dict[str, Any]) -> dict[str, Any] | None:
    return _circuit(setting, pair) if pair["circuit_threshold"] == PAPERS_THRESHOLD else None


def _at_threshold(setting: dict[str, Any], pair: dict[str, Any]) -> Measured:
    found = _circuit(setting, pair)
    rows = found["thresholds"] if found else []
    return next((_value(row["only_circuit_percent"]) for row in rows if row["threshold"] == setting["threshold"]), None)


def _loss_of_only_circuit(setting: dict[str, Any], pair: dict[str, Any]) -> Measured:
    found = _circuit_as_published(setting, pair)
    if not found:
        return None
    percent = found["only_circuit"]["percent"]
    low, high = percent["interval95"]
    return {"value": 100 - percent["value"], "interval95": [100 - high, 100 - low]}


def _without_circuit(setting: dict[str, Any], pair: dict[str, Any]) -> Measured:
    found = _circuit_as_published(setting, pair)
    if not found:
        return None
    return {key: found["without_circuit"][key] for key in ("value", "interval95")}


def _played(setting: dict[str, Any], pair: dict[str, Any], role: str) -> dict[str, Any] | None:
    """Return what is said of the head that plays a role; None where no head does."""
    task = _task(setting, pair)
    found = task and task["roles"][_side(setting)].get(role)
    return found if found and found["plays"] else None


def _role_in_circuit(setting: dict[str, Any], pair: dict[str, Any]) -> Measured:
    found = _played(setting, pair, ROLES[setting["role"]])
    if not found or not found["in_circuit"] or not _circuit_as_published(setting, pair):
        return None
    return {key: found["in_circuit"][key] for key in ("value", "interval95")}


def _patched_numerals(setting: dict[str, Any], pair: dict[str, Any]) -> Measured:
    found = _played(setting, pair, "numeral_detection")
    task = _task(setting, pair)
    places = task["patching"][_side(setting)]["places"] if task else {}
    if not found or "numerals" not in places:
        return None
    return places["numerals"]["attention_by_layer"][Component.parse(found["best"]).layer]


def _score_of_successor(kind: str) -> Finder:
    def find(setting: dict[str, Any], pair: dict[str, Any]) -> Measured:
        found = _played(setting, pair, "successor")
        if not found:
            return None
        head = Component.parse(found["best"])
        return _value(_task(setting, pair)["output_scores"][_side(setting)][kind]["heads"][head.layer][head.head])

    return find


def _mean_successor_score(setting: dict[str, Any], pair: dict[str, Any]) -> Measured:
    task = _task(setting, pair)
    return task and task["output_scores"][_side(setting)]["answer"]["mean"]


def _probe_at(role: str, target: str) -> Finder:
    """Return what a probe reads behind the block of our head of a role, in percent: the paper names layers of GPT-2."""

    def find(setting: dict[str, Any], pair: dict[str, Any]) -> Measured:
        found = _played(setting, pair, role)
        if not found:
            return None
        targets = _task(setting, pair)["probes"][_side(setting)]["targets"]
        stage = 2 + 2 * Component.parse(found["best"]).layer
        if target == EVERY_ELEMENT:
            curves = [found["residual"]["mean"] for name, found in targets.items() if name.startswith("element_")]
            return _value(100 * sum(curve[stage] for curve in curves) / len(curves))
        curve = targets[target]["residual"]
        return _value(100 * curve["mean"][stage])

    return find


def _plateau(setting: dict[str, Any], pair: dict[str, Any]) -> Measured:
    task = _task(setting, pair)
    curve = task and task["noise"] and task["noise"]["presets"].get("printed")
    return {key: curve["plateau"][key] for key in ("value", "interval95")} if curve else None


EVERY_ELEMENT = "each element of the sequence, on average"
J_PATCHING = "logit difference recovered patching numerals into the attention of the detecting layer"
OF_ROLES = {
    J_PATCHING: "numeral_detection",
    "probe accuracy, i-th numeral, residual entering layer 5 / 3, percent": "numeral_detection",
    "probe accuracy, full list at layer 7 / 3, percent": "numeral_mover",
    "probe accuracy, next numeral, layer 9 / 4, percent": "successor",
    "successor score of L9H1 / L4H1, percent": "successor",
    "copy score of L9H1 / L4H1, percent": "successor",
}
"""Numbers of Appendix J that are of the head, or of the layer of the head, that plays a role."""
FINDERS: dict[tuple[str, str, str], Finder] = {
    (FIRST_PAPER, "Table 2", "mean ablation drop, percent"): _robustness,
    (FIRST_PAPER, "Table 2", "difference of means"): _robustness_gap,
    (FIRST_PAPER, "Table 3", "alignment"): _alignment,
    (FIRST_PAPER, "Table 3", "difference of logit differences"): _of_logit_difference("difference"),
    (FIRST_PAPER, "Table 3", "mean of logit differences"): _of_logit_difference("mean"),
    (FIRST_PAPER, "Table 4", "logit difference"): _of_logit_difference(""),
    (FIRST_PAPER, "Table 5", "alignment"): _sensitivity,
    (FIRST_PAPER, "3.1.1", "loss keeping only the circuit, percent"): _loss_of_only_circuit,
    (FIRST_PAPER, "3.1.1", "logit difference with the circuit ablated"): _without_circuit,
    (FIRST_PAPER, "Appendix N", "logit difference retained by the circuit alone, percent"): _at_threshold,
    (FIRST_PAPER, "Appendix L", "brittleness, percentage points per 0.1 compression"): _brittleness,
    (FIRST_PAPER, "Table 1", "ablation change, percent"): _role_in_circuit,
    (FIRST_PAPER, "Appendix J", J_PATCHING): _patched_numerals,
    (FIRST_PAPER, "Appendix J", "successor score of L9H1 / L4H1, percent"): _score_of_successor("answer"),
    (FIRST_PAPER, "Appendix J", "copy score of L9H1 / L4H1, percent"): _score_of_successor("distractor"),
    (FIRST_PAPER, "Appendix J", "model-wide mean successor score of heads, percent"): _mean_successor_score,
    (FIRST_PAPER, "Appendix J", "probe accuracy, i-th numeral, residual entering layer 5 / 3, percent"): _probe_at(
        "numeral_detection", EVERY_ELEMENT
    ),
    (FIRST_PAPER, "Appendix J", "probe accuracy, full list at layer 7 / 3, percent"): _probe_at(
        "numeral_mover", "all_elements"
    ),
    (FIRST_PAPER, "Appendix J", "probe accuracy, next numeral, layer 9 / 4, percent"): _probe_at(
        "successor", "next_element"
    ),
    (FIRST_PAPER, "4.2.1", "alignment plateau under noise"): _plateau,
}
