"""`why` says what a run will do, why, at what cost, and which models it will fetch; and it does nothing."""

import json
from pathlib import Path

import pytest
import yaml
from checkpoints import random_model, write_checkpoint
from conftest import ROOT

from distilled_circuits.cli import main
from distilled_circuits.durations import in_words, last_seconds
from distilled_circuits.errors import UserError
from distilled_circuits.graph import load_graph
from distilled_circuits.models.checkpoints import weights_digest
from distilled_circuits.models.tokenizer import word_level_tokenizer
from distilled_circuits.plan import Reason, Step
from distilled_circuits.running import run_stage
from distilled_circuits.why import Account, as_text, targets


@pytest.fixture(scope="module")
def graph():
    """The committed graph."""
    return load_graph(ROOT)


def step(graph, name, action="run", *reasons, size=0, maybe=False):
    """Return a step for an item of the committed graph."""
    (item,) = targets(graph, name)
    return Step(item, action, reasons, {}, size, only_if_changed=maybe, cached=True)


def texts(steps, **others):
    """Return the lines on these steps."""
    return list(as_text(Account(steps, **({"removed": (), "models": ()} | others))))


def test_items_with_the_same_reason_share_a_line(graph, monkeypatch, tmp_path):
    """With what they cost the last time; what needs a word of its own has one, and what is as recorded has no line."""
    monkeypatch.chdir(tmp_path)
    Path("logs/seconds").mkdir(parents=True)
    for task, seconds in (("ioi", 90), ("words", 40.4), ("facts", 3)):
        Path(f"logs/seconds/circuit@mini-{task}.json").write_text(json.dumps({"seconds": seconds}))
    changed = Reason("parameter", "circuit.threshold", 0.2, 0.3)
    behind = Reason("upstream", "heads"), Reason("upstream", "circuit")
    assert texts(
        [
            step(graph, "code", "nothing"),
            step(graph, "circuit@mini-words", "run", changed, size=1_500_000),
            step(graph, "circuit@mini-ioi", "run", changed, size=600_000),
            step(graph, "circuit@mini-facts", "restore", Reason("missing", "circuit.json"), size=7000),
            step(graph, "shift@mini-ioi", "run", *behind, size=900, maybe=True),
        ],
        removed=["results/x/a"],
        models=["m"],
    ) == [
        (
            "of 5 jobs: 2 to run (2 min 10 s of work, 2 MB), 1 to run if what they read changes (not measured here "
            "yet, 1 kB at most), 1 to restore from DVC's cache (7 kB), 1 as recorded"
        ),
        "  run: circuit@mini-{words,ioi}: parameter circuit.threshold 0.2 -> 0.3 (2 min 10 s of work, 2 MB)",
        "  restore: circuit@mini-facts: circuit.json missing (7 kB)",
        "  run if need be: shift@mini-ioi: if other bytes come from circuit, heads (not measured here yet, 1 kB)",
        "removed from here, kept in DVC's cache: results/x/a: params.yaml runs them no more",
        "m",
    ]


def test_every_reason_is_said_in_words(graph):
    """Of many names the first are given, and how many more there are; long values are cut."""
    modules = [Reason("code", f"src/distilled_circuits/m{number}.py") for number in range(6)]
    for reasons, said in (
        ([Reason("never run")], "not in dvc.lock"),
        ([Reason("command", "x")], "its command is another"),
        ([Reason("parameter", "a.b", None, [0] * 40)], f"parameter a.b none -> [{'0, ' * 18}0,..."),
        (modules, "code: m0.py, m1.py, m2.py and 3 more edited"),
        (modules[:4], "code: m0.py, m1.py, m2.py, m3.py edited"),
        ([Reason("input", "data/lexicon")], "input: data/lexicon changed"),
        ([Reason("no input", "data/lexicon")], "data/lexicon: not there"),
        ([Reason("damaged", "a.h5"), Reason("missing", "b.h5")], "a.h5 not as recorded; b.h5 missing"),
    ):
        assert texts([step(graph, "report", "run", *reasons)])[1].startswith(f"  run: report: {said}"), said


def test_when_nothing_runs_one_line_says_so(graph):
    """And where the cache could not bring it back, another one."""
    done = step(graph, "report", "nothing")
    assert texts([done, done]) == ["nothing runs: all 2 jobs are as dvc.lock records them"]
    lacking = Step(done.instance, "nothing", (), {}, 0, only_if_changed=False, cached=False)
    assert "DVC's cache lacks some" in texts([done, lacking])[1]


def test_items_that_are_no_product_are_counted(graph):
    """Braces would name others as well."""
    names = ("ce_full-0-2", "ce_circuit-0-2"), ("ce_full-0-2",)
    tasks = ("entity_tracking", "theory_of_mind")
    items = [f"distillation@0-small-{task}-{run}" for task, runs in zip(tasks, names, strict=True) for run in runs]
    said = texts([step(graph, name, "run", Reason("never run")) for name in items])
    assert said[1].startswith("  run: distillation (3 items): not in dvc.lock")


def test_a_target_is_a_stage_an_item_or_an_output(graph):
    """A file in a model's folder stands for the model, a folder for all that is below it; a slip is answered."""
    assert len(targets(graph, "circuit")) == 4
    for name in ("results/pairs/mini/teacher/model.json", "results/pairs/mini/teacher/", "teacher@mini", "teacher"):
        assert [item.name for item in targets(graph, name)] == ["teacher@mini"]
    below = {item.name.partition("@")[0] for item in targets(graph, "results/pairs/mini/ioi")}
    assert {"prompts", "circuit", "alignment"} <= below
    assert "teacher" not in below
    with pytest.raises(UserError, match=r"circiut: no stage.* near it: circuit"):
        targets(graph, "circiut")
    with pytest.raises(UserError, match=r"near it: code, teacher, .*report"):
        targets(graph, "?")


