"""Bad input, fuzzed: whatever a file has in it, a person gets one line; no file runs code or names a place to write to.

Every test runs the same examples each time.
"""

import copy
import json
import os
import pickle
import pickletools
import random
import shutil
import struct
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
import yaml
from checkpoints import byte_level_tokenizer, random_model, write_checkpoint
from conftest import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distilled_circuits import cli, running
from distilled_circuits.artifacts import (
    Provenance,
    count_parameters,
    read_arrays,
    read_json,
    read_plain_json,
    read_provenance,
    write_hdf5,
)
from distilled_circuits.circuits.exchange import ExchangedCircuit, from_exchange, to_exchange
from distilled_circuits.errors import UserError
from distilled_circuits.figures.heads import token_labels
from distilled_circuits.figures.style import new_figure, to_png
from distilled_circuits.graph import load_graph
from distilled_circuits.lens.components import Component
from distilled_circuits.lockfile import lock_stages, recorded_outputs
from distilled_circuits.messages import MOST, one_line
from distilled_circuits.models.checkpoint_files import check_weights
from distilled_circuits.models.loading import load_config, load_model, load_tokenizer
from distilled_circuits.params import load_params
from distilled_circuits.tasks.formats import read_prompts
from distilled_circuits.tasks.lexicon import load_lexicon
from distilled_circuits.tasks.safe_pickle import load_plain
from distilled_circuits.yaml_files import read_yaml


def examples(number: int):
    """Return settings of so many examples, the same ones each time, that no file remembers."""
    return settings(
        max_examples=number, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )


def refusal(read, *arguments) -> str | None:
    """Return the one line that reading ends in, or None where it succeeds; any other exception is a failure."""
    try:
        read(*arguments)
    except UserError as error:
        said = str(error)
    else:
        return None
    printed = one_line(said)  # by `main`
    assert "\n" not in printed and len(printed) <= MOST
    return said


def replaced(content, place, value, how):
    """Return a copy of nested lists and mappings with a value set, taken away or put beside, at a place."""
    if not place:
        return value
    changed = copy.deepcopy(content)
    holder = changed
    for part in place[:-1]:
        holder = holder[part]
    if how == "delete":
        del holder[place[-1]]
    elif how == "add" and isinstance(holder, dict):
        holder[value if isinstance(value, str) else "added"] = value
    else:
        holder[place[-1]] = value
    return changed


def places(content, at=()):
    """Return the places of all values in nested lists and mappings, the whole first."""
    inner = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [at, *(place for key, value in inner for place in places(value, (*at, key)))]


HOSTILE = [
    "", "-", "..", "../x", "/etc/passwd", "a/b", "x" * 300, "data/tasks/../../x", "a\nb", "a\x1b[2J", "a\0b", "1e-3",
    "0-99999999999", "9-1", "${pairs}", "~nosuch/x", "$x$", "é", "\u2028", "ﬁ", "None", "mini", "mini_bert", "ioi",
]  # fmt: skip
texts = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=12))
numbers = st.one_of(
    st.integers(-2, 70), st.floats(), st.sampled_from([10**30, 2**31, -(2**31), 1e308, 5e-324, -0.0, 10**9])
)
how = st.sampled_from(["set", "set", "set", "delete", "add"])

# ------------------------------------------------------------------------------------------------ params.yaml, dvc.yaml

REAL = yaml.safe_load((ROOT / "params.yaml").read_text())
PLACES = places(REAL)[1:]
leaves = st.one_of(st.none(), st.booleans(), numbers, texts, st.dates(), st.datetimes(), st.binary(max_size=5))
any_yaml = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(texts, st.integers(0, 9), st.none()), inner, max_size=3),
        st.sets(texts, max_size=2),
    ),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Return a folder with the committed dvc.yaml, for a params.yaml of any kind."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "dvc.yaml").write_bytes((ROOT / "dvc.yaml").read_bytes())
    return folder


def stays_inside(folder: Path) -> None:
    """Check that a graph that can be resolved writes below results, and reads nothing outside of the project."""
    found = []
    if refusal(lambda: found.append(load_graph(folder))) is None:
        for item in found[0].items:
            assert all(path == os.path.normpath(path) for path in (*item.outputs, *item.inputs))
            assert all(path.startswith("results/") for path in item.outputs)
            assert not any(path.startswith(("..", "/")) for path in item.inputs)
            assert all(len(os.fsencode(part)) < 200 for path in item.outputs for part in path.split("/"))


