"""The part of another tool's JSON that Redline reads, checked for type before anything is made of it."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias, TypeVar

from pydantic import AllowInfNan, Field, Strict, TypeAdapter, ValidationError

from redline.errors import ContentError

SHAPE: dict[str, Any] = {"extra": "ignore"}
"""For `__pydantic_config__`: keys that Redline does not read may be there."""

# Nothing is converted: a text is no number and true is no 1. An integer is a float. No NaN, no infinity.
Whole: TypeAlias = Annotated[int, Strict(), Field(ge=0, le=2**53)]
Real: TypeAlias = Annotated[float, Strict(), AllowInfNan(False)]  # noqa: FBT003 - pydantic's own argument
Text: TypeAlias = Annotated[str, Strict()]

T = TypeVar("T")


def shaped(adapter: TypeAdapter[T], raw: object, what: str) -> T:
    """`raw` as the adapter's type. Raises ContentError that names the key, what it should be and what it is."""
    try:
        return adapter.validate_python(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "the whole"
        missing = first["type"] == "missing"
        raise ContentError(
            f"not {what}: {key}",
            expected="this key" if missing else first["msg"],
            found="no such key" if missing else repr(first["input"])[:200],
        ) from error
