"""The whole graph on a small configuration: every artifact is there, describes itself, and comes out the same twice."""

import hashlib
import json
import re
import shutil
import zipfile
from pathlib import Path

import h5py
import pytest
import yaml
from projects import call, copy_of, git_commit, run_in_process, smoke_params

from distilled_circuits.artifacts import read_provenance
from distilled_circuits.comparison.alignment import align
from distilled_circuits.comparison.variants import PRESETS
from distilled_circuits.durations import last_seconds
from distilled_circuits.graph import load_graph
from distilled_circuits.lockfile import md5
from distilled_circuits.plan import plan
from distilled_circuits.stages.job import MODELS
from distilled_circuits.stages.stored_records import stored_record

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
NOWHERE = "http://127.0.0.1:9"
"""A proxy that nobody answers for: whoever asks the network fails at once."""


@pytest.fixture(scope="module")
def finished(finished_run, tmp_path_factory) -> Path:
    """A finished run through Snakemake, whose files these tests change and put back."""
    return copy_of(finished_run, tmp_path_factory.mktemp("pipeline") / "snakemake")


def artifacts(folder: Path) -> list[Path]:
    """Return all HDF5 and JSON artifacts of a run."""
    own = [p for p in (folder / "results").rglob("*") if p.suffix == ".h5" or p.name.endswith("model.json")]
    names = (
        "prompts.json",
        "circuit.json",
        "roles_played.json",
        "circuit_teacher.json",
        "circuit_student.json",
        "stability.json",
        "alignment.json",
        "mapping.json",
        "untrained.json",
        "verdicts.json",
        "comparison.json",
    )
    names += ("sweeps/*.json",)
    named = [p for name in names for p in (folder / "results").rglob(name) if p.parent.name != "code"]
    return sorted(own + named)


def foretold(folder: Path) -> set[str]:
    """Return the items that `why` does not call as recorded."""
    return {step.instance.name for step in plan(load_graph(folder), folder) if step.action != "nothing"}


def test_a_finished_run_has_nothing_to_do(finished):
    """Both engines agree that all is up to date, and so do DVC's status and `why`, which knows what each stage took."""
    assert foretold(finished) == set()
    assert all(last_seconds(item.name, finished) for item in load_graph(finished).items)
    assert "Nothing to be done" in call(finished, "snakemake")
    assert "up to date" in call(finished, "dvc", "repro")
    assert "up to date" in call(finished, "dvc", "status")


def test_an_edit_reruns_what_is_made_of_it_and_nothing_else(finished):
    """A module of one stage: that stage and what reads it; a module of none, that of the command line: no stage."""
    planned = {}
    for edited in ("stages/verdicts.py", "cli.py"):
        module = finished / "src/distilled_circuits" / edited
        text = module.read_text()
        module.write_text(text + "# edited\n")
        planned[edited] = set(re.findall(r"^(\w+) +\d+$", call(finished, "snakemake", "--dry-run"), re.MULTILINE))
        assert {name.partition("@")[0] for name in foretold(finished)} == planned[edited] - {"all", "total"}
        module.write_text(text)
    assert planned["stages/verdicts.py"] == {"all", "code", "verdicts", "comparison", "report", "total"}
    assert planned["cli.py"] == {"all", "code", "total"}
    assert "Nothing to be done" in call(finished, "snakemake")


def test_shards_of_what_is_up_to_date_compute_nothing(finished, tmp_path):
    """Asked for shards where nothing has to run, their jobs write nothing, and the stage's leaves all as it was."""
    folder = shutil.copytree(finished, tmp_path / "copy")
    made = folder / "results/pairs/mini/numerals/influence.h5"
    before = (folder / "dvc.lock").read_text(), made.read_bytes()
    call(folder, "snakemake", str(made.relative_to(folder)), "--config", "shards={influence: 2}")
    assert [log.read_text() for log in folder.glob("logs/influence@*-of-2.log")] == ["", ""]
    assert ((folder / "dvc.lock").read_text(), made.read_bytes()) == before
    assert not [path for path in (folder / ".snakemake/shards").rglob("*") if path.is_file()]