@examples(160)
@given(place=st.sampled_from(PLACES), value=st.one_of(leaves, any_yaml), how=how)
def test_a_value_of_any_kind_at_any_key(place, value, how, project):
    """It is valid, or one line says what is wrong; and no name leads out of the project, valid or not."""
    path = project / "params.yaml"
    text = yaml.dump(replaced(REAL, place, value, how), Dumper=yaml.CSafeDumper, sort_keys=False)
    path.write_text(text, encoding="utf-8")
    said = refusal(load_params, path)
    if said:
        assert said.startswith(f"{path}: ") and not said.startswith(f"{path}: :") and len(said) <= MOST
    stays_inside(project)


@examples(60)
@given(key=st.sampled_from(["pairs", "tasks", "students", "conditions"]), name=texts)
def test_a_name_of_any_kind_is_no_path(key, name, project):
    """Names of pairs, tasks, students and conditions become folders: those that are accepted are plain."""
    content = copy.deepcopy(REAL)
    if key == "pairs":
        content["pairs"], content["models"][name] = [name], content["models"]["mine"]
        content["battery"]["pairs"] = []
    elif key == "tasks":
        content["tasks"], content["sources"][name] = [name], content["sources"]["mine"]
        content["noise"]["tasks"] = []
    elif key == "students":
        content["distillation"]["students"] = [name]
        content["family"]["students"][name] = content["family"]["students"]["small"]
    else:
        content["distillation"]["runs"].append(name)
        content["conditions"][name] = {"trains": "all", "learning_rate": 0.1}
    path = project / "params.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    if refusal(load_params, path) is None:
        assert name.isidentifier()
    stays_inside(project)


BOMBS = {
    "a key twice": ("a: 1\na: 2", "the key 'a' stands twice at line 1"),
    "nesting that kills the parser": ("a: " + "[" * 200_000, "more than 40 levels of nesting"),
    "maps in maps": ("{a: " * 5000 + "1" + "}" * 5000, "more than 40 levels of nesting"),
    "aliases of aliases": (
        "a0: &a0 [x]\n" + "".join(f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 9)}]\n" for n in range(12)),
        "more than 200000 values",
    ),
    "merges of merges": (
        "a0: &a0 {x: 1}\n" + "".join(f"a{n + 1}: &a{n + 1} {{<<: [{', '.join([f'*a{n}'] * 9)}]}}\n" for n in range(12)),
        "more than 200000 values",
    ),
    "itself": ("a: &a [*a]", "more than 200000 values"),
    "a call": ("a: !!python/object/apply:os.system [touch ran]", "could not determine a constructor for the tag"),
    "a month 13": ("a: 2024-13-45", "month must be in 1..12"),
    "a time zone of two days": ("a: 2001-12-14t21:59:43.10-48:00", "not readable as YAML: "),
    "no number": ("a: !!int x", "invalid literal for int"),
    "no truth": ("a: !!bool maybe", "not readable as YAML: "),
    "no time": ("a: !!timestamp soon", "not readable as YAML: "),
    "digits": ("a: " + "9" * 5000, "not readable as YAML: "),
    "a large number": ("a: {b: 2147483648}", "a.b: found 2147483648, allowed: whole numbers up to 2147483647"),
    "a number as key": ("a: {1: b}", "a.1: found a key that is no text"),
    "a list as key": ("? [a]\n: b", "unhashable key"),
    "a list as map": ("a: !!map [1]", "expected a mapping node"),
}


@pytest.mark.parametrize(("text", "message"), BOMBS.values(), ids=BOMBS)
def test_yaml_that_explodes_runs_or_lies(text, message, tmp_path):
    """Each is refused in one line, before it takes memory; some of these ended the process or a traceback."""
    path = tmp_path / "params.yaml"
    path.write_text(text)
    for read in (read_yaml, load_params):
        assert message in (refusal(read, path) or "")
    (tmp_path / "dvc.yaml").write_text("stages: {}")
    assert message in (refusal(load_graph, tmp_path) or "")
    assert not (tmp_path / "ran").exists()
    assert lock_stages(text) == {}


