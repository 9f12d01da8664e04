"""Fields of a row that somebody else wrote: of the right type, of a sane size, and fit to be sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from redline.errors import ContentError

TEXT_CHARS_MAX = 4_000_000
KEY_CHARS_MAX = 200
TOKEN_ID_MAX = 2**31 - 1
SHOWN_CHARS = 80


def shown(value: object) -> str:
    """A value as a message shows it: one line of at most 80 characters, whatever it holds."""
    text = repr(value[: 2 * SHOWN_CHARS] if isinstance(value, str | bytes | list) else value)
    printable = text.encode("ascii", "backslashreplace").decode("ascii")
    return printable if len(printable) <= SHOWN_CHARS else f"{printable[:SHOWN_CHARS]}..."


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a file: where it stands, for messages, and what it says. `number` counts from 1."""

    file_name: str
    number: int
    values: Mapping[str, object]

    def wrong(self, what: str, expected: str, found: object) -> ContentError:
        """The error that names this row. `found` is shown shortened."""
        return ContentError(
            f"{self.file_name}, row {self.number}: {what}",
            expected=expected,
            found=shown(found),
            next_step="give the unchanged file, or mend this row",
        )

    def has(self, name: str) -> bool:
        """True if the row has a value of that name; null is none."""
        return self.values.get(name) is not None

    def name_of(self, *names: str) -> str:
        """The first of the names that the row has. Raises ContentError if it has none of them."""
        for name in names:
            if self.has(name):
                return name
        raise ContentError(
            f"{self.file_name}, row {self.number}: nothing under {' or '.join(map(repr, names))}",
            expected=f"a value named {' or '.join(names)}",
            found=f"columns {', '.join(sorted(map(str, self.values)))[:400] or '(none)'}",
            next_step="give the file whose columns docs/datasets.md names for this data set",
        )

    def text(self, *names: str, empty: bool = True, chars_max: int = TEXT_CHARS_MAX) -> str:
        """The text under the first of the names that the row has, exactly as it stands there.

        Raises ContentError if it is missing, no text, too long, or holds half a surrogate pair, which no request can
        carry; also if it is blank and `empty` is False.
        """
        name = self.name_of(*names)
        value = self.values[name]
        if not isinstance(value, str):
            raise self.wrong(f"'{name}' is no text", "a text", value)
        if len(value) > chars_max:
            raise self.wrong(f"'{name}' is too long", f"at most {chars_max} characters", f"{len(value)} characters")
        if not empty and not value.strip():
            raise self.wrong(f"'{name}' is empty", "a text", value)
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise self.wrong(f"'{name}' holds half a surrogate pair", "text that UTF-8 can carry", value)
        return value

    def key(self, name: str, default: str) -> str:
        """The row's own name under `name`, number or text; `default` if it has none. Raises ContentError."""
        if not self.has(name):
            return default
        value = self.values[name]
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        text = self.text(name, empty=False, chars_max=KEY_CHARS_MAX)
        if not text.isprintable():
            raise self.wrong(f"'{name}' holds control characters", "a printable name", value)
        return text

    def truth(self, name: str) -> bool:
        """True or False under `name`. Raises ContentError."""
        value = self.values[self.name_of(name)]
        if not isinstance(value, bool):
            raise self.wrong(f"'{name}' is neither true nor false", "true or false", value)
        return value

    def texts(self, name: str) -> list[str]:
        """The texts of a list under `name`, at least one. Raises ContentError."""
        value = self.values[self.name_of(name)]
        if not isinstance(value, list) or not value or not all(isinstance(each, str) for each in value):
            raise self.wrong(f"'{name}' is no list of texts", "a list of at least one text", value)
        return [Row(self.file_name, self.number, {name: each}).text(name) for each in value]

    def token_ids(self, name: str) -> tuple[int, ...]:
        """The token ids under `name`, at least one. Raises ContentError."""
        value = self.values[self.name_of(name)]
        if not isinstance(value, list) or not value:
            raise self.wrong(f"'{name}' holds no token ids", "a list of at least one token id", value)
        for position, token_id in enumerate(value):
            if type(token_id) is not int or not 0 <= token_id <= TOKEN_ID_MAX:
                raise self.wrong(f"'{name}' holds something else at {position}", "token ids from 0 on", token_id)
        return tuple(value)


def refuse_duplicates(keys: Sequence[str], source: str) -> None:
    """Raises ContentError for the first key that two rows have: answers are paired by it."""
    first: dict[str, int] = {}
    for number, key in enumerate(keys, start=1):
        if key in first:
            raise ContentError(
                f"{source}: two items are named {shown(key)}",
                expected="a name of its own for each item",
                found=f"items {first[key]} and {number}",
                next_step="give the unchanged file; names pair the answers of two builds",
            )
        first[key] = number
