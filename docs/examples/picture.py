"""A picture of a page as people see it on GitHub: Markdown or HTML, in a real browser.

    python docs/examples/picture.py docs/examples/gate/regressed.comment.md regressed.png --assets node_modules

Needs Chromium, and a folder with the npm packages `github-markdown-css` and `mermaid` (`npm install
github-markdown-css mermaid`): GitHub's own style sheet, and the library that it draws charts with. Neither is needed
to use Redline. markdown-it renders GitHub's tables; what GitHub does besides (mentions, links to issues) is not shown.
"""

from __future__ import annotations

import argparse
import html
import subprocess
import tempfile
from pathlib import Path

from markdown_it import MarkdownIt

PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><style>{style}</style><style>
body {{ margin: 0; background: #fff }} .markdown-body {{ max-width: 1012px; padding: 32px; margin: auto }}
</style></head><body><article class="markdown-body">{body}</article>{charts}</body></html>"""
CHARTS = (
    "<script>{library}</script><script>mermaid.initialize({{startOnLoad: false, theme: 'default'}});"
    "mermaid.run({{querySelector: 'pre.mermaid'}});</script>"
)


def page_of(markdown: str, assets: Path) -> str:
    """A self-contained HTML page of GitHub Markdown."""
    renderer = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    plain = renderer.renderer.rules["fence"]

    def fence(tokens: list, index: int, *rest: object) -> str:
        token = tokens[index]
        if token.info.strip() == "mermaid":
            return f'<pre class="mermaid">{html.escape(token.content)}</pre>'
        return plain(tokens, index, *rest)

    renderer.renderer.rules["fence"] = fence
    body = renderer.render(markdown)
    style = (assets / "github-markdown-css" / "github-markdown-light.css").read_text()
    library = (assets / "mermaid" / "dist" / "mermaid.min.js").read_text() if 'class="mermaid"' in body else ""
    return PAGE.format(style=style, body=body, charts=CHARTS.format(library=library) if library else "")


def picture(source: Path, target: Path, assets: Path, browser: str, width: int, height: int, *, opened: bool) -> None:
    """Write a PNG of the upper `height` pixels of a page; `opened`: with every folded part open."""
    content = source.read_text()
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        shown = content if source.suffix == ".html" else page_of(content, assets)
        page.write_text(shown.replace("<details>", "<details open>") if opened else shown)
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"]
        command += ["--disable-background-networking", "--disable-component-update", "--hide-scrollbars"]
        command += [f"--user-data-dir={folder}/profile", f"--window-size={width},{height}"]
        command += ["--virtual-time-budget=5000", f"--screenshot={target.resolve()}", page.as_uri()]
        subprocess.run(command, check=True, timeout=120, capture_output=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--assets", type=Path, default=Path("node_modules"))
    parser.add_argument("--browser", default="chromium")
    parser.add_argument("--width", type=int, default=1080)
    parser.add_argument("--height", type=int, default=1400)
    parser.add_argument("--opened", action="store_true")
    given = parser.parse_args()
    picture(given.source, given.target, given.assets, given.browser, given.width, given.height, opened=given.opened)


if __name__ == "__main__":
    main()
