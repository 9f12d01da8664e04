"""A state of our own taken whole: its trials by one rename, where there are none yet.

A record grows by every night, and to try out, copy and sync each of its trials again takes most of a tenth of a second
a trial. Each was tried out when it came; what is checked here is that its files are still those. The database is made
anew from them: one that came along could say anything.
"""

from __future__ import annotations

import os
from pathlib import Path

from redline.errors import StoreError
from redline.store.merge import TRIALS
from redline.store.taking import SMALL_BYTES_MAX, Fate, Item, check_pin
from redline.store.trials import PINS, check_files, list_trials, sync_directory
from redline.store.untrusted_file import names_in, read_bounded


def adopt_trials(folder: Path, state_dir: Path) -> tuple[Item, ...]:
    """The pins and trials of `folder`, moved into a state directory that has none.

    None, and nothing is moved, if there are trials here already, or if one of those, or its pin, is not as it was
    written: then `merge_folder` takes what can be taken and names the rest. Call it with `merge_lock` held, for a
    folder that nobody else could have written.
    """
    source, target = folder / TRIALS, state_dir / TRIALS
    try:
        if list_trials(target) or names_in(target / PINS) or not list_trials(source):
            return ()
        pins = names_in(source / PINS)
        for name in pins:
            check_pin(read_bounded(source / PINS / name, SMALL_BYTES_MAX), name.removesuffix(".json"))
        trials = list_trials(source)
        for trial in trials:
            check_files(trial)
        if {each.name for each in source.iterdir()} != {PINS, *(trial.name for trial in trials)}:
            return ()
        os.sync()  # they were unpacked a moment ago: a power cut must not leave names without content
        if target.exists():
            target.rmdir()
        source.rename(target)
        sync_directory(state_dir)
    except (StoreError, OSError):
        return ()
    return (
        *(Item("pin", name, Fate.TAKEN) for name in pins),
        *(Item("trial", trial.name, Fate.TAKEN) for trial in trials),
    )
