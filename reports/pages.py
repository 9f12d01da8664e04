"""The answer of every runner class to one question, for the places where GitHub shows it: one rendering for all.

`summary_page` and `comment_page` differ in their limit and in the comment's marker; a check run shows the same top and
the same whole reports in its two fields. The functions are pure: equal answers give equal pages, so that a page which
did not change need not be sent again.
"""

from __future__ import annotations

import re

from reports.answer_layout import PAGE_BYTES_MIN, page
from reports.answer_words import joint
from reports.check_page import check_page, conclusion, step_annotations
from reports.data import PublishedAnswer
from reports.report import COMMENT_CHARS_MAX, LIMIT_MIN, SUMMARY_BYTES_MAX

__all__ = ["check_page", "comment_page", "conclusion", "joint", "step_annotations", "summary_page"]

_MARKER = re.compile(r"<!--[^<>\r\n]*[^<>\r\n-]-->")
_MARKER_BYTES_MAX = LIMIT_MIN - PAGE_BYTES_MIN - 1


def summary_page(answer: PublishedAnswer, limit_bytes: int = SUMMARY_BYTES_MAX) -> str:
    """The page of a job summary: a step's is limited in bytes, and refused whole if it is larger.

    Raises ValueError for a limit below 10,000.
    """
    _require_limit(limit_bytes)
    return page(answer, limit_bytes)


def comment_page(answer: PublishedAnswer, marker: str, limit_chars: int = COMMENT_CHARS_MAX) -> str:
    """The body of a pull request's comment: the marker (an HTML comment), by which it is found again, then the page.

    The limit is held in bytes of UTF-8, the stricter count. Raises ValueError for a limit below 10,000, and for a
    marker that is no HTML comment of one line and at most 499 bytes.
    """
    _require_limit(limit_chars)
    if not _MARKER.fullmatch(marker) or len(marker.encode()) > _MARKER_BYTES_MAX:
        raise ValueError(f"marker must be an HTML comment on one line, found {marker!r}")
    return f"{marker}\n{page(answer, limit_chars - len(marker.encode()) - 1)}"


def _require_limit(limit: int) -> None:
    if limit < LIMIT_MIN:
        raise ValueError(f"the limit of a page must be at least {LIMIT_MIN} bytes, found {limit}")
