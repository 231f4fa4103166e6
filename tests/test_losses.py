"""CKA and the rival losses of a pair of heads have the properties that the specification demands, and known values."""

import math

import pytest
import torch

from distilled_circuits.distillation.cka import (
    biased_cka,
    chance_cka,
    debiased_cka,
)
from distilled_circuits.distillation.losses import (
    attention_divergence,
    degenerate_pairs,
    mean_over_pairs,
    pair_losses,
    projection_maps,
    unexplained_share,
)


def gaussian(rows: int, width: int, seed: int, batch: int = 1) -> torch.Tensor:
    """Return independent standard normal activations (batch, rows, width)."""
    return torch.randn(batch, rows, width, generator=torch.Generator().manual_seed(seed))


def slow_unbiased_hsic(x: torch.Tensor, y: torch.Tensor) -> float:
    """Return HSIC_u as Song et al. print it, in double, with a zero diagonal put in by hand."""
    m = len(x)
    k, gram = (side.double() @ side.double().T for side in (x, y))
    k.fill_diagonal_(0)
    gram.fill_diagonal_(0)
    ones = torch.ones(m, dtype=torch.double)
    trace = torch.trace(k @ gram)
    totals = (ones @ k @ ones) * (ones @ gram @ ones) / ((m - 1) * (m - 2))
    return float((trace + totals - 2 / (m - 2) * ones @ k @ gram @ ones) / (m * (m - 3)))


def test_cka_is_one_for_equal_geometry():
    """Rotation, scale and shift of the columns change nothing; a general linear map does."""
    x = gaussian(32, 6, 0)
    rotation = torch.linalg.qr(gaussian(6, 6, 1)[0])[0]
    for measure in (biased_cka, debiased_cka):
        assert measure(x, x).item() == pytest.approx(1, abs=1e-5)
        assert measure(x, 3 * x @ rotation + 5).item() == pytest.approx(1, abs=1e-4)
        assert measure(x, x @ torch.diag(torch.tensor([9.0, 1, 1, 1, 1, 0.1]))).item() < 0.95


def test_cka_is_the_formula_of_the_paper():
    """tr(KHLH) over the root of tr(KHKH) tr(LHLH), with Gram matrices and the centring matrix written out."""
    x, y = gaussian(9, 4, 0)[0], gaussian(9, 5, 1)[0]
    k, gram, h = x @ x.T, y @ y.T, torch.eye(9) - 1 / 9
    expected = torch.trace(k @ h @ gram @ h) / torch.sqrt(torch.trace(k @ h @ k @ h) * torch.trace(gram @ h @ gram @ h))
    assert biased_cka(x, y).item() == pytest.approx(expected.item(), abs=1e-5)


@pytest.mark.parametrize("rows", [4, 5, 11])
def test_debiased_cka_is_the_estimator_of_song(rows):
    """The ratio of printed estimators, far from the origin too; fewer rows than four have none."""
    x = gaussian(rows, 3, 0)[0]
    y = x @ gaussian(3, 6, 2)[0] + gaussian(rows, 6, 1)[0]
    expected = slow_unbiased_hsic(x, y) / math.sqrt(slow_unbiased_hsic(x, x) * slow_unbiased_hsic(y, y))
    assert debiased_cka(x, y).item() == pytest.approx(expected, abs=1e-5)
    assert debiased_cka(x + 50, y - 80).item() == pytest.approx(expected, abs=1e-3)
    with pytest.raises(ValueError, match="at least 4 rows, not 3"):
        debiased_cka(x[:3], y[:3])


@pytest.mark.parametrize(("rows", "p", "q"), [(16, 16, 16), (32, 16, 8), (64, 32, 32)])
def test_biased_cka_of_noise_is_high_and_debiased_is_zero(rows, p, q):
    """Chance is sqrt(pq / ((m+p)(m+q))) for the biased estimator and 0 for the debiased one."""
    x, y = gaussian(rows, p, 0, batch=200), gaussian(rows, q, 1, batch=200)
    assert biased_cka(x, y).mean().item() == pytest.approx(chance_cka(p, q, rows), abs=0.02)
    assert debiased_cka(x, y).mean().item() == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize(
    ("p", "q", "rows", "printed"), [(16, 16, 64, 0.20), (64, 128, 128, 0.41), (128, 128, 32, 0.80)]
)
def test_chance_values_on_record(p, q, rows, printed):
    """Chance levels of the table in the specification, for tiny heads and for those of Llama."""
    assert chance_cka(p, q, rows) == pytest.approx(printed, abs=0.005)


