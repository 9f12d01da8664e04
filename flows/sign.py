"""`redline sign`: a person puts their name under a sign-off that says yes, and it goes where it is reviewed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flows.workspace import Workspace, content_root
from redline.content import read_json
from redline.errors import StoreError, UsageError
from redline.model import Finding
from redline.whole_file import write_whole
from reports.data import ReportKind
from reports.markdown import text

SIGNABLE = (Finding.NO_WORSE.value, Finding.IMPROVED.value)
_UNSAFE = re.compile(r"[^A-Za-z0-9.+-]+")
_CANDIDATE_CHARS_MAX = 100


def sign(state_dir: Path, run_id: str, who: str, note: str) -> Iterator[str]:
    """Lines that say what was done: the report with the signature under it, in the content's reports/published/.

    Raises:
        UsageError: nobody signs, there is no such sign-off, its answer is not yes, or it is signed already.
        StoreError: the report cannot be read, or the disk refuses.
    """
    if not who.strip():
        raise UsageError(
            "a signature needs a name", expected="who signs", found=repr(who), next_step="say it: --by NAME"
        )
    workspace = Workspace(content_root(), state_dir)
    record_path = _record_path(workspace, run_id)
    record = read_json(record_path)
    _require_yes(record, record_path)
    page = _page(record_path.with_suffix(".md"))
    candidate = _UNSAFE.sub("-", str(record.get("candidate", "")))[:_CANDIDATE_CHARS_MAX]
    target = workspace.root / "reports" / "published" / f"{candidate}-{record_path.stem}.md"
    if target.exists():
        raise _signed_already(target)
    _write_new(target, page + "\n" + _signature(page, who, note))
    yield f"wrote {target}"
    yield "review the page and commit it: what is published is what somebody answers for"


def _record_path(workspace: Workspace, run_id: str) -> Path:
    """The JSON beside the report of a sign-off. Raises UsageError."""
    reports = workspace.report_path("x").parent
    known = [path for path in sorted(reports.glob("*.json")) if _is_signoff(path)]
    chosen = known[-1:] if run_id == "latest" else [path for path in known if path.stem == run_id]
    if not chosen:
        raise UsageError(
            f"no sign-off '{run_id}'",
            expected=f"'latest' or one of: {', '.join(path.stem for path in known[-5:]) or '(there are none)'}",
            found=f"'{run_id}'",
            next_step="measure one: redline signoff --candidate BUILD --release BUILD",
        )
    return chosen[0]


def _page(path: Path) -> str:
    """The report as it was written. Raises StoreError."""
    try:
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(
            f"{path} cannot be read",
            expected="the sign-off's report",
            found=str(error),
            next_step="what is signed is the report: sign off again",
        ) from error


def _write_new(target: Path, signed: str) -> None:
    """Write a page whole or not at all, and never over another. Raises UsageError if there is one, StoreError."""
    try:
        write_whole(target, signed, replace=False)
    except FileExistsError as error:
        raise _signed_already(target) from error
    except OSError as error:
        raise StoreError(
            f"{target} could not be written",
            expected="a folder for signed pages",
            found=str(error),
            next_step="make room for it, and sign again",
        ) from error


def _signed_already(target: Path) -> UsageError:
    return UsageError(
        f"{target} is signed already",
        expected="a sign-off without a signature",
        found=str(target),
        next_step="a second opinion is a second sign-off: redline signoff",
    )


def _is_signoff(path: Path) -> bool:
    return (
        not path.name.endswith((".rate.json", ".data.json")) and read_json(path).get("kind") == ReportKind.SIGNOFF.value
    )


def says_yes(record: Mapping[str, Any]) -> bool:
    """True if the JSON beside a sign-off's report says that it may be released."""
    return record.get("finding") in SIGNABLE and record.get("exit_code") == 0


def _require_yes(record: dict[str, Any], path: Path) -> None:
    if not says_yes(record):
        raise UsageError(
            "this sign-off does not say yes: nobody can sign it",
            expected=f"a finding of {' or '.join(SIGNABLE)}",
            found=f"{record.get('finding')}: {record.get('reason')}",
            next_step=f"read {path.with_suffix('.md')}",
        )


def _signature(page: str, who: str, note: str) -> str:
    """What stands under the page and an empty line: who, when, and the digest of what they signed."""
    signed_at = datetime.now(UTC).isoformat(timespec="seconds")
    sha256 = hashlib.sha256(page.encode()).hexdigest()
    lines = ["## Signed", "", f"By {text(who)}, {signed_at}.", ""]
    lines += [text(note), ""] if note.strip() else []
    return "\n".join([*lines, f"SHA-256 of the report above, up to its last line: `{sha256}`", ""])
