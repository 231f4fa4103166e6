"""Shards of a stage's work give the bytes of one job, whatever their number; a shard that does not fit is not taken."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from checkpoints import random_prompts
from conftest import ROOT
from projects import call, project, run_in_process, smoke_params

from distilled_circuits.artifacts import digest
from distilled_circuits.circuits.ablation import constant, mean_activations
from distilled_circuits.circuits.chunks import chunks_of, merged
from distilled_circuits.circuits.influence import influence_sweep
from distilled_circuits.cli import main
from distilled_circuits.graph import load_graph
from distilled_circuits.lens.bridge import BridgeLens
from distilled_circuits.lens.hooks import HookLens
from distilled_circuits.running import SPLIT, run_stage
from distilled_circuits.stages.job import MODELS
from distilled_circuits.stages.shares import Share

PARAMS = smoke_params(
    **{
        **{f"{model}.{key}": value for model in ("models.mini.teacher", "models.mini.student")
           for key, value in (("steps", 2), ("warmup", 1), ("evaluate_every", 1))},
        "influence.batch_size": 10,
        "distillation.runs": ["ce_random"],
        "distillation.seeds": ["0-2"],
        "distillation.training.steps": 2,
        "distillation.training.warmup": 1,
        "distillation.sweep.conditions": ["ce_random"],
        "distillation.sweep.sized": ["ce_random"],
    }
)  # fmt: skip
"""Models that have hardly been trained, prompts that 10 rows cut into 10 and 6, and three seeds."""
BEFORE = ("prompts", "activations", "questions", "pretraining", "tuning", "base", "mapping", "teacher", "student")
ITEMS = {
    "influence": ["pair=mini", "task=numerals"],
    "distillation": ["teacher=0", "student=small", "task=theory_of_mind", "condition=ce_random", "seeds=0-2"],
}
OUTPUTS = {
    "influence": Path("results/pairs/mini/numerals/influence.h5"),
    "distillation": Path("results/distillation/0/small/theory_of_mind/runs/ce_random/0-2"),
}
SHARDS = Path(".snakemake/shards")
NOT_USED = "influence@mini-numerals: shards are not used, everything is computed here: "


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with everything that influence and distillation read."""
    folder = tmp_path_factory.mktemp("shards")

    def before() -> SimpleNamespace:
        return SimpleNamespace(items=[item for item in load_graph().items if item.name.partition("@")[0] in BEFORE])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("projects.load_graph", before)
        run_in_process(folder, PARAMS, patch)
    return folder


@pytest.fixture
def here(made, monkeypatch) -> Path:
    """The same as the working directory, with its own params.yaml and nothing left from the test before."""
    monkeypatch.chdir(made)
    (made / "params.yaml").write_text(yaml.safe_dump(PARAMS, sort_keys=False))
    shutil.rmtree(made / ".snakemake", ignore_errors=True)
    return made


def change(folder: Path, section: str, **values) -> None:
    """Change some values of params.yaml."""
    params = yaml.safe_load((folder / "params.yaml").read_text())
    params[section] |= values
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


def shards(stage: str, number: int) -> list[Path]:
    """Compute all shards of a stage, the last one first, and return their folders."""
    for shard in reversed(range(number)):
        run_stage(stage, [*ITEMS[stage], f"shard={shard + 1}/{number}"])
    return sorted(path for path in SHARDS.glob(f"{stage}@*/*") if path.is_dir())


def whole(stage: str) -> str:
    """Run a stage's job and return the digest of what it wrote."""
    run_stage(stage, ITEMS[stage])
    return digest(OUTPUTS[stage])


@pytest.mark.parametrize("engine", ["hooks", "bridge"])
@pytest.mark.parametrize("restarted", [3, 20, 1000])
def test_chunks_are_swept_alone_to_the_same_bits(gpt2, engine, restarted):
    """Every component and prompt once, and every number exactly as in the whole sweep."""
    lens, prompts = HookLens(gpt2) if engine == "hooks" else BridgeLens(gpt2), random_prompts(7)
    means = constant(mean_activations(HookLens(gpt2), prompts.corrupted, 64))
    expected = influence_sweep(lens, prompts, means, restarted)
    chunks = chunks_of(7, lens.dimensions, restarted, restarted=engine == "hooks")
    seen = []
    for chunk in [*chunks[::2], *merged(chunks[1::2])]:
        rows = slice(chunk.start, chunk.stop)
        part = influence_sweep(
            lens, prompts.rows(chunk.start, chunk.stop), means, restarted, components=chunk.components
        )
        for component, values in zip(chunk.components, part.ablated, strict=True):
            assert values.equal(expected.ablated[lens.components.index(component), rows])
            seen += [(str(component), prompt) for prompt in range(chunk.start, chunk.stop)]
        assert part.unablated.equal(expected.unablated[rows])
    assert sorted(seen) == sorted((str(component), prompt) for component in lens.components for prompt in range(7))