@examples(60)
@given(at=st.integers(0, 20_000), cut=st.integers(0, 60), junk=st.one_of(st.binary(max_size=8), texts.map(str.encode)))
def test_bytes_of_any_kind_in_params(at, cut, junk, project):
    """Whatever stands in the place of some bytes of the real file."""
    data = (ROOT / "params.yaml").read_bytes()
    (project / "params.yaml").write_bytes(data[:at] + junk + data[at + cut :])
    refusal(load_params, project / "params.yaml")


MISTAKES = {
    "distillation.seeds": (["0-99999999999"], "seeds has more than 1000 or one above 2147483647"),
    "family.pace": ({"entity_tracking": {"raise_at": 0.5, "patience": 1}}, "distillation.tasks names 'theory_of_mind'"),
    "distillation.training.prompts": ({"entity_tracking": 768}, "distillation.tasks names 'theory_of_mind'"),
    "distillation.circuits.methods": ({"entity_tracking": "greedy"}, "distillation.tasks names 'theory_of_mind'"),
    "family.mixtures.entity_tracking": ({"copying": 0}, "has no weight above 0"),
    "noise.levels": ({"stop": 1.0, "step": 1e-9}, "step is 1e-09, allowed: at least stop / 1000"),
    "sources.mine.title": ("$\\frac$", "title, allowed: at most 80 characters, on one line, `$` at most once"),
    "models.gpt2.teacher.revision": ("../../x", "models.gpt2.teacher.revision: found '../../x', allowed: a commit's"),
    "models.llama_8b_1b.needs.more": (1, "models.llama_8b_1b.needs.more: unknown key, allowed: disk, memory, token"),
    "sources./etc/passwd": ([], "sources"),
}


@pytest.mark.parametrize("dotted", MISTAKES)
def test_what_would_fail_late_is_said_early(dotted, project):
    """Values that were accepted, and ended a stage in a traceback, filled the memory, or broke the message itself."""
    value, message = MISTAKES[dotted]
    path = project / "params.yaml"
    content = copy.deepcopy(REAL)
    holder, key = content, dotted
    while key.partition(".")[0] in holder and "." in key:
        first, _, key = key.partition(".")
        holder = holder[first]
    holder[key] = value
    path.write_text(yaml.safe_dump(content))
    assert message in (refusal(load_params, path) or "")