def test_code_that_was_edited_after_the_run_began_is_not_run(finished):
    """DVC would record what it makes as the old code's: one line names the module."""
    module = finished / "src/distilled_circuits/stages/verdicts.py"
    text, made = module.read_text(), finished / "results/distillation/0/small/theory_of_mind/verdicts.json"
    before = made.read_bytes()
    module.write_text(text + "# edited\n")
    item = ("teacher=0", "student=small", "task=theory_of_mind")
    said = call(finished, "distilled-circuits", "run", "verdicts", *item, check=False)
    module.write_text(text)
    edited = "src/distilled_circuits/stages/verdicts.py: edited since this run began"
    name = "verdicts@0-small-theory_of_mind"
    assert said == f"distilled-circuits: {edited}, so {name} was not run; start snakemake again\n"
    assert made.read_bytes() == before


def test_a_flipped_byte_in_each_kind_of_artifact_is_undone(finished):
    """And a file cut short: one run brings all of them back as they were, from DVC's cache, and runs no stage."""
    results = finished / "results"
    rival = next((results / "pairs/mini/rivals").rglob("model.json")).parent
    flipped = [
        results / "pairs/mini/numerals/noise.h5",
        results / "pairs/mini/numerals/stability.json",
        rival / "model.json",
        rival / "model.safetensors",
        results / "code/noise.json",
        results / "metrics.yaml",
        results / "plots/noise.csv",
        results / "report.html",
    ]
    cut = results / "pairs/mini/numerals/sampling.h5"
    before = {file: file.read_bytes() for file in (*flipped, cut)}
    for file in flipped:
        content = bytearray(before[file])
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    cut.write_bytes(before[cut][: len(before[cut]) // 2])
    shutil.rmtree(finished / "logs")
    said = call(finished, "snakemake", "--cores", "2")
    assert [file.name for file, content in before.items() if file.read_bytes() != content] == []
    assert "Running stage" not in "".join(log.read_text() for log in (finished / "logs").glob("*.log")), said


def test_lists_of_modules_are_made_again_when_they_are_deleted(finished):
    """And hold against the modules, and against dvc.lock."""
    deleted = finished / "results/code/influence.json"
    content = deleted.read_bytes()
    deleted.unlink()
    call(finished, "snakemake", "--cores", "1")
    assert deleted.read_bytes() == content
    call(finished, "distilled-circuits", "audit", "results/code")


def test_another_run_makes_the_same_bytes(finished, tmp_path, monkeypatch):
    """All stages once more, one after the other in one process: every output is what dvc.lock of the first records."""
    run_in_process(tmp_path / "second", smoke_params(), monkeypatch)
    stages = yaml.safe_load((finished / "dvc.lock").read_text())["stages"]
    recorded = {out["path"]: out["md5"] for name, stage in stages.items() if name != "code" for out in stage["outs"]}
    assert {path: md5(tmp_path / "second" / path) for path in recorded} == recorded


def test_both_engines_make_the_same_bytes(finished):
    """`dvc repro` runs stages of its own accord and leaves the dvc.lock that jobs of Snakemake left."""
    before = (finished / "dvc.lock").read_text()
    again = ("questions@theory_of_mind", "verdicts@0-small-theory_of_mind", "comparison")
    call(finished, "dvc", "repro", "--force", "--single-item", *again)
    assert yaml.safe_load((finished / "dvc.lock").read_text()) == yaml.safe_load(before)


def test_every_artifact_describes_itself(finished):
    """Schema, stage, parameters, inputs, library versions, device and dtype."""
    found = artifacts(finished)
    # The pair, the battery's models, a task, the tables; a story task's prompts, models, tables, runs and sweeps.
    assert len(found) == 2 + 5 + 17 + 2 + 1 + 3 + 3 + 3 + 2
    for path in found:
        said = read_provenance(path)
        assert re.fullmatch(r"\w+/\d+", said["schema"])
        assert said["libraries"]["torch"] and said["device"] == "cpu" and said["dtype"]
        assert said["params"] or said["stage"] == "report"
        assert said["inputs"]


def test_an_audit_of_a_finished_run_is_clean(finished):
    """What DVC and Snakemake have recorded is what is there, for every output and whatever must hold of it."""
    found = json.loads(call(finished, "sh", "-c", "distilled-circuits audit --json 2> /dev/null"))
    assert found["findings"] == []
    assert [each["path"] for each in found["artifacts"]] == list(load_graph(finished).outputs)
    assert re.fullmatch(r"[0-9a-f]{40}", found["commit"]["commit"])


def test_hdf5_dimensions_have_names(finished):
    """Every axis of every dataset says what it is."""
    for path in (finished / "results").rglob("*.h5"):
        with h5py.File(path) as file:
            unnamed = []
            file.visititems(
                lambda name, item, unnamed=unnamed: (
                    unnamed.append(name)
                    if isinstance(item, h5py.Dataset) and not all(axis.label for axis in item.dims)
                    else None
                )
            )
        assert unnamed == [], path


def test_activations_are_complete(finished):
    """z, pattern, mlp_out and the stream of both models, and the means over corrupted prompts."""
    with h5py.File(finished / "results/pairs/mini/numerals/activations.h5") as file:
        assert file["teacher/z"].shape == (16, 3, 23, 4, 8)
        assert file["student/pattern"].shape == (16, 2, 4, 23, 23)
        assert file["teacher/residual"].shape == (16, 4, 23, 32)
        assert file["student/corrupted_mean/mlp_out"].shape == (2, 23, 32)


def test_the_printed_score_of_a_model_with_itself_is_one(finished):
    """And with permuted heads too; CKA gives it to the rotated copy as well."""
    with h5py.File(finished / "results/pairs/mini/numerals/battery.h5") as file:
        variants = list(file["variants"].asstr())
        scores = file["score"][0, :, :, 0]
    assert scores[0, variants.index("printed")] == pytest.approx(1, abs=1e-6)
    assert scores[1, variants.index("printed")] == pytest.approx(1, abs=1e-4)
    assert scores[:3, variants.index("recommended")] == pytest.approx(1, abs=1e-4)


def test_noise_of_level_zero_is_the_stored_pair(finished):
    """The first level scores what the stored activations and influences of the same prompts score."""
    place = finished / "results/pairs/mini/numerals"
    records = [stored_record(place / "influence.h5", place / "activations.h5", name, 8) for name in MODELS]
    with h5py.File(place / "noise.h5") as file:
        measured = file["main/score"][0, :, 0]
    for variant, scores in zip(PRESETS.values(), measured, strict=True):
        assert scores == pytest.approx(align(*records, variant, 3).score.score[0], abs=1e-4)


def test_no_result_is_a_pickle(finished):
    """Nothing that a reader opens can run code."""
    suffixes = {path.suffix for path in (finished / "results").rglob("*") if path.is_file()}
    assert suffixes <= {".h5", ".json", ".safetensors", ".csv", ".yaml", ".html", ".md"}


def test_accuracies_of_distillation_are_those_of_the_stored_answers(finished):
    """Worked out anew from every run's answers: circuits on their own prompts, the most frequent answer on all."""
    place = finished / "results/distillation/0/small/theory_of_mind"
    said = json.loads((place / "verdicts.json").read_text())
    run = json.loads((place / "runs/ce_circuit/0/model.json").read_text())["seeds"][0]["runs"][0]
    teacher = json.loads((place / "untrained.json").read_text())["teacher"]
    assert [len(run["full"]), len(run["circuit"]), len(teacher["circuit"])] == [48, 32, 48]
    assert (said["prompts"], said["circuit_prompts"]) == (48, 32)
    row = said["models"]["ce_circuit"]
    assert row["full"]["value"] == pytest.approx(sum(run["full"]) / 48)
    assert row["circuit"]["value"] == pytest.approx(sum(run["circuit"]) / 32)
    if sum(run["full"][:32]):
        assert row["faithfulness"] == pytest.approx(sum(run["circuit"]) / sum(run["full"][:32]))
    assert said["models"]["teacher"]["circuit"]["value"] == pytest.approx(sum(teacher["circuit"][:32]) / 32)
    assert said["setting"]["teacher_circuit"] == pytest.approx(sum(teacher["circuit"]) / 48)
    with h5py.File(finished / "results/distillation/stories/theory_of_mind/questions.h5") as file:
        answers = list(file["test/answer"])
    assert said["majority"] == pytest.approx(max(map(answers.count, answers)) / 48)
    level, entropies = said["reached"]["level"], said["curves"]["ce_circuit"]["cross_entropy"]
    firsts = [run[0] for curve in said["curves"].values() for run in curve["cross_entropy"]]
    assert level == pytest.approx(sum(firsts) / len(firsts) / 5)
    low = [step for step, e in zip(said["curves"]["ce_circuit"]["step"], entropies[0], strict=True) if e <= level]
    assert said["reached"]["steps"]["ce_circuit"] == [low[0] if low else None]


def test_the_report_is_self_contained_and_complete(finished):
    """No outside file is referenced, every section is there, and it says that the pair is not GPT-2."""
    page = (finished / "results/report.html").read_text()
    assert not re.search(r'(src|href)="(?!#|data:|https://arxiv\.org)', page)
    assert "These models are not GPT-2" in page
    compared = json.loads((finished / "results/comparison.json").read_text())["pairs"]["mini"]["tasks"].values()
    with_circuits = sum(any(not found["why_none"] for found in task["circuit"].values()) for task in compared)
    played = sum(
        any(task["roles"][model][role]["plays"] for model in task["roles"])
        for task in compared
        for role in task["roles"]["teacher"]
    )
    patched = sum(any(not found["why_none"] for found in task["patching"].values()) for task in compared)
    shifted = sum(any(row.get("difference") for row in task["shift"]["variants"]) for task in compared)
    assert page.count("<img") == 1 + 11 + 2 * with_circuits + played + 4 * patched + shifted + 2 + 3 + 7
    for anchor in (
        "claims",
        "artifacts",
        "mini-models",
        "mini-numerals",
        "mini-alignment",
        "distillation-theory_of_mind-0-small",
        "distillation-register",
        "mini-register",
    ):
        assert f'id="{anchor}"' in page
    text = re.sub(r"<style>.*?</style>|<[^>]+>", " ", re.sub(r"base64,[^\"]+", "", page), flags=re.DOTALL)
    assert not re.search(r"\b(nan|NaN|inf|None|Undefined)\b", text)


def test_every_figure_and_table_says_what_it_is_made_of(finished):
    """Below each stands an artifact or more; all of them are listed, with the digest and the stage that DVC knows."""
    page = (finished / "results/report.html").read_text()
    *parts, appendix = page.split('<table class="artifacts">')
    stages = yaml.safe_load((finished / "dvc.lock").read_text())["stages"]
    made_by = {out["path"]: name for name, stage in stages.items() for out in stage["outs"]}
    listed = re.findall(
        r'<tr id="(.+?)">.+?digest">(\w+)<.+?<code>dvc repro (.+?)</code>.+?audit (.+?)</code>', appendix
    )
    for path, found, stage, audited in listed:
        assert hashlib.sha256((finished / path).read_bytes()).hexdigest() == found
        assert (made_by.get(path) or made_by[str(Path(path).parent)], path) == (stage, audited)
        assert path.startswith(("results/pairs/", "results/distillation/")) or path == "results/comparison.json"
    digests = {path: found[:12] for path, found, _, _ in listed}
    assert digests.keys() == {artifact.relative_to(finished).as_posix() for artifact in artifacts(finished)}
    figures = re.findall(r"<figure>.+?</figure>", "".join(parts), re.DOTALL)
    tables = re.findall(r"<table>.+?</table>(.*?)</div>", "".join(parts), re.DOTALL)
    assert (len(figures), len(tables)) == (page.count("<img"), page.count("<table") - 1)
    for part in (*figures, *tables):
        sources = re.findall(r'<a href="#(results/.+?)">.+?</a> (\w{12})\b', part)
        commands = re.findall(r"Remade by <code>dvc repro (.+?)</code>", part)
        assert sources and set(sources) <= set(digests.items())
        assert [set(command.split()) for command in commands] == [
            {stage for path, _, stage, _ in listed if path in dict(sources)}
        ]


@pytest.mark.skipif(not BROWSER, reason="needs Chromium: apt-get install chromium")
@pytest.mark.parametrize("width", [800, 1280])
def test_the_report_fits_a_browsers_window(finished, tmp_path, width):
    """With everything unfolded the page is no wider than the window; wide tables scroll by themselves."""
    page = (finished / "results/report.html").read_text()
    measured = (
        "<script>addEventListener('load', () => { for (const each of document.querySelectorAll('details')) each.open = "
        "true; const { clientWidth, scrollWidth } = document.documentElement; document.body.innerHTML = "
        "`<p id=measured>${clientWidth} ${scrollWidth}</p>`; })</script></body>"
    )
    (tmp_path / "page.html").write_text(page.replace("</body>", measured))
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
    sizes = (f"--window-size={width},900", f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=5000")
    shown = call(tmp_path, BROWSER, *options, *sizes, "--dump-dom", f"file://{tmp_path}/page.html")
    (inner, needed) = map(int, re.findall(r'<p id="measured">(\d+) (\d+)</p>', shown)[0])
    assert needed <= inner <= width


def test_the_papers_claims_have_verdicts(finished):
    """In comparison.json and on the page; of models that were trained here, not of GPT-2."""
    claims = json.loads((finished / "results/comparison.json").read_text())["claims"]
    page = (finished / "results/report.html").read_text()
    assert "of models that were trained here in minutes, not of GPT-2, BERT or Llama" in page
    assert [page.count(f'<details id="claim-{number}">') for number in range(1, len(claims) + 1)] == [1] * len(claims)
    for claim in claims:
        assert sum(claim["counts"].values()) == len(claim["findings"])
    assert len({claim["paper"] for claim in claims}) == 2


def test_snakemakes_own_report_has_the_results_with_captions(finished):
    """It is made without a network; each result has its category, and a caption with its wildcards filled in."""
    call(finished, "snakemake", "--report", "report.zip", no_proxy="", http_proxy=NOWHERE, https_proxy=NOWHERE)
    with zipfile.ZipFile(finished / "report.zip") as archive:
        names = {Path(name).name for name in archive.namelist()}
        page = archive.read("report/report.html").decode()
    assert names == {
        "report.html", "comparison.json", "metrics.yaml", "noise.csv", "training.csv", "influence.csv", "circuit.json",
        "alignment.json", "verdicts.json",
    }  # fmt: skip
    for category in ("Report", "Numbers", "Plots", "Circuits", "Alignment", "Circuit distillation"):
        assert f'"{category}"' in page
    assert "The circuits of teacher and student for the task" in page
    for caption in (finished / "rules/captions").glob("*.rst"):
        first = re.split(r'``|\n|"', caption.read_text())[0].strip()
        assert first in page, caption
    assert "snakemake.wildcards" not in page


def test_the_register_has_every_published_number(finished):
    """Each of them is beside a measured one or said not to be measured, and none is called comparable."""
    published = json.loads((finished / "data/published_numbers.json").read_text())
    compared = json.loads((finished / "results/comparison.json").read_text())
    rows = compared["register"]["mini"]
    both = [*rows, *compared["distillation_register"]]
    assert [(row["id"], row["published"]) for row in both] == [(entry["id"], entry["value"]) for entry in published]
    for row in rows:
        assert row["verdict"].startswith(
            "not measured" if row["measured"] is None else "not comparable, because mini is not "
        )
    by_id = {row["id"]: row for row in rows}
    task = compared["pairs"]["mini"]["tasks"]["numerals"]
    released = task["alignment"]["presets"]["released"]["score"]
    assert by_id["t3-numerals-gpt2/distilgpt2-a"]["measured"] == released
    assert by_id["t3-numerals-gpt2/distilgpt2-a"]["verdict"].endswith("; by the released variant, as most likely there")
    printed = task["alignment"]["presets"]["printed"]["score"]
    assert by_id["t5-max-greedy-gpt2/distilgpt2"]["measured"] == printed
    assert by_id["t5-l1-soft top-5-gpt2/distilgpt2"]["measured"] not in (None, released, printed)
    student = task["robustness"]["student"]["value"]
    assert by_id["t2-gpt2/distilgpt2-s"]["measured"]["value"] == student


def test_metrics_and_plots_are_dvcs(finished):
    """`dvc metrics show` has the alignment, `dvc plots show` draws the curves."""
    metrics = json.loads(call(finished, "dvc", "metrics", "show", "--json"))
    values = metrics[""]["data"]["results/metrics.yaml"]["data"]["mini"]["tasks"]["numerals"]
    assert set(values["alignment"]) == {"printed", "released", "recommended"}
    assert all(-1 <= score <= 1 for score in values["alignment"].values())
    call(finished, "dvc", "plots", "show")
    assert (finished / "dvc_plots/index.html").exists()


def test_a_parameter_reruns_its_stages_alone(finished):
    """A new threshold reruns the circuits, the comparison and the report; everything else stays."""
    path = finished / "params.yaml"
    before = path.read_text()
    params = yaml.safe_load(before)
    params["circuit"]["threshold"] = 0.4
    path.write_text(yaml.safe_dump(params, sort_keys=False))
    said = call(finished, "snakemake", "--dry-run", "--quiet", "rules")
    planned = call(finished, "snakemake", "--dry-run")
    jobs = {name.partition("@")[0] for name in foretold(finished)}
    path.write_text(before)
    assert jobs == set(re.findall(r"^(\w+) +\d+$", planned, re.MULTILINE)) - {"total", "all"}
    assert jobs == {"circuit", "edges", "stability", "heads", "shift", "comparison", "report"}, said


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda params: params["conditions"]["ce_random"].update(weight=0.3),
            {"distillation@0-small-theory_of_mind-ce_random-0", "sweep@0-small-theory_of_mind-ce_random"},
        ),
        (
            lambda params: params["distillation"].update(seeds=["0", "1"]),
            {f"distillation@0-small-theory_of_mind-{run}-1" for run in ("ce_circuit", "ce_random", "direct")},
        ),
    ],
    ids=["another lambda", "one seed more"],
)
def test_distillation_reruns_what_is_new_alone(change, expected, finished):
    """A changed lambda reruns the condition that uses it, another seed that seed; and what is made of all runs."""
    path = finished / "params.yaml"
    before = path.read_text()
    params = yaml.safe_load(before)
    change(params)
    path.write_text(yaml.safe_dump(params, sort_keys=False))
    planned = call(finished, "snakemake", "--dry-run")
    told = foretold(finished)
    path.write_text(before)
    jobs = set(re.findall(r"(\w+@[\w-]+): ", planned))
    assert {name for name in told if "@" in name} == jobs
    assert jobs == {*expected, "verdicts@0-small-theory_of_mind"}
    assert set(re.findall(r"^(\w+) +1$", planned, re.MULTILINE)) >= {"verdicts", "comparison", "report"}