def test_the_last_measured_time_counts(tmp_path):
    """The stage's own before that of Snakemake's job, which says nothing when it may have restored; logs may break."""
    assert last_seconds("a", tmp_path) is None
    for name in ("benchmarks", "seconds"):
        (tmp_path / "logs" / name).mkdir(parents=True)
    for seconds, expected in (("93.51", 93.51), ("5.2", None), ("-", None)):
        (tmp_path / "logs/benchmarks/a.tsv").write_text(f"s\th:m:s\n{seconds}\t0:01:33\n")
        assert last_seconds("a", tmp_path) == expected
    (tmp_path / "logs/seconds/a.json").write_text('{"seconds": 2.5}')
    assert last_seconds("a", tmp_path) == 2.5
    (tmp_path / "logs/seconds/a.json").write_text('{"sec')
    assert last_seconds("a", tmp_path) is None
    assert [in_words(seconds) for seconds in (0.4, 59.4, 130, 3900)] == ["0 s", "59 s", "2 min 10 s", "1 h 5 min"]


def test_a_stage_notes_how_long_it_took(params):
    """Beside the results; a log that cannot be written costs nobody the results."""
    params()
    run_stage("code", [])
    noted = json.loads(Path("logs/seconds/code.json").read_text())
    assert set(noted) == {"seconds", "threads", "cores", "when"}
    assert last_seconds("code") == noted["seconds"] > 0
    Path("logs/seconds/code.json").unlink()
    Path("logs/seconds").rmdir()
    Path("logs/seconds").write_text("")
    run_stage("code", [])


def test_a_program_gets_everything(params, capsys):
    """Every job with its reasons; nothing is written."""
    params()
    before = set(Path().rglob("*"))
    assert main(["why", "circuit@mini-ioi", "--json"]) == 0
    steps = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)["steps"]}
    stages = ("teacher", "student", "prompts", "activations", "influence", "circuit")
    assert {name.partition("@")[0] for name in steps} == {"code", *stages}
    circuit = steps["circuit@mini-ioi"]
    assert (circuit["action"], circuit["reasons"][0]["kind"]) == ("run", "never run")
    assert (circuit["seconds"], circuit["bytes"]) == (None, None)
    assert set(Path().rglob("*")) == before
    assert main(["why", "circuit@mini-io"]) == 2
    assert "near it: circuit@mini-ioi" in capsys.readouterr().err


@pytest.fixture
def params(monkeypatch, tmp_path):
    """Writes params.yaml with other pairs into a folder with this project's graph and code, and nothing else."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    (tmp_path / "src").symlink_to(ROOT / "src")

    def write(**models):
        content = yaml.safe_load((ROOT / "params.yaml").read_text())
        content["models"] |= models
        content |= {"pairs": list(models) or ["mini"]}
        content["battery"]["pairs"] = []
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))

    return write


def test_models_that_are_trained_here_cost_no_download(params, capsys):
    """The default pair says what it is; a stage that reads no model says nothing of models."""
    params()
    assert main(["why"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-2] == "mini teacher: trained here: gpt2, 6 layers, 1300 steps; nothing to fetch"
    assert said[-1] == "mini student: trained here: gpt2, from 3 teacher layers, 500 steps; nothing to fetch"
    assert said[-3].startswith("  run: report")
    assert main(["why", "questions"]) == 0
    assert "trained here" not in capsys.readouterr().out
    assert main(["why", "teacher"]) == 0
    assert capsys.readouterr().out.count("trained here") == 1


def test_a_local_pair_says_what_is_written_and_what_it_needs(params, tmp_path, capsys):
    """GB in the type that is asked for, twice on the disk; the token and the licence in words."""
    tokenizer = word_level_tokenizer(["a", "b"])
    write_checkpoint(tmp_path / "model", random_model("gpt2"), tokenizer)
    source = {"local": str(tmp_path / "model"), "dtype": "bfloat16"}
    needs = {"disk": 9, "memory": 3.5, "token": True, "licence": "X"}
    params(mine={"teacher": source, "student": source, "needs": needs})
    assert main(["why"]) == 0
    said = capsys.readouterr().out.splitlines()[-4:]
    assert said[1].startswith(f"mine teacher: {tmp_path / 'model'}: 0.00 GB to fetch, 0.00 GB cached, 0.00 GB to write")
    assert said[1].endswith("as bfloat16")
    assert said[0].startswith("mine needs: 9 GB of disk, 3.5 GB of memory, a token of the hub whose owner has accepted")
    assert said[0].endswith("licence: X")
    assert said[3].startswith("all models: 0.00 GB to fetch into the hub's cache, 2 x 0.00 GB to write here")
    assert not (tmp_path / "results").exists()


def test_what_is_wrong_with_a_source_is_one_line(params, tmp_path, capsys):
    """A directory that is not there, before any work."""
    params(mine={side: {"local": str(tmp_path / "nowhere")} for side in ("teacher", "student")})
    assert main(["why"]) == 2
    assert "nowhere" in capsys.readouterr().err.splitlines()[0]


def test_the_digest_of_weights_is_of_their_bytes(tmp_path):
    """One file has its own SHA-256; of several it is one of their names in order; another weight changes both."""
    tokenizer = word_level_tokenizer(["a", "b"])
    found = set()
    for seed in (0, 1):
        for name, options in (("whole", {}), ("shards", {"max_shard_size": "20KB"})):
            folder = tmp_path / f"{name}{seed}"
            write_checkpoint(folder, random_model("gpt2", seed), tokenizer, **options)
            found.add(weights_digest(folder))
    assert len(found) == 4