@examples(60)
@given(place=st.sampled_from(places(yaml.safe_load((ROOT / "dvc.yaml").read_text()))), value=any_yaml, how=how)
def test_a_graph_of_any_kind(place, value, how, tmp_path_factory):
    """A dvc.yaml that is not as it must be is one line as well."""
    folder = tmp_path_factory.mktemp("graph")
    (folder / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    content = replaced(yaml.load((ROOT / "dvc.yaml").read_text(), Loader=yaml.CSafeLoader), place, value, how)
    (folder / "dvc.yaml").write_text(yaml.dump(content, Dumper=yaml.CSafeDumper, sort_keys=False))
    refusal(lambda: load_graph(folder).items)


def test_a_lock_file_removes_nothing_outside_of_results():
    """Outputs that nobody makes any more are removed: a lock file from elsewhere must not choose what that is."""
    outs = [
        "results/pairs/old",
        "results/../src",
        "../x",
        "/etc/passwd",
        "results/a/../../../x",
        "src",
        "results/",
        ".",
    ]
    entries = [{"path": path, "md5": "0" * 32} for path in outs]
    lock = yaml.safe_dump({"schema": "2.0", "stages": {"s": {"cmd": "x", "outs": entries}}})
    assert load_graph(ROOT).abandoned(lock) == ["results/pairs/old"]


@examples(60)
@given(place=st.sampled_from([(), ("s",), ("s", "outs"), ("s", "outs", 0), ("s", "outs", 0, "path")]), value=any_yaml)
def test_a_lock_file_of_any_kind(place, value):
    """What is no lock file records nothing; DVC says what is wrong with it."""
    stages = {"s": {"cmd": "x", "outs": [{"path": "a", "md5": "0"}]}}
    text = yaml.safe_dump({"stages": replaced(stages, place, value, "set")})
    recorded = recorded_outputs(text)
    assert all(isinstance(part, str) for pair in recorded.items() for part in pair)


# ------------------------------------------------------------------------------------------------------- prompt files

OWN = [
    {
        "prompt": f"{name} done in 1. Sun done in", "corrupted": "Van done in 7. Sun done in", "answer": "2",
        "distractor": "1", "positions": {"sun": "Sun", "parts": ["1", [0, 3]]},
    }
    for name in ("Van", "Hat")
]  # fmt: skip
ROW = {
    "S1": "1", "S2": "2", "S3": "3", "S4": "4", "corr": " 5", "incorr": " 4",
    "text": "Van done in 1. Hat done in 2. Ring done in 3. Desk done in 4. Sun done in",
}  # fmt: skip
TWIN = ROW | {"text": "Van done in 8. Hat done in 1. Ring done in 7. Desk done in 5. Sun done in"}
STORY = {
    "templates": [
        {
            "context": "<character_1> fills <container_1> with <state_1>. <character_2> fills <container_2> with "
            "<state_2>. <character_1> can observe <character_2>'s actions.",
            "question": "What does <character_q> believe <container_q> contains?",
        }
    ]
}
WORDS = [f"word{n}" for n in range(8)]
SENTENCES = (
    "Then, Mary and John went to the store. John gave a drink to Mary.\n"
    "When Anna and Ben sat in the park, Anna handed a kiss to Ben\n"
    "Friends Eve and O'Neil found a ring. Eve gave it to O'Neil\n"
)
QUESTIONS = (
    "metadata,problem,answer\n\"{'answer_type': 'Date'}\",When?,May 2\n\"{'answer_type': 'Date'}\",And?,\"June, 3\"\n"
)
AS_JSON = {"jsonl": [OWN], "lan2024": [[ROW], [ROW], [ROW], [TWIN] * 3], "causal_tom": [STORY, WORDS, WORDS, WORDS]}
"""The content of each file of the forms that are JSON."""
AS_BYTES = {"simpleqa": [QUESTIONS.encode()], "ioi": [SENTENCES.encode()]}
JUNK = [
    b"[" * 3000, b'{"a":' * 2000, b"1" * 5000, b"1e999", b"NaN", b"\xff\xfe", b"\xef\xbb\xbf", b"\r\n", b"\r",
    b'"\\ud800"', b"\x00", b"{}", b"null", b'{"a":1,"a":2}', b"\xc3", b'"', b"'", b",", b"\\", b"<container_3>", b"{x}",
]  # fmt: skip
any_json = st.recursive(
    st.one_of(
        st.none(), st.booleans(), numbers, texts, st.sampled_from(["\ud800", "<container_3>", "Sun", " a", "a "])
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=5,
)


def to_bytes(form, content) -> bytes:
    """Return a file's content as its form has it: JSON by lines or in one piece."""
    lines = content if form == "jsonl" and isinstance(content, list) else [content]
    return "\n".join(json.dumps(line) for line in lines).encode()


def is_read_or_refused(form, contents, folder) -> None:
    """Check that files of a form give prompts that can be stored, or one line that names one of them."""
    files = [folder / f"{number}.json" for number in range(len(contents))]
    for file, content in zip(files, contents, strict=True):
        file.write_bytes(content)
    prompts = []
    said = refusal(lambda: prompts.extend(read_prompts(form, files, [], random.Random(0))))
    assert said is None or said.startswith(tuple(map(str, files)))
    for prompt in prompts:
        for text in (prompt.clean, prompt.corrupted, prompt.answer, prompt.distractor):
            assert text.encode().decode() == text


@examples(200)
@given(data=st.data(), form=st.sampled_from(list(AS_JSON)), value=any_json, how=how)
def test_json_of_any_kind_as_prompts(data, form, value, how, tmp_path_factory):
    """A value of any kind at any place of any file of a form."""
    folder, contents = tmp_path_factory.getbasetemp(), list(AS_JSON[form])
    which = data.draw(st.integers(0, len(contents) - 1))
    contents[which] = replaced(contents[which], data.draw(st.sampled_from(places(contents[which]))), value, how)
    is_read_or_refused(form, [to_bytes(form, content) for content in contents], folder)


@examples(200)
@given(
    data=st.data(),
    form=st.sampled_from([*AS_JSON, *AS_BYTES]),
    junk=st.one_of(st.sampled_from(JUNK), st.binary(max_size=6)),
    cut=st.sampled_from([0, 0, 1, 5, 10_000]),
)
def test_bytes_of_any_kind_as_prompts(data, form, junk, cut, tmp_path_factory):
    """Junk in the place of some bytes, or of all to the end: cut short, other encodings, deep nesting, long numbers."""
    contents = [to_bytes(form, content) for content in AS_JSON.get(form, [])] or list(AS_BYTES[form])
    which = data.draw(st.integers(0, len(contents) - 1))
    at = data.draw(st.integers(0, len(contents[which])))
    contents[which] = contents[which][:at] + junk + contents[which][at + cut :]
    is_read_or_refused(form, contents, tmp_path_factory.getbasetemp())


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("numerals.csv", b"numeral\n1\n", ":2: allowed: a value for each of numeral, word"),
        ("facts.csv", b"person,relation,answer\nA,town\n", ":2: allowed: a value for each of person, relation, answer"),
        ("facts.csv", b"person,relation,answer\nA,town,B,C\n", ":2: allowed: a value for each of person, relation"),
        ("names.txt", b"M\xfcller\n", ": not UTF-8 (invalid start byte at byte 1): save it as UTF-8"),
    ],
)
def test_a_word_list_of_another_form_is_named(name, content, said, tmp_path):
    """Columns that are missing, a value too few or too many, another encoding."""
    folder = shutil.copytree(ROOT / "data/lexicon", tmp_path / "lexicon")
    (folder / name).write_bytes(content)
    assert refusal(load_lexicon, folder).startswith(f"{folder / name}{said}")


