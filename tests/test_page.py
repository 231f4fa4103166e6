"""How the report writes numbers."""

import pytest

from distilled_circuits.report.page import number, percent, probability


@pytest.mark.parametrize(
    ("value", "digits", "text"), [(None, 2, "–"), (-0.126, 2, "−0.13"), (-0.001, 2, "0.00"), (12.0, 0, "12")]
)
def test_numbers_have_a_real_minus_sign_and_zero_has_none(value, digits, text):
    """A dash stands for what was not measured."""
    assert number(value, digits) == text


def test_shares_are_percentages():
    """One digit after the point."""
    assert percent(0.1234) == "12.3\N{NO-BREAK SPACE}%"


@pytest.mark.parametrize(("p", "text"), [(0.0, "<0.001"), (0.0004, "<0.001"), (0.0005, "0.001"), (0.0386, "0.039")])
def test_no_p_value_is_zero(p, text):
    """What rounding would make zero is below the smallest number that is shown."""
    assert probability(p) == text