def test_an_imported_circuit_takes_the_place_of_pruning(finished, tmp_path):
    """A file of the exchange format is judged like a pruned circuit; a missing one is a line, and nothing changes."""
    folder = shutil.copytree(finished, tmp_path / "project")
    place, path = folder / "results/pairs/mini/numerals", folder / "params.yaml"
    pruned = json.loads((place / "circuit.json").read_text())
    path.write_text(path.read_text().replace("source: pruned", "source: imported"))
    command = ("distilled-circuits", "run", "circuit", "pair=mini", "task=numerals")
    said = call(folder, *command, check=False)
    assert "data/circuits/mini-numerals-teacher.json: no such file" in said
    assert "Traceback" not in said
    assert json.loads((place / "circuit.json").read_text()) == pruned
    for model in ("teacher", "student"):
        copy = folder / f"data/circuits/mini-numerals-{model}.json"
        copy.write_text((place / f"circuit_{model}.json").read_text())
    call(folder, *command)
    imported = json.loads((place / "circuit.json").read_text())
    for model in ("teacher", "student"):
        assert imported[model]["nodes"] == pruned[model]["nodes"]
        assert imported[model]["trace"] == []


def test_diff_finds_what_another_threshold_changed(finished, tmp_path):
    """A run and its commit are the same; circuits pruned anew are held against those in the cache."""
    folder = shutil.copytree(finished, tmp_path / "project")
    git_commit(folder, "a run")
    assert "No difference" in call(folder, "distilled-circuits", "diff", "HEAD")
    place, path = folder / "results/pairs/mini/numerals/circuit.json", folder / "params.yaml"
    before = json.loads(place.read_text())
    params = yaml.safe_load(path.read_text())
    params["circuit"]["threshold"] = 0.6
    path.write_text(yaml.safe_dump(params, sort_keys=False))
    call(folder, "distilled-circuits", "run", "circuit", "pair=mini", "task=numerals")
    after = json.loads(place.read_text())
    found = json.loads(call(folder, "distilled-circuits", "diff", "HEAD", "--json"))
    assert [(change["name"], change["new"]) for change in found["params"]] == [("circuit.threshold", 0.6)]
    assert {stage["stage"] for stage in found["outputs"] if stage["changed"]} == {"circuit"}
    nodes = {circuit["name"].split()[-1]: circuit["nodes"] for circuit in found["circuits"]}
    for model in ("teacher", "student"):
        old, new = set(before[model]["nodes"]), set(after[model]["nodes"])
        assert (set(nodes[model]["lost"]), set(nodes[model]["gained"])) == (old - new, new - old)
    assert any(members["lost"] for members in nodes.values())
    drawn = (folder / "results/report.html").read_text().count('<img src="data:')
    assert found["figures_on_one_side"]["both"] == drawn > 30
    assert found["figures"] == []