class Malicious:
    """Asks whoever unpickles it to make a file."""

    def __reduce__(self):
        return os.mkdir, ("ran",)


OPCODES = [code.code.encode("latin-1") for code in pickletools.opcodes]
ARGUMENTS = [
    b"", b"\0", b"\1", b"\xff" * 4, b"os\nmkdir\n", b"1\n", b"'a'\n", b"\5\0\0\0", b"\xff\xff\xff\x7f",
    struct.pack("<Q", 2**62), b"999999999\n",
]  # fmt: skip
PICKLES = [pickle.dumps(each, protocol=n) for each in (Malicious(), [ROW], {"a": [Malicious()]}) for n in range(6)]
pickles = st.one_of(
    st.lists(st.tuples(st.sampled_from(OPCODES), st.sampled_from(ARGUMENTS)), max_size=10).map(
        lambda parts: b"\x80\4" + b"".join(code + argument for code, argument in parts) + b"."
    ),
    st.tuples(st.sampled_from(PICKLES), st.integers(0, 300), st.binary(max_size=2)).map(
        lambda drawn: drawn[0][: drawn[1]] + drawn[2] + drawn[0][drawn[1] + len(drawn[2]) :]
    ),
    st.sampled_from(PICKLES),
)


@examples(400)
@given(data=pickles)
def test_a_pickle_of_any_kind_runs_nothing(data, tmp_path_factory, monkeypatch):
    """Opcodes at random, and damaged pickles of objects that ask for a call."""
    folder = tmp_path_factory.getbasetemp() / "pickles"
    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)
    (folder / "x.pkl").write_bytes(data)
    refusal(load_plain, folder / "x.pkl")
    assert [path.name for path in folder.iterdir()] == ["x.pkl"]


@pytest.mark.parametrize("data", [b"\x80\4Nr\xff\xff\xff\x7f.", b"Np999999999\n.", b"\x80\4B\xff\xff\xff\x7f."])
def test_a_pickle_of_a_few_bytes_takes_no_memory(data, tmp_path):
    """It may ask to remember value two billion, or promise as many bytes: room was made for them."""
    (tmp_path / "x.pkl").write_bytes(data)
    assert "not a whole pickle" in refusal(load_plain, tmp_path / "x.pkl")


# ----------------------------------------------------------------------------------- circuits, artifacts, checkpoints

CIRCUIT = to_exchange(ExchangedCircuit(2, 2, 8, (Component(0, 0), Component(1)), {}, frozenset()))
sizes = st.sampled_from(
    [10**12, 10**400, float("inf"), float("nan"), -1, "9" * 4000, "2", True, None, [], {"in_graph": 1}]
)
names = st.sampled_from(
    ["a9999999999.h1", "m" + "9" * 5000, "a٣.h0", "m²", "input->zz", "x->y", "a0.h0->a1.h0", "\ud800"]
)


