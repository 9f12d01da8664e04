"""LibriSpeech dev-clean and dev-other, repacked to at most 30 s: MLPerf's set for Whisper.

Source: mlcommons/inference, speech2text: manifest.py, QSL.py (30 s, English) and utils/repackage_librispeech.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from redline.datasets.audio_file import form_of
from redline.datasets.fields import Row, shown
from redline.datasets.reading import Read, Reading
from redline.datasets.rows import rows_of
from redline.datasets.sources import bytes_of, files_of
from redline.errors import ContentError
from redline.model import AudioPrompt, Item

PATTERNS = ("dev-all-repack.json", "data/dev-all-repack.json", "*.json")
DURATION_S_MAX = 30.0
DURATION_S_TOLERANCE = 0.05
AUDIO_BYTES_MAX = 16_000_000
NAMED_MAX = 20


@dataclass(frozen=True, slots=True)
class Utterance:
    """A row of the manifest with the audio file that it names, None if there is no such file."""

    row: Row
    file_name: str
    path: Path | None


def read(_reading: Reading, source: Path) -> Read:
    """The audio files as uploads, the transcripts as references.

    `source`: the manifest, or its folder; audio is looked for there, under the name that the manifest gives it or under
    the end of that name. Raises ContentError: every missing file is named, or the first row that is wrong.
    """
    paths = files_of(source, PATTERNS)
    if len(paths) > 1:
        raise ContentError(
            f"{source}: more than one manifest",
            expected="dev-all-repack.json",
            found=", ".join(path.name for path in paths)[:300],
            next_step="name the manifest itself after --from",
        )
    folder = paths[0].parent
    utterances = [_utterance(row, folder) for row in rows_of(paths[0])]
    _refuse_missing(utterances, folder)
    found = [(each, each.path) for each in utterances if each.path is not None]
    items = tuple(_item(each, path) for each, path in found)
    return Read(items, (*paths, *(path for _, path in found)))


def _utterance(row: Row, folder: Path) -> Utterance:
    files = row.values[row.name_of("files")]
    if not isinstance(files, list) or not files or not isinstance(files[0], dict):
        raise row.wrong("'files' names no audio", 'a list of objects with "fname"', files)
    file_name = Row(row.file_name, row.number, files[0]).text("fname", empty=False, chars_max=1000)
    return Utterance(row, file_name, _located(row, file_name, folder))


def _located(row: Row, file_name: str, folder: Path) -> Path | None:
    """Where the audio lies under the manifest's folder; None if nowhere. Nothing outside of it is ever opened.

    MLPerf's scripts write the path that the data had on the machine that made it: its end is what counts.
    """
    parts = PurePosixPath(file_name).parts
    if ".." in parts or "\0" in file_name:
        raise row.wrong("'fname' leads out of its folder", "a name below the manifest's folder", file_name)
    below = [part for part in parts if part != "/"]
    candidates = (folder.joinpath(*below[start:]) for start in range(len(below)))
    return next((path for path in candidates if _is_file(path)), None)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that no file system takes
        return False


def _refuse_missing(utterances: Sequence[Utterance], folder: Path) -> None:
    missing = [each.file_name for each in utterances if each.path is None]
    if missing:
        more = f", and {len(missing) - NAMED_MAX} more" if len(missing) > NAMED_MAX else ""
        raise ContentError(
            f"{len(missing)} of {len(utterances)} audio files are missing",
            expected=f"the files that the manifest names, under {folder}",
            found=f"no {', '.join(shown(name)[1:-1] for name in missing[:NAMED_MAX])}{more}",
            next_step="unpack the whole archive beside the manifest",
        )


def _item(utterance: Utterance, path: Path) -> Item:
    row = utterance.row
    transcript = row.text("transcript", empty=False)
    try:
        content = bytes_of(path, AUDIO_BYTES_MAX)
        form = form_of(content)
    except OSError as error:
        raise row.wrong(f"{path.name} cannot be read", "a readable file", str(error)) from error
    except ValueError as error:
        raise row.wrong(f"{path.name} is no speech", "a whole, short WAV (PCM) or FLAC file", str(error)) from error
    if form.duration_s > DURATION_S_MAX:
        raise row.wrong(f"{path.name} is too long", f"at most {DURATION_S_MAX:g} s", f"{form.duration_s:.2f} s")
    stated = row.values.get("original_duration")
    if isinstance(stated, int | float) and abs(stated - form.duration_s) > DURATION_S_TOLERANCE:
        raise row.wrong(f"{path.name} is another recording", f"{stated:.2f} s of audio", f"{form.duration_s:.2f} s")
    return Item(path.stem, AudioPrompt(content, path.name, form.media_type), transcript)
