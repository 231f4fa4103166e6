"""Rules for the first paper's claims about components: what a student loses, leans on, merges and drops.

A rule takes what `comparison` computes of a task, with its pair's numbers as `pair`, and returns a finding for each
thing that it judges; its docstring is printed on the page. Each can go every way. The numbers of `mini` were known when
they were written.
"""

from __future__ import annotations

from distilled_circuits.report.findings import (
    FAILS,
    HOLDS,
    UNDECIDED,
    UNMEASURED,
    Finding,
    Numbers,
    difference,
    hull,
    opposite,
    side_of,
)

MODELS = ("teacher", "student")
STABLE = 0.10
"""Share by which a circuit may change in size and still count as of the same size."""


def larger_mean_drop(task: Numbers) -> list[Finding]:
    """Take the student's mean drop less the teacher's, in points; above 0 it holds, below 0 it does not.

    The interval is the hull of the paper's, over components, and of that over prompts: neither other components nor
    other prompts may turn the sign round.
    """
    found = task["robustness"]["difference"]
    if not found:
        why = next(task["robustness"][model]["why_none"] for model in MODELS if task["robustness"][model]["why_none"])
        return [Finding("student less teacher, points", UNMEASURED, reason=why)]
    interval = hull(found["interval95"], found["interval95_prompts"])
    what = "student less teacher, points"
    return [Finding(what, side_of(interval), found["value"], interval, task["prompts"])]


def smaller_circuit(task: Numbers) -> list[Finding]:
    """Take the student's number of nodes less the teacher's; below 0 it holds, above 0 it does not.

    The interval is that of the sizes on resampled prompts: the student's smallest less the teacher's largest, and the
    other way round. A model with half the layers has half the components: the shares of these stand beside it.
    """
    sizes, circuits, found = [], task["circuit"], task["stability"]
    for model in MODELS:
        if why := circuits[model]["why_none"] or found[model]["why_none"]:
            return [Finding("student less teacher, nodes", UNMEASURED, reason=f"{model}: {why}")]
        layers, heads = (task["pair"]["models"][model][key] for key in ("layers", "heads"))
        sizes.append((len(circuits[model]["nodes"]), layers * (heads + 1)))
    (teacher, of_teacher), (student, of_student) = sizes
    interval = difference(found["student"]["sizes"], found["teacher"]["sizes"])
    shares = f"teacher {teacher} of {of_teacher} components, student {student} of {of_student}"
    verdict = opposite(side_of(interval))
    prompts = found["student"]["prompts"]
    return [Finding("student less teacher, nodes", verdict, student - teacher, interval, prompts, shares)]


def leans_on_one_head(task: Numbers) -> list[Finding]:
    """Take what the circuit loses without the head of a role, student less teacher; above 0 it holds, below not.

    As in Table 1: points of the full logit difference, the head taken out of the circuit, for each role that heads of
    both models play in their circuits. The interval is one end less the other of the two models' intervals.
    """
    findings = []
    for role, teacher in task["roles"]["teacher"].items():
        student = task["roles"]["student"][role]
        if not teacher["plays"]:
            continue
        what = f"{teacher['title']}, points"
        if teacher["in_circuit"] and student["plays"] and student["in_circuit"]:
            value = teacher["in_circuit"]["value"] - student["in_circuit"]["value"]
            interval = difference(teacher["in_circuit"]["interval95"], student["in_circuit"]["interval95"])
            findings.append(Finding(what, side_of(interval), value, interval, task["prompts"]))
        else:
            lacking = "no head of the student plays it" if not student["plays"] else "not in both circuits"
            findings.append(Finding(what, UNMEASURED, reason=lacking))
    return findings or [Finding("roles", UNMEASURED, reason="no head of the teacher plays one")]


def loses_a_role(task: Numbers) -> list[Finding]:
    """Count roles that a head of the teacher plays and no head of the student.

    It holds if there is one, and does not if all are played by both. Whether a head plays a role is a test at a
    level fixed in params.yaml.
    """
    roles = task["roles"]
    played = [role for role, found in roles["teacher"].items() if found["plays"]]
    lost = [roles["teacher"][role]["title"] for role in played if not roles["student"][role]["plays"]]
    what = f"roles lost, of {len(played)}"
    if not played:
        return [Finding("roles lost", UNMEASURED, reason="no head of the teacher plays one")]
    return [Finding(what, HOLDS if lost else FAILS, len(lost), prompts=task["role_prompts"], reason=", ".join(lost))]


def circuit_is_necessary(task: Numbers) -> list[Finding]:
    """Take what is left without the circuit, % of the full logit difference.

    Below the pruning threshold it holds, above it does not.
    """
    findings = []
    for model in MODELS:
        circuit = task["circuit"][model]
        if circuit["why_none"]:
            findings.append(Finding(f"{model}, %", UNMEASURED, reason=circuit["why_none"]))
            continue
        left = circuit["without_circuit"]["percent"]
        verdict = opposite(side_of(left["interval95"], 100 * task["pair"]["circuit_threshold"]))
        findings.append(Finding(f"{model}, %", verdict, left["value"], tuple(left["interval95"]), task["prompts"]))
    return findings


