"""The HTML page: well-formed, without scripts or requests, readable by everybody, and hostile strings are only text."""

from __future__ import annotations

import base64
import hashlib
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from reports.overview_html import PLOTS_MAX, html
from reports.trend_plot import drawn_earlier, plot
from tests.reports.hostile import HOSTILE
from tests.reports.overview_situations import (
    LINK,
    NIGHT,
    SITUATIONS,
    filled,
    points,
    quiet_trend,
    regressed,
    regressed_trend,
)


class Outline(HTMLParser):
    """The start tags of a page in order, with their attributes, as a browser's tokenizer reads them."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note it."""
        self.tags.append((tag, dict(attrs)))


def outline(page: str) -> list[tuple[str, dict[str, str | None]]]:
    """What a browser finds in the page."""
    parser = Outline()
    parser.feed(page)
    return parser.tags


def tree(page: str) -> ET.Element:
    """The page as XML: a stricter parser than a browser's."""
    return ET.fromstring(page.replace("<!DOCTYPE html>", "", 1))  # noqa: S314 - our own page


@pytest.mark.parametrize("situation", SITUATIONS)
def test_pages_are_well_formed(situation: str) -> None:
    """An XML parser reads every page, and no two elements share an id."""
    page = html(SITUATIONS[situation]())
    assert page.startswith("<!DOCTYPE html>\n")
    ids = [each.get("id") for each in tree(page).iter() if each.get("id")]
    assert len(ids) == len(set(ids))


def test_nothing_runs_and_nothing_is_fetched():
    """No script, frame, picture, form or handler; the only addresses are links that people follow."""
    for page in (html(regressed()), html(filled(lambda _: HOSTILE))):
        tags = outline(page)
        assert not {"script", "iframe", "img", "link", "form", "object", "embed", "base", "image", "use"} & {
            tag for tag, _ in tags
        }
        for tag, attributes in tags:
            assert not any(name.startswith("on") or name in {"src", "style", "action"} for name in attributes)
            assert "href" not in attributes or (tag, attributes["href"]) == ("a", LINK)
        assert not re.search(r"url\(|@import", page)


def test_the_policy_forbids_scripts_and_knows_the_style_sheet():
    """The digest in the policy is that of the style sheet as it stands in the page."""
    page = html(regressed())
    (found,) = (each["content"] or "" for tag, each in outline(page) if each.get("http-equiv"))
    style = re.search(r"<style>(.*?)</style>", page, flags=re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert found == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def test_outside_strings_change_nothing_but_text():
    """A page full of attacks has the elements and attributes of a harmless one, and no hidden characters."""
    page, harmless = html(filled(lambda _: HOSTILE)), html(filled(lambda field: f"harmless {field}"))
    assert [(tag, sorted(attributes)) for tag, attributes in outline(page)] == [
        (tag, sorted(attributes)) for tag, attributes in outline(harmless)
    ]
    assert "alert(1)" in "".join(tree(page).itertext())
    assert not re.search("[\x00-\x08\x0b-\x1f\u200b-\u200f\u202a-\u202e\u2066-\u2069]", page)


def test_everybody_can_read_it():
    """A language, a title, a viewport; a heading first; header cells; every plot has a title and a description."""
    page = html(regressed())
    root = tree(page)
    assert root.get("lang") == "en"
    assert root.findtext("head/title") == f"Redline nightly of {NIGHT}: regressed"
    assert "width=device-width" in page and "prefers-color-scheme: dark" in page
    main = root.find("body/main")
    assert main is not None and next(iter(main)).tag == "h1"
    assert all(each.get("scope") in {"col", "row"} for each in root.iter("th"))
    plots = list(root.iter("svg"))
    assert len(plots) == len(regressed().trends)
    for each in plots:
        named = [root.find(f".//*[@id='{name}']") for name in (each.get("aria-labelledby") or "").split()]
        assert each.get("role") == "img" and len(named) == 2 and all(part.text for part in named)


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb. Source: WCAG 2.2."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_words_and_lines_are_seen_on_light_and_dark():
    """WCAG 2.2 AA: 4.5 to 1 for words, 3 to 1 for what a plot draws, on both grounds."""
    page = html(regressed())
    palettes = [dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block)) for block in page.split("@media (prefers", 1)]
    for palette in palettes:
        for name, least in {
            "words": 4.5,
            "quiet": 4.5,
            "link": 4.5,
            "bad": 4.5,
            "reading": 3,
            "level": 3,
            "old": 3,
        }.items():
            bright, dark = sorted((luminance(palette[name]), luminance(palette["ground"])), reverse=True)
            assert (bright + 0.05) / (dark + 0.05) >= least, name


def test_many_series_are_bounded_and_the_page_says_so():
    """Every series stands in a table; the first have a plot."""
    trends = tuple(quiet_trend("cpu", f"scenario-{number}", "ttft_s_p99", 0.1, 60) for number in range(PLOTS_MAX + 5))
    page = html(replace(regressed(), trends=trends))
    assert page.count("<svg") == PLOTS_MAX
    assert page.count('class="spark"') == len(trends)
    assert f"{PLOTS_MAX} of {len(trends)} series" in page
    assert len(page.encode()) < 8_000_000


# --- plots ------------------------------------------------------------------------------------------------------------


def test_a_plot_marks_findings_levels_and_builds():
    """A ringed cross where something was found, a line where the level changed, the build of every point."""
    drawn = plot(regressed_trend(), "p")
    root = ET.fromstring(drawn)  # noqa: S314 - our own
    assert len(root.findall(".//g[@class='found']")) == 1
    assert len(root.findall(".//g[@class='change']")) == 1
    assert drawn.count("vllm 0.33.1.dev40") == 27 and drawn.count("vllm 0.33.1.dev52") == 3
    assert "regression +5.0 %" in drawn
    assert "V" in (root.find("path[@class='level']").get("d") or "")


def test_nights_stand_at_their_dates():
    """A gap of nine days is nine times as wide as a day."""
    two = (points(1, 100.0, last="2026-11-01")[0], points(1, 100.0, last="2026-11-02")[0])
    trend = replace(quiet_trend("cpu", "s", "ttft_s_p99", 0.1), points=(*two, points(1, 100.0, last="2026-11-11")[0]))
    at = [float(x) for x in re.findall(r'<circle class="point" cx="([\d.]+)"', plot(trend, "p"))]
    assert at[2] - at[1] == pytest.approx(9 * (at[1] - at[0]), abs=0.5)


def test_one_night_is_a_plot_too():
    """A single reading stands in the middle, without a line."""
    drawn = plot(quiet_trend("cpu", "s", "ttft_s_p99", 0.1, count=1), "p")
    assert drawn.count('class="point"') == 1 and "polyline" not in drawn
    ET.fromstring(drawn)  # noqa: S314 - our own


def test_earlier_readings_of_another_size_are_not_drawn():
    """They may not be compared, and would make the readings that count a flat line."""
    trend = regressed_trend()
    assert drawn_earlier(trend) == trend.earlier
    assert "not comparable" in plot(trend, "p")
    far = replace(trend, earlier=points(5, 45_000.0, last="2026-10-01"))
    assert drawn_earlier(far) == ()
    assert "not comparable" not in plot(far, "p")
