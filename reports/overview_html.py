"""The page over all runner classes of a night as one HTML file: no scripts, nothing from outside, light and dark.

What outsiders wrote goes through `one_line` (control and direction-changing characters) and Jinja's escaping. A
content security policy in the page forbids scripts and every request; its style sheet is named by its digest.
"""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from redline.markdown import one_line
from reports import overview_words as words
from reports.overview_data import Overview
from reports.trend_plot import plot

PLOTS_MAX = 200
"""About 12 KB a plot of 60 nights."""

_TEMPLATES = Path(__file__).parent / "templates"
_WORDS_CHARS_MAX = 600


def html(overview: Overview) -> str:
    """The whole page: what the Markdown page says, every series in its tables, and a plot of each, findings first."""
    trends = words.trends_in_order(overview)
    plotted = trends[:PLOTS_MAX]
    style = (_TEMPLATES / "overview.css").read_text(encoding="utf-8")
    standing, gone = words.standing_and_gone(overview)
    return (
        _environment()
        .get_template("overview.html.j2")
        .render(
            overview=overview,
            words=words,
            standing=standing[: words.CAUSES_MAX],
            standing_count=len(standing),
            gone=gone[: words.GONE_MAX],
            runner_classes=tuple(dict.fromkeys(trend.runner_class for trend in trends)),
            trends=trends,
            plots=[(trend, plot(trend, f"plot-{number}")) for number, trend in enumerate(plotted)],
            style=style,
            policy=policy(style),
        )
    )


def policy(style: str) -> str:
    """The content security policy of a page with this style sheet: nothing is loaded, run, framed or sent.

    Source: W3C Content Security Policy Level 3, hash sources of inline style sheets.
    """
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


@lru_cache(maxsize=1)
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_TEMPLATES, encoding="utf-8"),
        undefined=StrictUndefined,
        autoescape=True,
        finalize=_printed,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _printed(value: Any) -> Any:
    """What a template prints: an outside string on one line, without what is not seen; our own markup as it is."""
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return one_line(value, _WORDS_CHARS_MAX)
