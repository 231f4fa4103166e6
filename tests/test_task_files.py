"""Tasks from files go through every stage that needs no role of its own: Lan et al.'s prompts, and one's own."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from checkpoints import byte_level_tokenizer, random_model, write_checkpoint
from conftest import ROOT
from lan2024 import lan_folder, needs_lan
from projects import no_drawing, quick_probes, run_in_process, smoke_params

from distilled_circuits.artifacts import read_json, read_provenance
from distilled_circuits.errors import UserError
from distilled_circuits.models.shapes import student_from_layers
from distilled_circuits.running import run_stage

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
NAMES = ("Ann", "Ben", "Cid", "Dan", "Eve")


def day_rows() -> list[dict]:
    """Return 35 rows: who came on which day, and on which day the next one came."""
    return [
        {
            "prompt": f"{name} came on {DAYS[day]}, the next on",
            "corrupted": f"{name} came on {DAYS[(day + 3) % 7]}, the next on",
            "answer": DAYS[(day + 1) % 7],
            "distractor": DAYS[day],
            "positions": {"day": DAYS[day]},
        }
        for name in NAMES
        for day in range(7)
    ]


def write_rows(path: Path, rows: list[dict]) -> None:
    """Write an own task."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def checkpoints(folder: Path, texts: list[str], size: int) -> dict[str, dict[str, str]]:
    """Write a random GPT-2 and a student of two of its layers, with a tokenizer that is trained on the texts."""
    tokenizer = byte_level_tokenizer(texts, size)
    teacher = random_model("gpt2", vocabulary=len(tokenizer))
    for side, model in (("teacher", teacher), ("student", student_from_layers(teacher, [0, 2]))):
        write_checkpoint(folder / side, model, tokenizer)
    return {side: {"local": str(folder / side)} for side in ("teacher", "student")}


def params_for(pair: dict, sources: dict, tasks: list[str], **changes) -> dict:
    """Return the smoke configuration of the first paper on one pair and some tasks."""
    return smoke_params(
        **{"pairs": ["mine"], "battery.pairs": [], "distillation.tasks": [], "noise.tasks": tasks[:1], "tasks": tasks},
        **{"models": {"mine": pair}, "sources": sources, **changes},
    )


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Path:
    """A finished run on an own task."""
    folder = tmp_path_factory.mktemp("own")
    rows = day_rows()
    texts = [f"{row['prompt']} {row['answer']} {name}" for row in rows for name in NAMES]
    pair = checkpoints(folder, texts, 340)
    project = folder / "project"
    write_rows(project / "data/tasks/days.jsonl", rows)
    sources = {"days": {"format": "jsonl", "files": ["data/tasks/days.jsonl"], "title": "Next day"}}
    with pytest.MonkeyPatch.context() as patch:
        run_in_process(project, params_for(pair, sources, ["days"]), patch)
    return project


def test_an_own_task_reaches_the_report(own):
    """Its title, its example, its named positions in activation patching; no shift, no fillers."""
    compared = json.loads((own / "results/comparison.json").read_text())["pairs"]["mine"]["tasks"]["days"]
    assert compared["title"] == "Next day"
    assert list(compared["shift"]["variants"][0]) and len(compared["shift"]["variants"]) == 1
    assert compared["role_prompts_scattered"] is False
    assert "Ann came on Monday, the next on" in (own / "results/report.html").read_text()
    prompts = read_json(own / "results/pairs/mine/days/prompts.json", "prompts/3")
    assert prompts["prompts"]["teacher"][0]["positions"] == {"day": [3], "last": [7]}


def test_only_the_task_that_is_read_is_part_of_its_artifact(own):
    """Another file beside it changes nothing: the artifact names the file and its digest, not the folder."""
    found = read_provenance(own / "results/pairs/mine/days/prompts.json")["inputs"]
    assert "data/tasks/days.jsonl" in found
    assert "data/tasks" not in found


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"answer": "the day after"},
            r"data/tasks/days.jsonl:2: the answer 'the day after' of the prompt .* not one token",
        ),
        ({"prompt": "Ann came on Tuesday, the next day on"}, r"data/tasks/days.jsonl:2: prompts of different lengths"),
        ({"distractor": "Wednesday"}, r"data/tasks/days.jsonl:2: "),
    ],
)
def test_a_row_that_a_model_cannot_read_is_named_with_its_line(own, change, said, monkeypatch, tmp_path):
    """What only a tokenizer can know is said with file and line too, and nothing is written."""
    shutil.copytree(own, tmp_path / "copy", symlinks=True)
    monkeypatch.chdir(tmp_path / "copy")
    rows = day_rows()
    write_rows(
        Path("data/tasks/days.jsonl"), [rows[0], {**rows[1], **change, "positions": {"day": "Tuesday"}}, *rows[2:]]
    )
    written = Path("results/pairs/mine/days/prompts.json")
    before = written.read_bytes()
    with pytest.raises(UserError, match=said):
        run_stage("prompts", ["pair=mine", "task=days"])
    assert written.read_bytes() == before


@needs_lan
def test_the_prompts_of_lan_et_al_go_through_the_pipeline(tmp_path, monkeypatch):
    """With a byte-level tokenizer: all are read, 23 tokens, numerals at 3, 8, 13, 18, read at 22, digests as listed."""
    sources = yaml.safe_load((ROOT / "params.yaml").read_text())["sources"]
    chosen = {name: sources[name] for name in ("numerals_lan", "words_lan")}
    texts = []
    for source in chosen.values():
        for file in source["files"]:
            place = tmp_path / "project" / file
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(lan_folder() / place.name, place)
            texts += [row["text"] for row in json.loads(place.read_text())]
    words = sorted({word for text in texts for word in text.replace(".", " ").split()})
    pair = checkpoints(tmp_path / "models", [*(f" {word} {word}" for word in words), *words] * 30, 1500)
    quick_probes(monkeypatch)
    no_drawing(monkeypatch)
    run_in_process(tmp_path / "project", params_for(pair, chosen, list(chosen), **{"prompts.number": 48}), monkeypatch)
    for name in chosen:
        stored = read_json(Path(f"results/pairs/mine/{name}/prompts.json"), "prompts/3")
        assert stored["left_out"] == {}
        assert stored["published_as"] == name.removesuffix("_lan")
        for record in stored["prompts"]["teacher"]:
            assert len(record["ids"]) == len(record["corrupted_ids"]) == 23
            assert record["positions"]["numerals"] == [3, 8, 13, 18]
            assert record["positions"]["last"] == [22]
    compared = json.loads(Path("results/comparison.json").read_text())["pairs"]["mine"]
    assert {name: task["prompts"] for name, task in compared["tasks"].items()} == dict.fromkeys(chosen, 48)


def test_another_file_than_the_one_that_was_meant_is_refused(own, monkeypatch, tmp_path):
    """A digest in params.yaml that does not fit stops the stage with both."""
    shutil.copytree(own, tmp_path / "copy", symlinks=True)
    monkeypatch.chdir(tmp_path / "copy")
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["sources"]["days"]["sha256"] = ["0" * 64]
    Path("params.yaml").write_text(yaml.safe_dump(params))
    with pytest.raises(UserError, match=r"the file differs from the one that params\.yaml was written for"):
        run_stage("prompts", ["pair=mine", "task=days"])