@examples(150)
@given(place=st.sampled_from(places(CIRCUIT)[:24]), value=st.one_of(sizes, names, any_json), how=how)
def test_a_circuit_of_any_kind(place, value, how):
    """Sizes without end, infinite scores, names that are none: no list of all components is made for them."""
    refusal(from_exchange, replaced(CIRCUIT, place, value, how), "circuit.json")


PROVENANCE = Provenance("s/1", "stage@x", {"a": 1}, {"in.txt": "abc"}, "cpu", "float32")


@examples(150)
@given(place=st.sampled_from(places({"provenance": asdict(PROVENANCE), "rows": [1]})), value=any_json, how=how)
def test_a_json_artifact_of_any_kind(place, value, how, tmp_path_factory):
    """Read as an artifact, as its provenance, and as plain JSON."""
    path = tmp_path_factory.getbasetemp() / "a.json"
    content = replaced({"provenance": asdict(PROVENANCE), "rows": [1]}, place, value, how)
    path.write_text(json.dumps(content))
    for read in (lambda: read_json(path, "s/1"), lambda: read_provenance(path), lambda: read_plain_json(path)):
        refusal(read)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"provenance": {"schema": "s/1"}, "n": ' + "1" * 5000 + "}", "", "\xff"]
)
def test_json_that_cannot_be_read_is_named(text, tmp_path):
    """Nested too deep, a number of thousands of digits, nothing, another encoding."""
    path = tmp_path / "a.json"
    path.write_bytes(text.encode("latin-1"))
    for read in (lambda: read_json(path, "s/1"), lambda: read_provenance(path), lambda: read_plain_json(path)):
        assert refusal(read).startswith(f"{path}: ")


def write_artifact(path, attribute=None, z=None) -> None:
    """Write an HDF5 artifact whose provenance, or whose dataset z, is another thing."""
    with write_hdf5(path, PROVENANCE) as file:
        file.put("names", ["L0H0"], ("component",))
        file.put("z", np.arange(300.0), ("prompt",))
    with h5py.File(path, "r+") as file:
        if attribute is not None:
            file.attrs["provenance"] = attribute
        if z is not None:
            del file["z"]
            z(file)


@pytest.mark.parametrize(
    "attribute",
    [
        3,
        np.arange(3),
        "[1]",
        "{}",
        '"x"',
        "{",
        np.bytes_(b"\xff"),
        h5py.Empty("f"),
        np.void(b"x"),
        "1" * 5000,
        "[" * 9000,
    ],
    ids=range(11),
)
def test_provenance_of_any_kind(attribute, tmp_path):
    """It may be a number, an array, nothing, no JSON, or JSON of another form."""
    write_artifact(tmp_path / "a.h5", attribute)
    assert "no artifact of this project" in refusal(read_arrays, tmp_path / "a.h5", "s/1", ["z"])
    refusal(read_provenance, tmp_path / "a.h5")


DATASETS = {
    "nothing": lambda _: None,
    "a group": lambda file: file.create_group("z"),
    "a link to nothing": lambda file: file.__setitem__("z", h5py.SoftLink("/nowhere")),
    "a link to itself": lambda file: file.__setitem__("z", h5py.SoftLink("/z")),
    "a link to a missing file": lambda file: file.__setitem__("z", h5py.ExternalLink("none.h5", "/z")),
    "a link to another file": lambda file: file.__setitem__("z", h5py.ExternalLink("other.h5", "/z")),
    "bytes of another file": lambda file: file.create_dataset("z", (1,), "f8", external=[("/etc/passwd", 0, 8)]),
    "a type": lambda file: file.__setitem__("z", np.dtype("f8")),
    "references": lambda file: file.create_dataset("z", (3,), h5py.ref_dtype),
    "ragged rows": lambda file: file.create_dataset("z", (3,), h5py.vlen_dtype(np.int32)),
    "no text": lambda file: file.create_dataset("z", data=[b"\xff\xfe"], dtype=h5py.string_dtype()),
}


@pytest.mark.parametrize("z", DATASETS.values(), ids=DATASETS)
def test_a_dataset_is_in_its_file_or_refused(z, tmp_path):
    """HDF5 can point to any file of the machine and show its bytes as numbers: what we read, we have written."""
    write_artifact(tmp_path / "other.h5")
    write_artifact(tmp_path / "a.h5", z=z)
    assert refusal(read_arrays, tmp_path / "a.h5", "s/1", ["names", "z"]).startswith(f"{tmp_path / 'a.h5'}: z is ")


