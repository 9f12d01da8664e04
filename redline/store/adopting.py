"""A state of our own taken whole: its trials and its database by one rename each, where there are none yet.

A record grows by every night, and to verify, copy and insert each of its trials again takes a tenth of a second a
trial. Each trial was verified so when it came; what is checked here is that its files are still those.
"""

from __future__ import annotations

import os
from pathlib import Path

from redline.errors import StoreError
from redline.store.database import digests_in
from redline.store.merge import DATABASE, TRIALS
from redline.store.taking import SMALL_BYTES_MAX, Fate, Item, check_pin
from redline.store.trials import PINS, check_files, list_trials, sync_directory
from redline.store.untrusted_file import names_in, read_bounded


def adopt_trials(folder: Path, state_dir: Path) -> tuple[Item, ...]:
    """The pins and trials of `folder`, moved into a state directory that has none, and the database made of them.

    None, and nothing is moved, if there are trials here already or one of those is not as it was written: then
    `merge_folder` takes what can be taken and names the rest. The database is left if it is of another version, or
    holds a trial that is not there. Call it with `merge_lock` held, for a folder that nobody else could have written.
    """
    source, target = folder / TRIALS, state_dir / TRIALS
    if list_trials(target) or names_in(target / PINS) or not list_trials(source):
        return ()
    try:
        pins = names_in(source / PINS)
        for name in pins:
            check_pin(read_bounded(source / PINS / name, SMALL_BYTES_MAX), name.removesuffix(".json"))
        digests = {path.name: check_files(path) for path in list_trials(source)}
        known = {PINS, *digests}
        if any(each.name not in known for each in source.iterdir()):
            return ()
        held = digests_in(folder / DATABASE)
        os.sync()  # they were unpacked a moment ago, and a merge would have written each for good
        if target.exists():
            target.rmdir()
        source.rename(target)
    except (StoreError, OSError):
        return ()
    if held is not None and held.items() <= digests.items() and not (state_dir / DATABASE).exists():
        (folder / DATABASE).rename(state_dir / DATABASE)
    sync_directory(state_dir)
    return (
        *(Item("pin", name, Fate.TAKEN) for name in pins),
        *(Item("trial", name, Fate.TAKEN) for name in digests),
    )
