"""A validation problem of pydantic in our words: the key, what was found, what is allowed."""

from __future__ import annotations

from types import NoneType
from typing import Any, get_args, get_origin

from pydantic import BaseModel, Tag

from distilled_circuits.messages import shown


def explain(problem: Any, root: type[BaseModel]) -> str:
    """Say one validation problem in our words: key, what was found, what is allowed."""
    key = ".".join(str(part) for part in place_of(problem))
    found = problem["input"]
    if problem["type"] == "extra_forbidden":
        above, unknown = place_of({"loc": problem["loc"][:-1]}), str(problem["loc"][-1])
        named = ".".join(map(str, (*above, unknown if unknown.isidentifier() else shown(unknown))))
        return f"{named}: unknown key, allowed: {', '.join(_fields_at(root, problem['loc'][:-1]))}"
    if problem["type"] == "missing":
        return f"{key}: missing; `git diff params.yaml` shows what was there"
    if problem["type"] == "value_error":
        said = str(problem["ctx"]["error"])
        return f"{key}: {said}" if key else said
    allowed = _description_at(root, problem["loc"]) or problem["msg"].removeprefix("Input should be ")
    if problem["type"] == "model_type":
        allowed = f"keys with values: {', '.join(_fields_at(root, problem['loc']))}"
    hint = " (YAML reads 1e-3 as text: write 0.001 or 1.0e-3)" if isinstance(found, str) and _is_number(found) else ""
    return f"{key}: found {shown(found)}, allowed: {allowed}{hint}"


def place_of(problem: Any) -> tuple[int | str, ...]:
    """Return where a problem is, without the kinds of value that pydantic tried there, such as `constrained-int`."""
    return tuple(part for part in problem["loc"] if isinstance(part, int) or part.isidentifier())


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _annotation_at(root: type[BaseModel], loc: tuple[int | str, ...]) -> tuple[Any, str | None]:
    """Follow a location into the models; return the annotation there and its description, if it has one."""
    annotation: Any = root
    description: str | None = None
    for part in loc:
        of_a_dict = get_origin(annotation) is dict
        if isinstance(part, str) and not part.isidentifier() and not of_a_dict:
            # The kind of value that pydantic tried: one of several sections by its tag, or of no interest.
            annotation = _tagged(annotation).get(part, annotation)
        elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
            field = annotation.model_fields.get(str(part))
            if field is None:
                return None, None
            annotation, description = field.annotation, field.description
        else:
            arguments = [each for each in get_args(annotation) if each is not NoneType]
            inner = arguments[-1] if arguments else None
            metadata = getattr(inner, "__metadata__", ())
            description = next((m.description for m in metadata if getattr(m, "description", None)), None)
            annotation = get_args(inner)[0] if metadata else inner
        if NoneType in get_args(annotation):
            annotation = get_args(annotation)[0]  # of a section that may be left out
    return annotation, description


def _tagged(annotation: Any) -> dict[str, Any]:
    """Return the sections that may stand at one place, by the tag of each."""
    members = [(get_args(member)[:1], getattr(member, "__metadata__", ())) for member in get_args(annotation)]
    return {tag.tag: section[0] for section, tags in members for tag in tags if isinstance(tag, Tag)}


def _description_at(root: type[BaseModel], loc: tuple[int | str, ...]) -> str | None:
    return _annotation_at(root, loc)[1]


def _fields_at(root: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    annotation = _annotation_at(root, loc)[0]
    return list(getattr(annotation, "model_fields", ()))
