"""A tokenizer of the `tokenizers` library, as the model's own tokenizer.json describes it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from redline.datasets.sources import sha256_of
from redline.errors import ContentError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FILE_NAME = "tokenizer.json"


class PromptTokenizer:
    """Text to token ids, as `AutoTokenizer.encode` of the same file does it, begin tokens included.

    Whatever truncation or padding the file asks for is off: the data set's definition decides that.
    """

    def __init__(self, tokenizer: Tokenizer, sha256: str) -> None:
        self._tokenizer = tokenizer
        self.sha256 = sha256

    def encode(self, text: str, tokens_max: int = 0) -> tuple[int, ...]:
        """The token ids; above 0, only the first `tokens_max` of them (truncation on the right, as GPT-J's is)."""
        if tokens_max:
            self._tokenizer.enable_truncation(tokens_max)
        else:
            self._tokenizer.no_truncation()
        return tuple(self._tokenizer.encode(text).ids)

    def token_of(self, token_id: int) -> str | None:
        """The token that an id stands for, None if there is none."""
        found: str | None = self._tokenizer.id_to_token(token_id)
        return found


def read_tokenizer(path: Path) -> PromptTokenizer:
    """The tokenizer of a tokenizer.json file, or of the folder that holds one. Raises ContentError."""
    from tokenizers import Tokenizer  # noqa: PLC0415 - only data sets of text need it

    file = path / FILE_NAME if path.is_dir() else path
    sha256 = sha256_of(file)
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises Exception itself
        raise ContentError(
            f"{file}: not a tokenizer",
            expected="a tokenizer.json of the tokenizers library",
            found=str(error)[:200],
            next_step="name the model's folder, or its tokenizer.json, after --tokenizer",
        ) from error
    tokenizer.no_padding()
    return PromptTokenizer(tokenizer, sha256)