@pytest.mark.parametrize(("items", "number"), [(3, 1), (3, 2), (3, 7), (20, 4), (0, 2)])
def test_every_item_is_in_one_share(items, number):
    """Shares in order are all items in order; none costs more than its part and one item."""
    shares = [Share(n + 1, number).part(range(items), lambda item: 1.0 + item) for n in range(number)]
    assert [item for share in shares for item in share] == list(range(items))
    fair = sum(1.0 + item for item in range(items)) / number
    assert all(sum(1.0 + item for item in share) <= fair + items for share in shares)


def test_what_shares_agree_on_is_what_the_first_measured(tmp_path):
    """A batch size that is measured would otherwise differ from shard to shard."""
    shares = [Share(n, 2, tmp_path / "notes") for n in (1, 2)]
    assert [share.agree("size", lambda n=n: 10 * n) for n, share in enumerate(shares, 1)] == [10, 10]
    assert Share().agree("size", lambda: 30) == 30


@pytest.mark.parametrize(
    ("settings", "numbers"),
    [
        ({}, (1, 2, 3, 4, 7)),
        ({"engine": "bridge"}, (4, 7)),
        ({"dtype": "bfloat16", "ablation": "resample"}, (4,)),
        ({"batch_size": 1000}, (4,)),
    ],
)
def test_shards_of_influence_give_the_bytes_of_one_job(here, settings, numbers):
    """By both engines, in bfloat16 with its error against float32, and where one pass has all heads of a layer."""
    change(here, "influence", **settings)
    expected = whole("influence")
    for number in numbers:
        assert len(shards("influence", number)) == number
        OUTPUTS["influence"].unlink()
        assert whole("influence") == expected
        assert not list(SHARDS.iterdir()), "shards are deleted once they are gathered"


@pytest.mark.usefixtures("here")
def test_what_a_sweep_will_take_is_said_once(capfd):
    """For each model by the share that begins it, for all of them together."""
    run_stage("influence", ITEMS["influence"])
    alone = [line for line in capfd.readouterr().err.splitlines() if "FLOP" in line]
    shards("influence", 4)
    together = [line for line in capfd.readouterr().err.splitlines() if "FLOP" in line]
    assert [line.partition(":")[0] for line in alone] == [f"influence@mini-numerals {name}" for name in MODELS]
    assert sorted(line.partition(":")[0] for line in together) == [
        f"influence@mini-numerals {name}, all shares together" for name in sorted(MODELS)
    ]


def test_gathering_loads_no_model(here):
    """A job that only joins what shards computed does not wait for transformers' models: 3 of its 5 seconds."""
    shards("influence", 2)
    asked = (
        "import sys; from distilled_circuits.running import run_stage; "
        f"run_stage('influence', {ITEMS['influence']}); print('transformers.modeling_utils' in sys.modules)"
    )
    gathered = subprocess.run([sys.executable, "-c", asked], cwd=here, check=True, capture_output=True, text=True)
    assert gathered.stdout.strip() == "False"
    assert "shards are not used" not in gathered.stderr


def test_shards_measure_one_batch_size(here, monkeypatch):
    """With `auto` all shards take what the first of them measured."""
    change(here, "influence", batch_size="auto")
    sizes = iter(range(5, 100))
    monkeypatch.setattr("distilled_circuits.stages.influence.measured_batch_size", lambda *_: next(sizes))
    shards("influence", 3)
    whole("influence")
    assert next(sizes) == 7, "one measurement for each model"


@pytest.mark.usefixtures("here")
def test_shards_of_distillation_give_the_bytes_of_one_job():
    """Records of all seeds and the first seed's student, also with more shards than seeds."""
    expected = whole("distillation")
    for number in (1, 2, 3, 4, 7):
        assert len(shards("distillation", number)) == number
        shutil.rmtree(OUTPUTS["distillation"])
        assert whole("distillation") == expected
        assert not list(SHARDS.iterdir())


