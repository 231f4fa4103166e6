"""Artifacts describe themselves, come out the same twice, and are whole or not there."""

import json
import shutil

import numpy as np
import pytest

from distilled_circuits.artifacts import (
    Provenance,
    check_space,
    digest,
    library_versions,
    open_hdf5,
    read_arrays,
    read_json,
    read_provenance,
    replacing,
    write_hdf5,
    write_json,
    write_text,
)
from distilled_circuits.errors import UserError


@pytest.fixture
def provenance() -> Provenance:
    """What an artifact of the tests says of itself."""
    return Provenance(
        schema="influence/1",
        stage="influence@mini-ioi",
        params={"influence": {"batch_size": 4}},
        inputs={"in.txt": "abc"},
        device="cpu",
        dtype="float32",
        seeds={"bootstrap": 1},
        libraries=library_versions(),
    )


def write_example(path, provenance):
    """Write an HDF5 artifact with numbers, strings and a streamed dataset."""
    with write_hdf5(path, provenance) as file:
        file.put("teacher/components", ["L0H0", "MLP0"], ("component",))
        file.put("teacher/unablated", np.arange(3.0), ("prompt",))
        rows = file.create("z", (4, 2), ("prompt", "d_head"))
        rows[:2] = 1
        rows[2:] = 2


def test_hdf5_round_trip_with_named_dimensions(tmp_path, provenance):
    """Arrays, strings, dimension names and provenance come back."""
    write_example(tmp_path / "a.h5", provenance)
    names, values, z = read_arrays(tmp_path / "a.h5", "influence/1", ["teacher/components", "teacher/unablated", "z"])
    assert list(names) == ["L0H0", "MLP0"]
    assert values.tolist() == [0, 1, 2]
    assert z[:, 0].tolist() == [1, 1, 2, 2]
    with open_hdf5(tmp_path / "a.h5", "influence/1") as file:
        assert [axis.label for axis in file["z"].dims] == ["prompt", "d_head"]
    said = read_provenance(tmp_path / "a.h5")
    assert said["stage"] == "influence@mini-ioi"
    assert said["params"] == {"influence": {"batch_size": 4}}
    assert said["libraries"]["h5py"]


def test_same_content_gives_the_same_bytes(tmp_path, provenance):
    """HDF5 and JSON written twice are equal files: nothing of time or host is inside."""
    for name in ("a", "b"):
        write_example(tmp_path / f"{name}.h5", provenance)
        write_json(tmp_path / f"{name}.json", provenance, {"value": [1.5, 2]})
    assert digest(tmp_path / "a.h5") == digest(tmp_path / "b.h5")
    assert digest(tmp_path / "a.json") == digest(tmp_path / "b.json")


def test_a_failed_write_leaves_what_was_there(tmp_path, provenance):
    """An error while writing leaves the old artifact and nothing half-written beside it."""
    path = tmp_path / "a.h5"
    write_example(path, provenance)
    before = path.read_bytes()
    with pytest.raises(RuntimeError, match="in the middle"), write_hdf5(path, provenance):
        raise RuntimeError("in the middle")
    with pytest.raises(RuntimeError, match="in the middle"), replacing(tmp_path / "folder") as folder:
        folder.mkdir()
        raise RuntimeError("in the middle")
    assert path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]


def test_a_directory_is_replaced_whole(tmp_path):
    """A model directory that is written again has none of the old files."""
    for content in ("old", "new"):
        with replacing(tmp_path / "model") as folder:
            folder.mkdir()
            write_text(folder / f"{content}.txt", content)
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["new.txt"]


def test_readers_name_what_is_wrong(tmp_path, provenance):
    """Missing, cut short, foreign and of another schema: each is one line with the file and a remedy."""
    path = tmp_path / "a.h5"
    with pytest.raises(UserError, match=r"a\.h5: no such artifact; `snakemake` makes it"):
        read_arrays(path, "influence/1", ["z"])
    write_example(path, provenance)
    with pytest.raises(UserError, match=r"its schema is influence/1, this version reads mlps/1"):
        read_arrays(path, "mlps/1", ["z"])
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(UserError, match="not readable as HDF5"):
        read_arrays(path, "influence/1", ["z"])
    (tmp_path / "b.json").write_text('{"a": 1}')
    with pytest.raises(UserError, match="no artifact of this project"):
        read_json(tmp_path / "b.json", "prompts/2")


def test_results_that_are_no_numbers_are_refused(tmp_path, provenance):
    """NaN and infinity never reach a JSON artifact."""
    with pytest.raises(UserError, match="not a finite number"):
        write_json(tmp_path / "a.json", provenance, {"value": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_too_little_space_stops_before_writing(tmp_path, monkeypatch):
    """The size is said first; a disk that has less ends the stage with numbers and a remedy."""
    said = []
    check_space(tmp_path, 1_000_000, "activations", said.append)
    assert said[0].startswith("activations: 1 MB to write, ")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_050_000))
    with pytest.raises(UserError, match=r"needs 1 MB and as much again for DVC's cache, but the disk has 1 MB free"):
        check_space(tmp_path, 1_000_000, "activations", said.append)


def test_provenance_stands_first_in_json(tmp_path, provenance):
    """A person who opens the file sees at once what it is."""
    write_json(tmp_path / "a.json", provenance, {"value": 1})
    assert list(json.loads((tmp_path / "a.json").read_text())) == ["provenance", "value"]