def every_node_costs_the_threshold(task: Numbers) -> list[Finding]:
    """Take one node at a time from the circuit: the smallest loss, in points of the full logit difference.

    It holds if no node's interval reaches below the pruning threshold, and does not if one lies below it altogether.
    """
    bound, findings = 100 * task["pair"]["circuit_threshold"], []
    for model in MODELS:
        circuit = task["circuit"][model]
        rows = circuit.get("minimality")
        if not rows:
            findings.append(Finding(f"{model}, points", UNMEASURED, reason=circuit["why_none"] or "no nodes"))
            continue
        verdicts = [side_of(row["interval95"], bound) for row in rows]
        verdict = next((each for each in (FAILS, UNDECIDED) if each in verdicts), HOLDS)
        least = min(rows, key=lambda row: row["value"])
        below = f"{verdicts.count(FAILS)} of {len(rows)} nodes below {bound:.0f}; least {least['node']}"
        findings.append(
            Finding(f"{model}, points", verdict, least["value"], tuple(least["interval95"]), task["prompts"], below)
        )
    return findings


def size_is_stable(task: Numbers) -> list[Finding]:
    """Count nodes at the pruning thresholds that were swept.

    It holds if they differ by at most 10 % of the largest number, and does not if by more.
    """
    findings = []
    for model in MODELS:
        circuit = task["circuit"][model]
        sizes = [row["heads"] + row["mlps"] for row in circuit.get("thresholds", [])]
        if len(sizes) < 2:
            why = circuit["why_none"] or "one threshold only"
            findings.append(Finding(f"{model}, largest less smallest", UNMEASURED, reason=why))
            continue
        apart = max(sizes) - min(sizes)
        verdict = HOLDS if apart <= STABLE * max(sizes) else FAILS
        seen = ", ".join(map(str, sizes))
        findings.append(Finding(f"{model}, largest less smallest", verdict, apart, None, task["prompts"], seen))
    return findings


def merges_mlps(task: Numbers) -> list[Finding]:
    """Take teacher MLPs that have one student MLP as partner, and ablate them together: % of the logit difference lost.

    It holds if at least two of them cost something when ablated alone (interval above 0), does not hold if no student
    MLP has two partners, and is not decided in between.
    """
    what, groups = "partners of one MLP, %", task["mlps"]["groups"]
    if groups is None:
        return [Finding(what, UNMEASURED, reason="widths differ, or there is no logit difference to lose")]
    merged = [group for group in groups if group["name"].startswith("partners of")]
    if not merged:
        return [Finding(what, FAILS, prompts=task["prompts"], reason="no student MLP has two partners")]
    costly = [group for group in merged if sum(row["interval95"][0] > 0 for row in group["members"]) > 1]
    group = (costly or merged)[0]
    together, verdict = group["together"], HOLDS if costly else UNDECIDED
    names = f"{group['name']}: {', '.join(row['mlp'] for row in group['members'])}"
    return [Finding(what, verdict, together["value"], tuple(together["interval95"]), task["prompts"], names)]


def drops_a_harmful_mlp(task: Numbers) -> list[Finding]:
    """Take the teacher's MLP without a partner that is missed least: % of the logit difference lost without it.

    It holds if one of them does harm (interval below 0), and does not if all of them are of use (above 0).
    """
    what = "least loss without a partnerless MLP, %"
    groups = [group for group in task["mlps"]["groups"] or [] if group["name"] == "without a partner"]
    if not groups:
        return [Finding(what, UNMEASURED, reason="no MLP of the teacher is known to be without a partner")]
    least = min(groups[0]["members"], key=lambda row: row["value"])
    intervals = [row["interval95"] for row in groups[0]["members"]]
    harmful, useful = any(high < 0 for _, high in intervals), all(low > 0 for low, _ in intervals)
    verdict = HOLDS if harmful else FAILS if useful else UNDECIDED
    return [Finding(what, verdict, least["value"], tuple(least["interval95"]), task["prompts"], least["mlp"])]


def diverges_at_the_first_token(task: Numbers) -> list[Finding]:
    """Take the cosine of the last teacher MLP and its partner, other tokens less the first.

    Above 0 it holds, below it does not.
    """
    row = task["mlps"]["pairs"][-1]
    what = f"T-{row['teacher']} and S-{row['student']}, cosine"
    if "first_token_gap" not in row:
        return [Finding(what, UNMEASURED, reason="the two models' outputs have no common basis or tokens")]
    gap = row["first_token_gap"]
    return [Finding(what, side_of(gap["interval95"]), gap["value"], tuple(gap["interval95"]), task["prompts"])]


def keeps_less_off_distribution(task: Numbers) -> list[Finding]:
    """Take the share of the logit difference that is kept under a shift, student less teacher, in points.

    Below 0 it holds, above it does not. The interval is at 95 % for each shift; what decides is one at 95 %
    for all shifts of the task together.
    """
    names = {"student keeps less": HOLDS, "student keeps more": FAILS, "no difference shown": UNDECIDED}
    findings = []
    for row in task["shift"]["variants"]:
        if row["name"] == "usual":
            continue
        what, found = f"{row['title']}, points", row.get("difference")
        if not found:
            why = row["why_none"] or "a logit difference too near zero"
            findings.append(Finding(what, UNMEASURED, reason=why))
            continue
        interval = tuple(found["interval95"])
        findings.append(Finding(what, names[row["verdict"]], found["value"], interval, row["prompts"]))
    return findings


def readable_next_element(task: Numbers) -> list[Finding]:
    """Take a probe's best accuracy on the stream for the next element.

    Above chance and above its control with permuted labels it holds, below them it does not.
    """
    findings = []
    for model in MODELS:
        target = task["probes"][model]["targets"].get("next_element")
        if not target:
            continue
        curve, control = target["residual"], target["residual_control"]
        top = max(range(len(curve["mean"])), key=curve["mean"].__getitem__)
        interval = (curve["low"][top], curve["high"][top])
        verdict = side_of(interval, max(target["chance"], control["mean"][top]))
        findings.append(Finding(f"{model}, accuracy", verdict, curve["mean"][top], interval, task["prompts"]))
    return findings
