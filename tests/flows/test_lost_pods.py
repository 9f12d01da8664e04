"""A trial whose pod the cluster took away: invalid as the machine's fault, whichever arm it was."""

from __future__ import annotations

from checks.validity import COUNTED_REPEATS, is_spoilt
from flows.bench import Bench
from flows.measure import DEATHS, POD_LOST, _find_the_dead, without_counted
from redline.errors import DeployError, ExitCode, PodLostError, ServerDiedError
from redline.model import Arm, Endpoint
from tests.checks.test_validity import CLEAN, read
from tests.store.trial_examples import make_trial


def test_no_window_of_a_trial_whose_pod_was_lost_counts():
    """So no rule of requests is read from it, and it is spoilt; what was dropped before keeps its own reason."""
    lost = tuple(without_counted(CLEAN))
    assert [each.drop_reason for each in lost] == ["warm-up", POD_LOST, POD_LOST]
    assert [each.records for each in lost] == [each.records for each in CLEAN]
    readings = read(lost)
    assert not readings[COUNTED_REPEATS].ok
    assert is_spoilt(make_trial(repeats=lost, validity=tuple(readings.values())))


def test_a_lost_pod_ends_a_trial_and_is_evidence_of_nothing():
    """It is a death of a server, and its exit code says invalid, whether one pod served or several."""
    assert issubclass(PodLostError, DEATHS)
    assert PodLostError.exit_code is ExitCode.INVALID


class Taken:
    """A deployment that says what became of it."""

    def __init__(self, error: DeployError):
        self.error = error

    def check_alive(self) -> None:
        """Raises it."""
        raise self.error


def test_what_the_cluster_says_of_a_pod_is_why_its_server_went_silent():
    """That nobody answers any more is noticed first; a server that died by itself keeps its own words."""
    silent, lost, ended = ServerDiedError("silent"), PodLostError("taken away"), ServerDiedError("it ended")
    trial, endpoint = make_trial(), Endpoint("http://127.0.0.1:1", "m", "1", None, 1.0, "")
    for said, death in ((lost, lost), (ended, silent)):
        bench = Bench(Arm.CANDIDATE, trial.sut, endpoint, Taken(said), trial.fingerprint, death=silent)
        _find_the_dead([bench])
        assert bench.death is death
