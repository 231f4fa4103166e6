"""params.yaml is the user interface: mistakes end in one line that names key, finding and what is allowed."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from distilled_circuits.errors import UserError
from distilled_circuits.params import load_params


@pytest.fixture
def content() -> dict:
    """The committed params.yaml."""
    return yaml.safe_load((ROOT / "params.yaml").read_text())


def complain(tmp_path: Path, content: object) -> str:
    """Return the message about a params.yaml with this content."""
    path = tmp_path / "params.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
    with pytest.raises(UserError) as caught:
        load_params(path)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{path}: ")


def change(content: dict, dotted: str, value: object) -> dict:
    """Set a value at a dotted key."""
    *parents, last = dotted.split(".")
    place = content
    for part in parents:
        place = place[part]
    place[last] = value
    return content


def test_the_committed_file_is_valid():
    """What a clone comes with passes, and knows the pair and the tasks."""
    params = load_params(ROOT / "params.yaml")
    assert params.pairs == ["mini"]
    assert params.models["mini"].teacher.layers >= 6


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("circuit.treshold", 0.2, "circuit.treshold: unknown key, allowed: source, ablation, means, threshold, "),
        ("nonsense", 1, "nonsense: unknown key, allowed: pairs, tasks, device"),
        ("circuit.threshold", 1.5, "circuit.threshold: found 1.5, allowed: a number between 0 and 1, both excluded"),
        ("circuit.threshold", "much", "circuit.threshold: found 'much', allowed: a number between 0 and 1"),
        ("prompts.number", 0, "prompts.number: found 0, allowed: a whole number of at least 8"),
        ("prompts.number", 38.4, "prompts.number: found 38.4, allowed: a whole number of at least 8"),
        ("device", "gpu", "device: found 'gpu', allowed: 'auto', 'cpu' or 'cuda'"),
        ("tasks", ["numerals", "chess"], "tasks names 'chess', allowed: numerals, words, ioi, facts, "),
        ("tasks", ["ioi", "ioi"], "tasks: lists a value twice"),
        ("pairs", ["mini", "maxi"], "pairs names 'maxi', allowed: mini, mini_bert, "),
        ("distillation.runs", ["ce"], "distillation.runs names 'ce', allowed: ce_full, ce_circuit"),
        ("models.mini.teacher.heads", 7, "models.mini.teacher: heads is 7, allowed: a divisor of width (128)"),
        ("models.mini.student.layers", [6], "models.mini: student.layers is [6], allowed: layers of the teacher, 0"),
        (
            "activations.sites",
            ["z", "pattern", "residual"],
            "activations: sites is ['z', 'pattern', 'residual'], allowed: a list that has",
        ),
        ("noise.prompts", 999, "noise.prompts is 999, allowed: at most prompts.number (384)"),
        ("alignment.sizes", [512], "alignment.sizes is [512], allowed: at least one up to prompts.number (384)"),
        ("alignment.custom.heads", "ckka", "alignment.custom.heads: found 'ckka', allowed: 'output', 'pattern_rows'"),
        ("battery.pairs", ["gpt2"], "battery.pairs names 'gpt2', allowed: mini"),
        ("sources.chess", "generated", "sources.chess is generated, allowed: of numerals, words, ioi, facts"),
        ("sources.mine.format", "xml", "sources.mine.format: found 'xml', allowed: 'jsonl', 'lan2024', 'simp"),
        ("sources.mine.files", ["mine.jsonl"], "sources.mine: files has 'mine.jsonl', allowed: files below data/"),
        ("sources.mine.sha256", ["ab"], "sources.mine.sha256.0: found 'ab', allowed: 64 hexadecimal digits, a S"),
        ("sources.simpleqa.sha256", ["a" * 64] * 2, "sources.simpleqa: sha256 has 2 entries, allowed: none, or one a"),
        ("models.gpt2.teacher.hub", "a/b/c", "models.gpt2.teacher.hub: found 'a/b/c', allowed: a repository such as"),
        ("models.gpt2.teacher.dtype", "int8", "models.gpt2.teacher.dtype: found 'int8', allowed: 'float32' or 'bfloa"),
        ("models.gpt2.teacher.path", "x", "models.gpt2.teacher.path: unknown key, allowed: dtype, begins, after_mask"),
        ("models.gpt2.student", {"local": 3}, "models.gpt2.student.local: found 3, allowed: a valid string"),
        ("models.mini_llama.teacher.key_value_heads", 3, "models.mini_llama.teacher: key_value_heads is 3, allowed: a"),
        ("models.mini.teacher.key_value_heads", 4, "models.mini.teacher: key_value_heads, allowed: of a llama, which"),
        ("models.mini.student.architecture", "bert", "models.mini: student.architecture is bert, allowed: the teacher"),
        ("models.mini.teacher", {"local": "x"}, "models.mini: student starts from teacher layers, allowed: where the"),
        ("models.mini.teacher", "gpt2", "models.mini.teacher: found 'gpt2', allowed: "),
        ("models.mini.student", None, "models.mini.student: found None, allowed: "),
        ("sources.teacher", "generated", "sources names a task 'teacher', allowed: others (results/pairs/PAIR/teacher"),
        ("sources.mine.published_as", "numerals", "sources.mine: published_as, allowed: of the format lan2024 with sh"),
        ("models.mini.teacher.mixture", {"ioi": 0}, "models.mini.teacher: mixture has no weight above 0, allowed: at"),
        ("battery.judged", [0, 3], "battery: judged has 3, allowed: 0 and what replicas has ([1])"),
        ("battery.mismatched.key_value_heads", 3, "battery.mismatched: key_value_heads is 3, allowed: a divisor of"),
        ("influence.batch_size", "much", "influence.batch_size: found 'much', allowed: a whole number of at least 1"),
        ("noise.reading.layer", "first", "noise.reading.layer: found 'first', allowed: all, or the number of a layer"),
        ("mlps.directions", 200, "mlps.directions is 200, allowed: at most the models' width (128)"),
        ("circuit", 3, "circuit: found 3, allowed: keys with values: source, ablation, means, threshold, "),
        ("models.mini.teacher.learning_rate", "1e-3", "models.mini.teacher.learning_rate: found '1e-3', allowed"),
        ("models.mini.teacher.learning_rate", float("inf"), "models.mini.teacher.learning_rate: found inf, allowed: a"),
        ("distillation.tasks", ["ioi"], "distillation.tasks.0: found 'ioi', allowed: 'entity_tracking' or 'theory_of"),
        ("distillation.students", ["tiny"], "distillation.students names 'tiny', allowed: small, large"),
        ("distillation.sweep.sizes", [9], "distillation: training.prompts and sweep.sizes have 9, allowed: training"),
        ("distillation.sweep.sizes", [9000], "distillation: training.prompts and sweep.sizes have 9000, allowed: "),
        ("distillation.seeds", ["0-2", 2], "distillation: seeds has 2 twice, allowed: each once"),
        ("distillation.seeds", ["3-1"], "distillation: 3-1 has no seed in it, allowed: the smaller number first"),
        ("distillation.seeds", ["0 to 2"], "distillation: 0 to 2 is no seed, allowed: a number such as 3, or a range"),
        ("distillation.sweep.sized", ["ce"], "distillation.sweep.sized names 'ce', allowed: ce_full, ce_circuit"),
        ("family.teacher.heads", 7, "family.teacher: heads is 7, allowed: a divisor of width (96)"),
        (
            "family.pace.theory_of_mind.raise_at",
            1.5,
            "family.pace.theory_of_mind.raise_at: found 1.5, allowed: a number",
        ),
        ("family.mixtures.theory_of_mind", {"chess": 1}, "family.mixtures.theory_of_mind.chess: found 'chess'"),
        ("noise.levels.stop", -1.0, "noise.levels.stop: found -1.0, allowed: a number above 0"),
        ("noise.levels.step", 3.0, "noise.levels: step is 3.0, allowed: at most stop (2.0), so that there are two"),
        ("battery.judged", [1], "battery: judged is [1], allowed: a list that has 0, the pair's own teacher"),
        ("battery.mismatched.heads", 6, "battery.mismatched.heads is 6, allowed: a divisor of the width of mini's"),
        ("distillation.judged", 2001, "distillation: judged is 2001, allowed: at most questions.test"),
        ("conditions.ce_full.trains", "some", "conditions.ce_full.trains: found 'some', allowed: 'all', 'circuit' or"),
        ("conditions.ce_full.alignment", "cka", "conditions.ce_full: alignment is cka and mapping is none, allowed:"),
        ("conditions.ce_full.cross_entropy", 0.0, "conditions.ce_full: cross_entropy and weight are both 0, allowed:"),
        ("conditions.ce_aligned.maps", 2, "conditions.ce_aligned: maps is 2, allowed: 1 where mapping is not random"),
        ("conditions.ce_aligned.text", "tuning", "conditions.ce_aligned: text is tuning and alignment is cka, allowed"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_what_is_allowed(key, value, message, content, tmp_path):
    """Unknown keys, wrong types, values out of range, unknown names: one line each."""
    changed = change(content, key, value)
    assert complain(tmp_path, changed).startswith(message)


def test_a_missing_key_is_named(content, tmp_path):
    """Leaving a key out is a mistake too: there are no hidden defaults."""
    del content["circuit"]["threshold"]
    assert complain(tmp_path, content).startswith("circuit.threshold: missing")


def test_broken_yaml_is_named(tmp_path):
    """What YAML cannot read is one line with the place."""
    assert "not readable as YAML" in complain(tmp_path, "pairs: [mini\n")
    assert "found list" in complain(tmp_path, "- a\n")


def test_sections_cannot_be_changed():
    """Parameters are frozen once read."""
    params = load_params(ROOT / "params.yaml")
    with pytest.raises(ValueError, match="frozen"):
        params.circuit.threshold = 0.5


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("circuit.threshold", 7, "circuit.threshold: found 7, allowed: a number between 0 and 1, both excluded"),
        ("pairs", ["maxi"], "pairs names 'maxi', allowed: mini, mini_bert, "),
        ("pairs", 3, "pairs: found 3, allowed: a list of keys of models"),
        ("tasks", None, "tasks: found None, allowed: a list of tasks"),
        ("distillation.runs", ["ce"], "distillation.runs names 'ce', allowed: ce_full, ce_circuit"),
    ],
)
def test_a_mistake_ends_a_run_without_a_traceback(key, value, message, content, tmp_path):
    """`distilled-circuits run` and `snakemake` both stop before any work, with the one line."""
    for name in ("dvc.yaml", "Snakefile", "rules", "profiles", "data"):
        (tmp_path / name).symlink_to(ROOT / name)
    changed = change(content, key, value)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(changed, sort_keys=False))
    for command in (
        [sys.executable, "-m", "distilled_circuits.cli", "run", "prompts", "pair=mini", "task=ioi"],
        [sys.executable, "-m", "snakemake", "--cores", "1"],
    ):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        output = done.stdout + done.stderr
        assert done.returncode != 0
        assert message in output
        assert "Traceback" not in output
        assert 'File "' not in output
    assert not (tmp_path / "results").exists()


def test_a_broken_file_stops_snakemake_too(tmp_path):
    """YAML that cannot be read is one line as well."""
    for name in ("dvc.yaml", "Snakefile", "rules", "profiles", "data"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "params.yaml").write_text("pairs: [mini\n")
    done = subprocess.run(
        [sys.executable, "-m", "snakemake"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "params.yaml: not readable as YAML" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