@examples(40)
@given(length=st.integers(0, 4000))
def test_an_hdf5_artifact_cut_short(length, tmp_path_factory):
    """It is read whole, or named. Flipped bytes can hang HDF5 itself: digests are compared before a file is opened."""
    path = tmp_path_factory.getbasetemp() / "a.h5"
    write_artifact(path)
    path.write_bytes(path.read_bytes()[:length])
    for read in (lambda: read_arrays(path, "s/1", ["names", "z"]), lambda: read_provenance(path)):
        refusal(read)


def test_an_array_larger_than_memory_is_one_line(tmp_path, monkeypatch, capsys):
    """A file of a few kilobytes may declare terabytes."""
    write_artifact(tmp_path / "a.h5", z=lambda file: file.create_dataset("z", (10**7, 10**7), "f8", chunks=(1, 1000)))
    monkeypatch.setattr(cli, "run_stage", lambda *_: read_arrays(tmp_path / "a.h5", "s/1", ["z"]))
    assert cli.main(["run", "x"]) == 2
    assert capsys.readouterr().err.startswith("distilled-circuits: x: not enough memory (Unable to allocate")


def header(content: bytes, length: int | None = None) -> bytes:
    """Return a safetensors file without weights that says how long its header is."""
    return struct.pack("<Q", len(content) if length is None else length) + content


