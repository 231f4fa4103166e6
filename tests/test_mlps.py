"""Similarities of MLPs do not depend on signs, order or basis where they should not; groups and gaps by hand."""

import numpy as np
import pytest
from scipy.linalg import subspace_angles
from scipy.stats import ortho_group

from distilled_circuits.comparison.mlp_pairs import dropped, first_token_gap, merged, output_cka
from distilled_circuits.comparison.mlp_summary import mlp_summary
from distilled_circuits.comparison.mlps import direction_similarity, subspace_overlap

PAIRS = np.array([[0.7, 0.1], [0.8, 0.2], [0.1, 0.3], [0.2, 0.9]])


@pytest.fixture
def rng():
    """A generator."""
    return np.random.default_rng(3)


def directions(rng: np.random.Generator, mlps: int) -> np.ndarray:
    """Return orthonormal directions (mlp, 3, 11)."""
    return np.stack([ortho_group.rvs(11, random_state=rng)[:3] for _ in range(mlps)])


def test_overlap_is_that_of_principal_angles(rng):
    """The mean squared cosine of the angles that scipy finds, for every pair."""
    teacher, student = directions(rng, 4), directions(rng, 2)
    found = subspace_overlap(teacher, student)
    for one in range(4):
        for other in range(2):
            angles = subspace_angles(teacher[one].T, student[other].T)
            assert found[one, other] == pytest.approx(np.square(np.cos(angles)).mean())


def test_overlap_is_free_of_sign_order_and_basis(rng):
    """Turned inside its subspace, a model's directions overlap as before; the printed similarity does not bear that."""
    teacher, student = directions(rng, 1), directions(rng, 1)
    turned = ortho_group.rvs(3, random_state=rng) @ teacher
    assert subspace_overlap(turned, student) == pytest.approx(subspace_overlap(teacher, student))
    assert subspace_overlap(turned, teacher)[0, 0] == pytest.approx(1)
    assert direction_similarity(-teacher, teacher)[0, 0] == pytest.approx(1)
    assert direction_similarity(turned, teacher)[0, 0] < 0.95


def test_random_subspaces_overlap_by_their_share_of_the_space(rng):
    """K of d dimensions: k / d on average."""
    found = subspace_overlap(directions(rng, 30), directions(rng, 30))
    assert found.mean() == pytest.approx(3 / 11, abs=0.02)


def test_cka_compares_models_of_different_width(rng):
    """A rotation and padding of the same outputs has CKA 1; independent outputs have hardly any."""
    outputs = rng.normal(size=(200, 3, 5)).astype(np.float32)
    wider = np.concatenate([outputs @ ortho_group.rvs(5, random_state=rng), np.zeros((200, 3, 2))], -1)
    assert output_cka(outputs, wider.astype(np.float32)) == pytest.approx(1, abs=1e-6)
    assert output_cka(outputs, rng.normal(size=(200, 3, 9))) < 0.05


def test_first_token_gap_by_hand():
    """Opposite at the first of three tokens, alike and orthogonal at the others: 0.5 on average, minus -1."""
    teacher = np.array([[[1.0, 0], [1, 0], [1, 0]]] * 2)
    student = np.array([[[-1.0, 0], [3, 0], [0, 2]]] * 2)
    assert first_token_gap(teacher, student, np.array([[0.5, 0.5], [1, 0]])).tolist() == [1.5, 1.5]


def test_merged_and_dropped_by_hand():
    """Two teacher MLPs share the first student MLP, one has the second to itself, one is like none."""
    assert merged(PAIRS, 0.6) == {0: [0, 1]}
    assert dropped(PAIRS, 0.6) == [2]
    assert merged(PAIRS, 0.95) == {}
    assert dropped(PAIRS, 0.95) == [0, 1, 2, 3]


def artifact(**changes) -> dict:
    """Return arrays as the stage writes them, of a teacher with 4 MLPs, a student with 2, and three prompts."""
    found = {
        "measure": np.array(["directions"]),
        "same_tokens": np.True_,
        "similarity": PAIRS,
        "overlap": PAIRS / 2,
        "cka": PAIRS / 3,
        "token_cosine": np.stack([PAIRS - 0.1, PAIRS, PAIRS], axis=-1),
        "first_token_gap": np.full((4, 5), 0.1),
        "groups/full": np.array([4.0, 4, 4.4]),
        "groups/alone": np.array([[3.0, 3, 3.3], [2, 2, 2.2], [4, 4, 4.4], [1, 1, 1.1]]),
        "groups/name": np.array(["partners of S-MLP0", "without a partner"]),
        "groups/members": np.array(["MLP0 MLP1", "MLP2"]),
        "groups/together": np.array([[0.0, 0, 0], [4, 4, 4.4]]),
    }
    for model in ("teacher", "student"):
        for token in ("answer", "distractor"):
            found[f"{model}/logit_lens/{token}_probability"] = np.array([[0.0, 1], [0.5, 1]])
            found[f"{model}/logit_lens/{token}_rank"] = np.array([[4, 0], [2, 0]])
    return found | changes


def test_groups_say_what_they_cost_beyond_their_members(rng):
    """Alone 25 and 50 %, together all: 25 points beyond the sum."""
    summary = mlp_summary(artifact(), 0.6, 50, rng)
    group = summary["groups"][0]
    assert [row["value"] for row in group["members"]] == pytest.approx([25, 50])
    assert group["together"]["value"] == pytest.approx(100)
    assert group["beyond_the_sum"]["value"] == pytest.approx(25)
    assert summary["groups"][1]["together"]["value"] == pytest.approx(0)
    assert summary["similar_pairs"] == 3
    assert summary["pairs"][1] | {"first_token_gap": None} == {
        "teacher": "MLP1", "student": "MLP0", "similarity": 0.8, "cka": pytest.approx(0.8 / 3), "overlap": 0.4,
        "first_token_cosine": pytest.approx(0.7), "other_tokens_cosine": pytest.approx(0.8), "first_token_gap": None,
    }  # fmt: skip
    assert summary["attribution"] == {"teacher": None, "student": None}
    assert summary["logit_lens"]["teacher"]["answer"] == {"probability": [0.25, 1], "median_rank": [3, 0]}


def test_models_of_different_width_are_compared_by_cka_alone(rng):
    """The artifact says which measure pairs MLPs, and what does not exist is not there."""
    only_cka = {
        key: value
        for key, value in artifact(measure=np.array(["cka"])).items()
        if "token_" not in key and "groups" not in key
    }
    del only_cka["overlap"]
    summary = mlp_summary(only_cka, 0.6, 50, rng)
    assert summary["measure"] == "cka"
    assert "overlap" not in summary["pairs"][0]
    assert summary["groups"] is None
    assert "first_token_gap" not in summary["pairs"][0]


def test_no_percentages_of_nothing(rng):
    """A logit difference near zero has no shares: groups are left out."""
    assert mlp_summary(artifact(**{"groups/full": np.array([0.1, -0.1, 0])}), 0.6, 50, rng)["groups"] is None
