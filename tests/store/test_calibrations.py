"""Calibrations: written whole, read back the same, refused when damaged or another machine's."""

from __future__ import annotations

import json
import os
import stat

import pytest

from redline.errors import StoreError
from redline.model import Calibration, CalibrationRung, StampSource
from redline.store.calibrations import read_calibration, write_calibration

CALIBRATION = Calibration(
    "0123456789abcdef",
    "2026-11-21T10:00:00+00:00",
    StampSource.KERNEL,
    (CalibrationRung(50.0, 32, True, 1e-5, 1e-4, 2e-5, 3e-4, 1e-6, 2e-5, 0.05),),
)


def test_a_calibration_is_read_back_as_it_was_written(tmp_path):
    """Every figure, the kind of stamps and the rungs; the last one written counts."""
    path = write_calibration(tmp_path / "new", CALIBRATION)
    assert read_calibration(path.parent, CALIBRATION.fingerprint_id) == CALIBRATION
    assert [each.name for each in path.parent.iterdir()] == ["0123456789abcdef.json"]
    assert read_calibration(tmp_path, "another") is None


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"rungs": []}', '{"rungs": [{"rate": 1}]}'])
def test_a_damaged_file_says_what_to_do(tmp_path, damage):
    """Not a stack trace, and not a machine that silently counts as uncalibrated."""
    path = write_calibration(tmp_path, CALIBRATION)
    path.write_text(damage)
    with pytest.raises(StoreError, match="cannot be read") as caught:
        read_calibration(tmp_path, CALIBRATION.fingerprint_id)
    assert "redline calibrate" in caught.value.next_step


def test_a_file_of_another_machine_is_refused(tmp_path):
    """Copied beside the trials of another machine, it would lend it errors that nobody measured there."""
    path = write_calibration(tmp_path, CALIBRATION)
    other = tmp_path / "feedfeedfeedfeed.json"
    other.write_text(json.dumps(json.loads(path.read_text())))
    with pytest.raises(StoreError, match="another machine"):
        read_calibration(tmp_path, "feedfeedfeedfeed")


def test_a_folder_that_is_shared_can_be_read_by_all_who_share_it(tmp_path):
    """Records of the store are no secrets: who may read them is up to the writer's umask."""
    before = os.umask(0o022)
    try:
        path = write_calibration(tmp_path / "shared", CALIBRATION)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755