@pytest.mark.parametrize(
    "data",
    [
        b"ab", header(b"{}", 2**64 - 1), header(b"[" * 50_000), header(b"[]"), header(b'{"a": {}}'),
        header(b'{"a": 1}'),
        header(b'{"a": {"dtype": "F32", "shape": ["x", 2], "data_offsets": [0, 8]}}'),
        header(b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": ["x", null]}}'),
    ],
    ids=range(8),
)  # fmt: skip
def test_weights_of_any_kind(data, tmp_path):
    """Headers that are none, without end, or of other types: as a model of ours, and as one brought in."""
    (tmp_path / "model.safetensors").write_bytes(data)
    assert refusal(check_weights, tmp_path).startswith(f"{tmp_path / 'model.safetensors'}: ")
    refusal(count_parameters, tmp_path)


@pytest.mark.parametrize("shard", ["../secret.safetensors", "/etc/passwd", "", 3, None, ["x"], "a\0b"])
def test_an_index_names_files_of_its_folder_alone(shard, tmp_path):
    """Shards elsewhere are missing, whether or not they exist."""
    (tmp_path / "secret.safetensors").write_bytes(header(b"{}"))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": shard}}))
    assert "missing, though model.safetensors.index.json names it" in refusal(check_weights, folder)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Return a small checkpoint as anybody would save it."""
    folder = tmp_path_factory.mktemp("checkpoint") / "model"
    tokenizer = byte_level_tokenizer(["a b c"], 300)
    write_checkpoint(folder, random_model("gpt2", vocabulary=len(tokenizer)), tokenizer)
    return folder


def altered(checkpoint, name, **changes) -> Path:
    """Change a JSON file of a checkpoint."""
    content = json.loads((checkpoint / name).read_text())
    (checkpoint / name).write_text(json.dumps(content | changes))
    return checkpoint


def test_code_that_a_checkpoint_brings_is_not_run(checkpoint, monkeypatch):
    """Nobody is asked whether it may be, for `yes | snakemake` would answer; pickled weights run nothing either."""
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    ran = checkpoint.parent / "ran"
    (checkpoint / "evil.py").write_text(f"open({str(ran)!r}, 'w')\nclass C: pass\n")
    brought = {"AutoConfig": "evil.C", "AutoTokenizer": ["evil.C", None]}
    saved = {name: (checkpoint / name).read_text() for name in ("config.json", "tokenizer_config.json")}
    altered(checkpoint, "config.json", model_type="unheard_of", auto_map=brought)
    altered(checkpoint, "tokenizer_config.json", tokenizer_class="Unheard", auto_map=brought)
    assert "contains custom code" in refusal(load_config, checkpoint)
    refusal(load_tokenizer, checkpoint)
    for name, text in saved.items():
        (checkpoint / name).write_text(text)
    weights = (checkpoint / "model.safetensors").read_bytes()
    (checkpoint / "model.safetensors").unlink()
    monkeypatch.chdir(checkpoint.parent)
    torch.save({"x": Malicious()}, checkpoint / "pytorch_model.bin")
    assert "no loadable checkpoint" in refusal(load_model, checkpoint, torch.device("cpu"))
    (checkpoint / "pytorch_model.bin").unlink()
    (checkpoint / "model.safetensors").write_bytes(weights)
    assert [path.name for path in checkpoint.parent.iterdir()] == ["model"]


def test_a_chat_template_names_no_file(checkpoint):
    """Templates are saved under their names; nothing here chats, so there are none."""
    templates = [{"name": "../../../escaped", "template": "x"}, {"name": "default", "template": "y"}]
    tokenizer = load_tokenizer(altered(checkpoint, "tokenizer_config.json", chat_template=templates))
    tokenizer.save_pretrained(checkpoint.parent / "saved")
    names = {path.name for path in (checkpoint.parent / "saved").rglob("*")}
    assert names == {"tokenizer.json", "tokenizer_config.json"}


@examples(40)
@given(key=st.sampled_from(["model_type", "n_layer", "n_head", "vocab_size", "auto_map", "dtype"]), value=any_json)
def test_a_configuration_of_any_kind(key, value, checkpoint):
    """Transformers fails in many ways on one that is not as it should be; each is one line."""
    saved = (checkpoint / "config.json").read_text()
    refusal(load_config, altered(checkpoint, "config.json", **{key: value}))
    (checkpoint / "config.json").write_text(saved)


def test_a_token_is_no_formula():
    """GPT-2 has a token of two dollars, which ended the report."""
    labels = token_labels([{"tokens": ["$$", "Ġ$", "a"], "positions": {}}])
    figure = new_figure(2, 1)
    figure.subplots().set_xticks(range(3), labels=labels)
    assert to_png(figure)
    assert labels == [r"\$\$", r"Ġ\$", "a"]


# --------------------------------------------------------------------------------------------------- the command line

WORDS_OF_IT = [
    "diff",
    "run",
    "why",
    "audit",
    "prompts",
    "code",
    "pair=mini",
    "task=ioi",
    "=",
    "a=b=c",
    "--help",
    "-h",
    "--",
    "-x",
    "\0",
]


@examples(100)
@given(arguments=st.lists(st.one_of(st.sampled_from(WORDS_OF_IT), texts), max_size=5))
def test_arguments_of_any_kind(arguments, project, monkeypatch, capsys):
    """A status, or argparse's own exit; no stage is run here."""
    (project / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    monkeypatch.chdir(project)
    stage = SimpleNamespace(run=lambda _: None)
    monkeypatch.setattr(running, "importlib", SimpleNamespace(import_module=lambda _: stage))
    monkeypatch.setattr(running, "signal", SimpleNamespace(signal=lambda *_: None, SIGTERM=15))
    for name in (*running.THREAD_VARIABLES, "HF_HUB_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "1")
    try:
        status = cli.main(arguments)
    except SystemExit as end:
        status = end.code
    said = capsys.readouterr().err
    assert status in (0, 1, 2)
    assert status != 2 or said.count("\n") == 1 or said.startswith("usage: ")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (FileNotFoundError(2, "x", "a\nb"), "x: a b: No such file or directory: mend that and run again"),
        (OSError(36, "x", "results/a"), "x: results/a: File name too long: give it a shorter name"),
        (UserError("a\x1b[2J\nb" + "c" * 10_000 + "the end"), "a\\x1b[2J bccc"),
    ],
)
def test_what_the_system_refuses_is_one_line(error, said, monkeypatch, capsys):
    """With the path and what to do; escapes of a terminal are printed as such."""

    def fail(*_):
        raise error

    monkeypatch.setattr(cli, "run_stage", fail)
    assert cli.main(["run", "x"]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"distilled-circuits: {said}") and printed.count("\n") == 1 and len(printed) < MOST + 30


@pytest.mark.parametrize("error", [OSError("Unable to open"), KeyError("x"), RuntimeError("x"), RecursionError()])
def test_a_bug_stays_a_traceback(error, monkeypatch):
    """What is nobody's mistake is for us to see whole."""

    def fail(*_):
        raise error

    monkeypatch.setattr(cli, "run_stage", fail)
    with pytest.raises(type(error)):
        cli.main(["run", "x"])