@pytest.mark.parametrize("alignment", ["cka", "cka_debiased"])
def test_cka_of_a_constant_head_is_zero_with_a_finite_gradient(alignment):
    """A head that always says the same has no geometry; training goes on."""
    x = torch.ones(1, 8, 3, requires_grad=True)
    value = pair_losses(alignment, x, gaussian(8, 3, 0))
    value.sum().backward()
    assert value.item() == 1
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize(("alignment", "measure"), [("cka", biased_cka), ("cka_debiased", debiased_cka)])
def test_cka_losses_are_one_minus_cka(alignment, measure):
    """Equation 6, per pair."""
    x, y = gaussian(12, 4, 0, batch=3), gaussian(12, 6, 1, batch=3)
    assert torch.allclose(pair_losses(alignment, x, y), 1 - measure(x, y))


def test_projection_loss_is_the_share_of_variance_that_a_map_leaves():
    """0 for the right map whatever the scale and shift, 1 for a map to nothing, and as a loop over rows says."""
    x, right = gaussian(20, 3, 0, batch=2), gaussian(3, 5, 1, batch=2)
    y = x @ right
    x_size, y_size = ((side - side.mean(1, keepdim=True)).square().mean((1, 2)).sqrt() for side in (x, y))
    exact = right * (x_size / y_size)[:, None, None]
    assert unexplained_share(7 * x + 2, 0.1 * y - 1, exact).tolist() == pytest.approx([0, 0], abs=1e-6)
    assert unexplained_share(x, y, 0 * right).tolist() == pytest.approx([1, 1], abs=1e-5)
    maps = projection_maps(2, 3, 5, seed=4)
    assert torch.equal(maps, projection_maps(2, 3, 5, seed=4))
    expected = 0.0
    for row in range(20):
        own = (x[1, row] - x[1].mean(0)) / x_size[1]
        expected += ((own @ maps[1] - (y[1, row] - y[1].mean(0)) / y_size[1]) ** 2).mean().item() / 20
    assert pair_losses("projection", x, y, maps)[1].item() == pytest.approx(expected, abs=1e-5)


def test_attention_loss_is_the_divergence_from_the_teacher():
    """0 for equal patterns; KL by hand; finite, with its gradient, where the student does not look at all."""
    teacher = torch.tensor([[[0.5, 0.5, 0.0], [0.25, 0.75, 0.0]]])
    student = torch.tensor([[[0.25, 0.5, 0.25], [0.25, 0.75, 0.0]]])
    assert attention_divergence(teacher, teacher).item() == pytest.approx(0, abs=1e-6)
    assert pair_losses("attention_kl", student, teacher).item() == pytest.approx(0.5 * math.log(2) / 2)
    scores = torch.tensor([[[0.0, 300.0, 0.0]]], requires_grad=True)
    loss = attention_divergence(scores.softmax(-1), teacher[:, :1])
    loss.sum().backward()
    assert loss.item() > 10
    assert torch.isfinite(scores.grad).all()


def test_constant_heads_are_skipped_and_the_rest_weighed():
    """A22: a pair with a constant side is found, and left out of the mean; weights need not sum to one."""
    x, y = gaussian(10, 3, 0, batch=4), gaussian(10, 3, 1, batch=4)
    x[1] = x[1, :1]
    y[3] = 1e-8 * y[3]
    skipped = degenerate_pairs(x, y)
    assert skipped.tolist() == [False, True, False, True]
    values = torch.tensor([1.0, 50.0, 4.0, 50.0])
    assert mean_over_pairs(values).item() == pytest.approx(105 / 4)
    assert mean_over_pairs(values, skipped=skipped).item() == pytest.approx(2.5)
    assert mean_over_pairs(values, torch.tensor([2.0, 5.0, 1.0, 5.0]), skipped).item() == pytest.approx(2)
    assert mean_over_pairs(values, skipped=torch.ones(4, dtype=torch.bool)).item() == 0
    assert degenerate_pairs(torch.ones(2, 5, 3), y[:2, :5]).all()
