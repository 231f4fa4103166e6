"""What a value in params.yaml may be: numbers with a range, lists without repetition, sections without unknown keys."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Count = Annotated[int, Field(ge=1, description="a whole number of at least 1")]
Index = Annotated[int, Field(ge=0, description="a whole number of at least 0")]
AtLeastTwo = Annotated[int, Field(ge=2, description="a whole number of at least 2")]
AtLeastEight = Annotated[int, Field(ge=8, description="a whole number of at least 8")]
AtLeastTen = Annotated[int, Field(ge=10, description="a whole number of at least 10")]
Positive = Annotated[float, Field(gt=0, description="a number above 0")]
NotNegative = Annotated[float, Field(ge=0, description="a number of at least 0")]
Share = Annotated[float, Field(gt=0, lt=1, description="a number between 0 and 1, both excluded")]
Portion = Annotated[float, Field(gt=0, le=1, description="a number above 0 and up to 1")]
TaskName = Literal["numerals", "words", "ioi", "facts"]


def _all_different(values: Any) -> Any:
    if isinstance(values, list) and len({str(value) for value in values}) < len(values):
        raise ValueError("lists a value twice")
    return values


Distinct = BeforeValidator(_all_different)


class Section(BaseModel):
    """A part of params.yaml: frozen, no unknown keys, no silent conversion of types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