@pytest.fixture(scope="module")
def three(made) -> tuple[Path, str]:
    """A folder with three shards of influence, and the digest of what the job writes without them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made)
        (made / "params.yaml").write_text(yaml.safe_dump(PARAMS, sort_keys=False))
        shutil.rmtree(SHARDS, ignore_errors=True)
        kept = shutil.copytree(shards("influence", 3)[0].parent, made / "kept")
        shutil.rmtree(SHARDS)
        return kept, whole("influence")


def _stale_params(here: Path, _folder: Path) -> None:
    change(here, "influence", ablation="zero")


def _stale_input(here: Path, _folder: Path) -> None:
    prompts = here / "results/pairs/mini/numerals/prompts.json"
    prompts.write_text(prompts.read_text() + "\n")


def _other_code(here: Path, _folder: Path) -> None:
    noted = here / "results/code/influence.json"
    noted.parent.mkdir(exist_ok=True)
    noted.write_text('{"provenance": {"inputs": {}}}')


def _flipped_byte(_here: Path, folder: Path) -> None:
    data = bytearray((folder / "sweep.h5").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "sweep.h5").write_bytes(data)


def _cut_short(_here: Path, folder: Path) -> None:
    described = folder / "shard.json"
    described.write_text(described.read_text()[:50])


def _another_shard(_here: Path, folder: Path) -> None:
    shutil.rmtree(folder)
    shutil.copytree(folder.with_name("2-of-3"), folder)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_other_code, "shard 1/3 is of other code"),
        (_flipped_byte, "shard 1/3 is damaged (sweep.h5)"),
        (_cut_short, "shard 1/3 is damaged (shard.json)"),
        (_another_shard, "shard 1/3 is of other share"),
        (lambda _, folder: shutil.rmtree(folder), "shard 1/3 is not there"),
        (lambda _, folder: (folder / "sweep.h5").unlink(), "shard 1/3 is damaged (sweep.h5)"),
        (lambda _, folder: (folder / "shard.json").write_text(""), "shard 1/3 had nothing to do"),
    ],
)
def test_shards_that_cannot_be_used_are_ignored(three, here, capfd, request, spoil, reason):
    """The job computes everything itself and says why in one line; what it writes is what it writes without shards."""
    request.addfinalizer(lambda: shutil.rmtree(here / "results/code", ignore_errors=True))
    spoil(here, shutil.copytree(three[0], SHARDS / "influence@mini-numerals") / "1-of-3")
    assert _said_by_the_job(capfd) == [NOT_USED + reason]
    assert digest(OUTPUTS["influence"]) == three[1]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [(_stale_params, "shard 1/3 is of other params"), (_stale_input, "shard 1/3 is of other inputs")],
)
def test_shards_of_something_else_are_ignored(three, here, capfd, request, spoil, reason):
    """After a parameter or an input has changed the artifact is of the new ones."""
    prompts = here / "results/pairs/mini/numerals/prompts.json"
    text = prompts.read_text()
    request.addfinalizer(lambda: prompts.write_text(text))
    spoil(here, shutil.copytree(three[0], SHARDS / "influence@mini-numerals") / "1-of-3")
    assert _said_by_the_job(capfd) == [NOT_USED + reason]
    assert digest(OUTPUTS["influence"]) != three[1]
    assert digest(OUTPUTS["influence"]) == whole("influence")


def _said_by_the_job(capfd: pytest.CaptureFixture) -> list[str]:
    """Run the job and return its lines about shards."""
    capfd.readouterr()
    whole("influence")
    return [line for line in capfd.readouterr().err.splitlines() if "shard" in line]


@pytest.mark.usefixtures("here")
def test_a_whole_set_is_taken_beside_a_broken_one(three, monkeypatch):
    """Shards of a run with another number of them, which was killed, do not stand in the way."""
    shards("influence", 2)
    shutil.copytree(three[0] / "1-of-3", SHARDS / "influence@mini-numerals/1-of-3")
    monkeypatch.setattr("distilled_circuits.stages.influence.influence_sweep", None)  # nothing is computed any more
    assert whole("influence") == three[1]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["influence", "pair=mini", "task=numerals", "shard=5/4"], "shard=5/4: expected K/N with K from 1 to N"),
        (["influence", "pair=mini", "task=numerals", "shard=half"], "shard=half: expected K/N with K from 1 to N"),
        (
            ["circuit", "pair=mini", "task=numerals", "shard=1/2"],
            "circuit: cannot be split into shards, only influence",
        ),
    ],
)
def test_a_shard_that_cannot_be_is_one_line(capsys, arguments, said):
    """A mistake in the number of a shard, and a stage that has none."""
    assert main(["run", *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"distilled-circuits: {said}")


def test_stages_that_can_be_split_are_those_that_gather():
    """The list of the command line is that of the modules."""
    stages = ROOT / "src/distilled_circuits/stages"
    assert set(SPLIT) == {path.stem for path in stages.glob("*.py") if "\ndef gather(" in path.read_text()}


def test_shards_are_jobs_only_where_they_are_asked_for(tmp_path):
    """`--config shards=4` splits influence and, by its seeds, distillation; without it the graph is what it was."""
    params = smoke_params(**{"distillation.seeds": ["0-2"]})
    folder = project(tmp_path / "graph", yaml.safe_dump(params, sort_keys=False))
    jobs = {}
    for chosen in ("1", "4", "{influence: 2}"):
        said = call(folder, "snakemake", "--dry-run", "--quiet", "rules", "--config", f"shards={chosen}")
        jobs[chosen] = dict(re.findall(r"^(\w+_shard) +(\d+)$", said, re.MULTILINE))
    assert jobs["1"] == {}
    assert jobs["4"] == {"influence_shard": "4", "distillation_shard": "9"}, "three conditions of three seeds"
    assert jobs["{influence: 2}"] == {"influence_shard": "2"}
    wrong = call(folder, "snakemake", "--dry-run", "--config", "shards=none", check=False)
    assert "distilled-circuits: shards: influence: none is no number of shards" in wrong
