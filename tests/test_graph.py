"""dvc.yaml is the only place where the graph stands: our reading of it is DVC's, and noted modules are the truth."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from conftest import ROOT

from distilled_circuits.errors import UserError
from distilled_circuits.graph import load_graph
from distilled_circuits.imports import code_of, imports_of
from distilled_circuits.running import SPLIT

PACKAGE = ROOT / "src/distilled_circuits"
RULE = re.compile(r"^rule (\w+):", re.MULTILINE)
TIERS = (
    {"stages", "shards", "running", "cli", "audit", "diff", "why", "why_models", "plan", "foresight"},
    {"report", "comparison", "circuits", "distillation", "figures", "roles"},
    {"models"},
    {"lens", "tasks"},
    {
        "seed_ranges",
        "statistics",
        "params",
        "param_types",
        "param_models",
        "param_tasks",
        "param_distillation",
        "param_analysis",
        "param_errors",
        "graph",
        "imports",
        "lockfile",
        "dvc_cache",
        "durations",
        "yaml_files",
        "messages",
        "artifacts",
        "progress",
        "errors",
        "failures",
        "agreement",
        "around_dvc",
    },
)
"""Dependencies point downwards only, or stay inside a tier (below the first one, without a circle)."""


@pytest.fixture(scope="module")
def graph():
    """The committed graph."""
    return load_graph(ROOT)


def modules() -> list[Path]:
    """Return all modules of the package."""
    return sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")


def test_our_reading_is_dvcs(graph):
    """Names, commands, inputs, parameters and outputs of every item are those that DVC resolves."""
    from dvc.repo import Repo

    with Repo(str(ROOT)) as repo:
        theirs = {
            stage.addressing: (
                stage.cmd,
                sorted(dep.def_path for dep in stage.deps if not hasattr(dep, "params")),
                sorted(name for dep in stage.params for name in dep.params),
                sorted(out.def_path for out in stage.outs),
            )
            for stage in repo.index.stages
        }
    ours = {
        item.name: (item.command, sorted(item.inputs), sorted(item.params), sorted(item.outputs))
        for item in graph.items
    }
    assert ours == theirs


def test_every_stage_is_recorded_with_the_modules_that_it_is_made_of(graph):
    """By the list that stage `code` writes for it, and never by hand."""
    lists = {name: f"results/code/{name}.json" for name in graph.stages if name != "code"}
    assert sorted(graph.stages["code"].outputs) == sorted(lists.values())
    for name, stage in graph.stages.items():
        noted = [path for path in stage.inputs if path.startswith("results/code/")]
        assert noted == ([] if name == "code" else [lists[name]])
        assert not [path for path in stage.inputs if path.endswith(".py")]


@pytest.mark.parametrize("stage", ["comparison", "verdicts", "sweep"])
def test_the_modules_of_a_stage_are_those_that_python_loads(stage):
    """Beside them only modules that are imported inside functions or for types."""
    files = "*(module.__file__ for name, module in sys.modules.items() if name.startswith('distilled_circuits'))"
    asked = f"import sys, distilled_circuits.stages.{stage}; print({files})"
    told = subprocess.run([sys.executable, "-c", asked], check=True, capture_output=True, text=True).stdout.split()
    loaded = {Path(file) for file in told if not file.endswith("__init__.py")}
    noted = set(code_of(stage, PACKAGE))
    assert loaded <= noted
    texts = "".join(module.read_text() for module in noted)
    for late in noted - loaded:
        assert re.search(rf"^ +from distilled_circuits\.\S*{late.stem} import", texts, re.MULTILINE), late


def test_folders_have_no_code_of_their_own():
    """An `__init__.py` is a sentence: stages are recorded with modules alone."""
    for file in PACKAGE.rglob("__init__.py"):
        assert all(isinstance(node, ast.Expr) for node in ast.parse(file.read_text()).body), file


def test_a_module_that_cannot_be_parsed_is_named(tmp_path):
    """With its line, before anything runs."""
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages/one.py").write_text("def f(:\n")
    with pytest.raises(UserError, match=r"stages/one\.py: invalid syntax .*line 1.*: put it right"):
        code_of("one", tmp_path)
    with pytest.raises(UserError, match=r"stages/two\.py: .*No such file"):
        code_of("two", tmp_path)


def test_imports_of_every_form_are_found(tmp_path):
    """Modules by name or from their folder, inside functions, in circles; names inside modules are no modules."""
    package = tmp_path / "package"
    written = {
        "stages/one": "import numpy\nfrom package.core.a import f\nfrom package.core import b, __name__\n",
        "stages/two": "def run():\n    import package.d\n",
        "core/a": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from package.c import g\nf = 1\n",
        "core/b": "from package.core import a\n",
        "c": "from package.core.a import f\nfrom packages.d import h\n",
        "d": "",
    }
    for name, text in written.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / f"{name}.py").write_text(text)
    found = {stage: [str(path.relative_to(package)) for path in code_of(stage, package)] for stage in ("one", "two")}
    assert found == {"one": ["c.py", "core/a.py", "core/b.py", "stages/one.py"], "two": ["d.py", "stages/two.py"]}


def test_every_stage_has_a_rule_and_a_module(graph):
    """Snakefile, rules/ and stages/ have exactly the stages of dvc.yaml."""
    files = [ROOT / "Snakefile", *(ROOT / "rules").glob("*.smk")]
    shards = {f"{stage}_shard" for stage in SPLIT}
    assert {name for file in files for name in RULE.findall(file.read_text())} == {"all", *graph.stages, *shards}
    plumbing = {
        "job",
        "inputs",
        "positions",
        "shares",
        "stored_records",
        "model_making",
        "measured_records",
        "collect",
        "role_pictures",
        "alignment_pictures",
        "distillation_pictures",
        "stored_questions",
        "student_training",
        "student_answers",
    }
    assert {path.stem for path in (PACKAGE / "stages").glob("*.py")} - {"__init__"} - plumbing == set(graph.stages)


def test_dependencies_point_one_way():
    """Stages know the core, the core knows lens, tasks and models, these know statistics and artifacts; never back."""

    def tier(path: Path) -> int:
        top = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        return next(index for index, names in enumerate(TIERS) if top in names)

    for module in modules():
        for imported in imports_of(module, PACKAGE):
            assert tier(module) <= tier(imported), f"{module.name} must not import {imported.name}"


def test_every_library_that_is_imported_is_declared():
    """A new machine installs what the code needs: nothing is there by accident of this one."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.match(r"[\w.-]+", line).group().lower() for line in declared}
    providers = packages_distributions()
    for module in modules():
        for node in ast.walk(ast.parse(module.read_text())):
            found = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            found += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            for top in (
                {name.partition(".")[0] for name in found} - set(sys.stdlib_module_names) - {"distilled_circuits"}
            ):
                assert {name.lower() for name in providers[top]} & names, f"{module.name} imports {top}"


