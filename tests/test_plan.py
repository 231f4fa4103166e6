"""What a run would do, told before it does: on a hand-made project whose one earlier run DVC itself has recorded.

Whether it comes as foretold is tested wherever a tiny pipeline is run: tests/test_rerun_matrix.py.
"""

import re
import shutil

import pytest
import yaml
from projects import call, git_init

from distilled_circuits import plan as module
from distilled_circuits.dvc_cache import cache_of, run_digest
from distilled_circuits.errors import UserError
from distilled_circuits.graph import load_graph
from distilled_circuits.plan import Reason, plan

GRAPH = """
stages:
  code:
    cmd: python note.py
    deps: [src/distilled_circuits]
    outs: [results/code/model.json]
  model:
    matrix: {pair: "${pairs}"}
    cmd: mkdir -p results/${item.pair}/model && cp params.yaml results/${item.pair}/model/model.json
    deps: [results/code/model.json, data]
    params: [model]
    outs: ["results/${item.pair}/model"]
  score:
    matrix: {pair: "${pairs}"}
    cmd: mkdir -p results/scores && head -c 5 results/${item.pair}/model/model.json > results/scores/${item.pair}.json
    deps: ["results/${item.pair}/model"]
    params: [score.level, score.size]
    outs: ["results/scores/${item.pair}.json"]
  report:
    cmd: cat results/scores/a.json > report.html
    deps: [results/scores]
    outs: [report.html]
"""
PARAMS = {"aa": 0, "pairs": ["a", "b"], "model": {"seed": 0, "size": 3}, "score": {"level": 0.5, "size": 2.0}}
NOTE = """import pathlib
from distilled_circuits.stages.code import noted
out = pathlib.Path("results/code/model.json")
out.parent.mkdir(parents=True, exist_ok=True)
out.write_text(noted("model", pathlib.Path("src/distilled_circuits")))
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A project in which everything was run by DVC: a model of two files each for two pairs, a score, a report."""
    folder = tmp_path_factory.mktemp("plan") / "project"
    for name, text in {
        "dvc.yaml": GRAPH,
        "params.yaml": yaml.safe_dump(PARAMS),
        "note.py": NOTE,
        "data/words.txt": "one\n",
        "src/distilled_circuits/stages/model.py": "from distilled_circuits import core\n",
        "src/distilled_circuits/core.py": "",
        "src/distilled_circuits/other.py": "",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    git_init(folder)
    call(folder, "dvc", "init", "--quiet")
    call(folder, "dvc", "repro", "--quiet")
    return folder


@pytest.fixture
def folder(ran, tmp_path):
    """A copy of it to change."""
    shutil.copytree(ran, tmp_path / "copy")
    return tmp_path / "copy"


def change(folder, **sections):
    """Write other parameters."""
    params = {
        key: {**value, **sections.get(key, {})} if isinstance(value, dict) else value for key, value in PARAMS.items()
    }
    pairs = sections.get("pairs", PARAMS["pairs"])
    (folder / "params.yaml").write_text(yaml.safe_dump({**params, "pairs": pairs}))


def steps_of(folder):
    """Return the steps by name."""
    return {step.instance.name: step for step in plan(load_graph(folder), folder)}


def said(folder):
    """Return what is not as recorded: the action, `maybe` for what runs only if its input changes, and the reasons."""
    words = [("maybe" if step.only_if_changed else step.action, step) for step in steps_of(folder).values()]
    return {
        step.instance.name: (word, *(f"{reason.kind} {reason.what}".strip() for reason in step.reasons))
        for word, step in words
        if word != "nothing"
    }


MODELS = ("model@a", "model@b")
BEHIND = {
    "score@a": ("maybe", "upstream model"),
    "score@b": ("maybe", "upstream model"),
    "report": ("maybe", "upstream score"),
}
"""What is behind both models when they run."""


def test_what_is_as_recorded_is_left_alone(ran):
    """Every item has a step, in an order in which each comes after what it reads."""
    steps = plan(load_graph(ran), ran)
    assert {(step.action, step.asked, step.reasons, step.size) for step in steps} == {("nothing", "nothing", (), 0)}
    names = [step.instance.name for step in steps]
    assert sorted(names) == ["code", "model@a", "model@b", "report", "score@a", "score@b"]
    assert names[0] == "code"
    assert names[-1] == "report"
    assert names.index("model@a") < names.index("score@a")


def test_an_entry_that_was_cut_short_is_none(folder):
    """Wherever a kill cut dvc.lock in it: a run leaves it out before it begins, and brings back what it had."""
    lock = folder / "dvc.lock"
    text = lock.read_text()
    last = list(re.finditer(r"^  (\S+):$", text, re.MULTILINE))[-1]
    for end in range(last.start() + 3, len(text), 17):
        lock.write_text(text[:end])
        assert {name: words[0] for name, words in said(folder).items()} == {last[1]: "restore"}
    lock.write_text(text[: last.end() + 9])
    assert said(folder) == {last[1]: ("restore", "never run")}


def test_a_parameter_is_named_with_its_values(folder):
    """At its own dotted name, though its section is declared; what is behind runs only if it has to."""
    change(folder, model={"seed": 1})
    assert said(folder) == dict.fromkeys(MODELS, ("run", "parameter model.seed")) | BEHIND
    step = steps_of(folder)["model@a"]
    assert step.reasons == (Reason("parameter", "model.seed", 0, 1),)
    assert step.size == sum(file.stat().st_size for file in (folder / "results/a/model").iterdir())
    assert steps_of(folder)["score@a"].outputs == {"results/scores/a.json": None}
    change(folder, model={"new": [1]}, score={"level": 0.6})
    steps = steps_of(folder)
    assert steps["model@a"].reasons == (Reason("parameter", "model.new", None, [1]),)
    assert steps["score@a"].reasons == (Reason("parameter", "score.level", 0.5, 0.6), Reason("upstream", "model"))
    assert not steps["score@a"].only_if_changed
    change(folder, model={"empty": None})
    assert steps_of(folder)["model@a"].reasons == (
        Reason("parameter", "model", PARAMS["model"], PARAMS["model"] | {"empty": None}),
    )


def test_an_input_is_named(folder):
    """A word list that was edited, a folder that is not there, a file in a folder of results that nobody makes."""
    (folder / "results/scores/notes.txt").write_text("mine")
    assert said(folder) == {"report": ("run", "input results/scores")}
    (folder / "results/scores/notes.txt").unlink()
    (folder / "data/words.txt").write_text("two\n")
    assert said(folder) == dict.fromkeys(MODELS, ("run", "input data")) | BEHIND
    shutil.rmtree(folder / "data")
    assert said(folder)["model@a"] == ("run", "no input data")


def test_code_is_named_by_its_modules(folder):
    """What stage `code` will write is known before it runs; a module that no stage is made of starts nothing else."""
    (folder / "src/distilled_circuits/other.py").write_text("# edited")
    assert said(folder) == {"code": ("run", "input src/distilled_circuits")}
    (folder / "src/distilled_circuits/core.py").write_text("from distilled_circuits import other")
    source = "src/distilled_circuits"
    models = ("run", f"code {source}/core.py", f"code {source}/other.py")
    assert said(folder) == {"code": ("run", f"input {source}")} | dict.fromkeys(MODELS, models) | BEHIND
    shutil.rmtree(folder / ".dvc/cache")
    assert said(folder)["model@a"] == ("run", "code results/code/model.json")


def test_a_damaged_cache_is_no_reason_to_fail(folder):
    """A list of a folder's files and a note of modules that say nothing: their place in the cache counts as empty."""
    for file in (folder / ".dvc/cache").rglob("*"):
        if file.is_file():
            file.chmod(0o644)
            file.write_bytes(b"\xff{")
    assert said(folder) == {}
    (folder / "src/distilled_circuits/core.py").write_text("# edited")
    shutil.rmtree(folder / "results/a/model")
    assert said(folder)["model@a"] == ("run", "code results/code/model.json")


def test_a_module_that_cannot_be_parsed_is_one_line(folder):
    """As in a run."""
    (folder / "src/distilled_circuits/core.py").write_text("def f(:")
    with pytest.raises(UserError, match=r"core\.py: invalid syntax"):
        steps_of(folder)


def test_outputs_come_back_from_the_cache(folder):
    """Deleted or damaged, and nothing behind them runs; their bytes are counted. Without the cache they are made."""
    (folder / "results/scores/a.json").unlink()
    (folder / "results/b/model/model.json").write_text("damaged")
    expected = {"model@b": ("restore", "damaged model"), "score@a": ("restore", "missing a.json")}
    assert said(folder) == expected
    assert steps_of(folder)["score@a"].size == 5
    shutil.rmtree(folder / ".dvc/cache/files")
    assert said(folder) == {
        "model@b": ("run", "damaged model"),
        "score@a": ("run", "missing a.json"),
        "score@b": ("maybe", "upstream model"),
        "report": ("maybe", "upstream score"),
    }


def test_what_the_cache_does_not_have_is_left_alone_unless_dvc_is_asked(folder):
    """Snakemake starts no job for it; DVC, asked for it by a job, makes it again."""
    shutil.rmtree(folder / ".dvc/cache")
    assert said(folder) == {}
    assert {step.asked for step in steps_of(folder).values()} == {"run"}


def test_items_come_and_go(folder):
    """A pair more was never run. A pair less changes what the report reads, for a run removes its results."""
    change(folder, pairs=["a", "b", "c"])
    new = dict.fromkeys(("model@c", "score@c"), ("run", "never run"))
    assert said(folder) == new | {"report": ("run", "input score")}
    assert steps_of(folder)["model@c"].size is None
    change(folder, pairs=["a"])
    assert said(folder) == {"report": ("run", "input results/scores")}


def test_a_command_counts(folder):
    """It is part of what was recorded."""
    text = (folder / "dvc.yaml").read_text()
    (folder / "dvc.yaml").write_text(text.replace("cmd: cat", "cmd: tac"))
    assert said(folder) == {"report": ("run", "command tac results/scores/a.json > report.html")}


def test_dvc_does_what_was_foretold(folder):
    """A new seed: models run, scores have the same bytes, the report stays. Without a record: restored."""
    lock = (folder / "dvc.lock").read_text()
    change(folder, model={"seed": 1})
    steps = steps_of(folder)
    told = call(folder, "dvc", "repro")
    ran = {name for name in steps if f"Running stage '{name}'" in told}
    assert ran == {name for name, step in steps.items() if step.action == "run"} - {"report"}
    change(folder)
    (folder / "dvc.lock").unlink()
    restored = dict.fromkeys(steps, ("restore", "never run"))
    assert said(folder) == restored
    told = call(folder, "dvc", "repro")
    assert {name for name in steps if f"Stage '{name}' is cached" in told} == set(steps)
    assert yaml.safe_load((folder / "dvc.lock").read_text()) == yaml.safe_load(lock)
    (folder / "dvc.lock").write_text(lock[: lock.rindex("path: report.html\n") + len("path: report.html\n")])
    assert said(folder) == {"report": ("restore", "damaged report.html")}
    assert "Stage 'report' is cached" in call(folder, "dvc", "repro")
    assert (folder / "dvc.lock").read_text() == lock


def test_large_outputs_are_not_read(folder, monkeypatch):
    """Their sizes are compared; a folder counts as a whole."""
    monkeypatch.setattr("distilled_circuits.foresight.LARGE", 20)
    file = folder / "results/a/model/model.json"
    content = bytearray(file.read_bytes())
    content[20] ^= 1
    file.write_bytes(content)
    assert said(folder) == {}
    file.write_bytes(content[:-1])
    assert said(folder) == {"model@a": ("restore", "damaged model")}


def test_the_cache_is_where_the_configuration_has_it(tmp_path):
    """In `.dvc/cache`, or at a path from `.dvc`; the local file wins; what is no configuration is one line."""
    (tmp_path / ".dvc").mkdir()
    assert cache_of(tmp_path).folder == tmp_path / ".dvc/cache"
    (tmp_path / ".dvc/config").write_text(
        "[core]\n    autostage = true\n['remote \"s\"']\n    url = x\n[cache]\n    dir = ../shared\n"
    )
    assert cache_of(tmp_path).folder.resolve() == tmp_path / "shared"
    (tmp_path / ".dvc/config.local").write_text("[cache]\n    dir = /elsewhere\n")
    assert str(cache_of(tmp_path).folder) == "/elsewhere"
    (tmp_path / ".dvc/config.local").write_text("dir = /elsewhere\n")
    with pytest.raises(UserError, match=r"\.dvc/config\.local: "):
        cache_of(tmp_path)


def test_runs_have_dvcs_names():
    """Sizes do not count, wherever they stand: DVC leaves out parameters of that name as well."""
    from dvc.utils import dict_sha256

    made_of = {
        "cmd": "x",
        "deps": [{"path": "a", "md5": "0", "size": 3}],
        "params": {"params.yaml": {"a": {"size": 2}}},
    }
    assert run_digest(made_of) == dict_sha256(made_of, exclude=["size", "nfiles"])


def test_one_word_for_a_shell(folder, monkeypatch, capsys):
    """What DVC does if asked now, or a line that says what is wrong."""
    monkeypatch.chdir(folder)
    (folder / "results/scores/a.json").unlink()
    change(folder, model={"seed": 1}, pairs=["a"])
    for name in ("code", "model@a", "score@a"):
        assert module.main(name) == 0
    assert capsys.readouterr().out.split() == ["nothing", "run", "run"]
    assert module.main("score@z") == 2
    assert "score@z: no such stage and item" in capsys.readouterr().err