def test_only_artifacts_opens_hdf5():
    """One module reads and writes artifacts; other people's pickles are read by one that executes nothing of them."""
    used = r"^\s*(import|from) (h5py|pickle)|torch\.save"
    users = {path.name for path in modules() if re.search(used, path.read_text(), re.MULTILINE)}
    assert users == {"artifacts.py", "safe_pickle.py"}


@pytest.mark.parametrize("stage", ["alignment", "sampling", "verdicts", "comparison", "report"])
def test_stages_on_stored_arrays_do_not_import_torch(stage):
    """Figures, tables and scores start without the seconds that torch takes."""
    for module in code_of(stage, PACKAGE):
        assert not re.search(r"^\s*(import|from) (torch|transformers)", module.read_text(), re.MULTILINE), module


def test_an_unknown_item_is_named_with_what_is_allowed(graph):
    """A pair that params.yaml does not run is one line."""
    with pytest.raises(UserError, match=r"prompts: pair=maxi, allowed: mini"):
        graph.stages["prompts"].instance({"pair": "maxi", "task": "ioi"})
    with pytest.raises(UserError, match="unknown colour, allowed: pair"):
        graph.stages["teacher"].instance({"pair": "mini", "colour": "red"})


def test_folders_stand_for_all_outputs_below_them(graph):
    """The comparison waits for every output of every pair, and for nothing outside."""
    made = graph.made("results/pairs")
    assert "results/pairs/mini/teacher" in made
    assert "results/pairs/mini/numerals/noise.h5" in made
    assert not any("report" in path for path in made)
    assert graph.made("data/lexicon") == []
    assert graph.made("results/pairs/${item.pair}/ioi/prompts.json") == ["results/pairs/{pair}/ioi/prompts.json"]
    models = ["results/pairs/{pair}/replicas/1/teacher", "results/pairs/{pair}/replicas/1/student"]
    assert graph.made("results/pairs/${item.pair}/replicas") == models
    for stage in graph.stages.values():
        for path in stage.inputs:
            assert graph.made(path) or not path.startswith("results/"), f"nobody makes {path}, which {stage.name} reads"


def test_a_key_changes_with_parameters_and_code_of_its_stage_alone(graph):
    """What Snakemake sees of a stage is its declaration, its parameters and the bytes of its code."""
    influence = next(item for item in graph.items if item.name == "influence@mini-ioi")
    key = graph.key(influence, ROOT)
    assert '"corrupted_mean"' in key
    assert "src/distilled_circuits/circuits/influence.py" in key
    assert '"threshold"' not in key
