"""What every deployer keeps: one suite in two classes, run for each deployer in its own settings.

`Kept` holds for all of them; `Started` adds what holds for servers that the deployer starts, and so has to end. A
setting knows how to order a server that behaves in a mode of tests/fakes/stand_in_vllm.py, how to kill one replica from
outside, how something else than the pinned build comes to be served, and what is there. The tests themselves know
nothing of processes, containers or clusters.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from checks.validity import _right_build
from redline.deploy.choice import DEPLOYERS
from redline.deploy.deployer import Deployer, Deployment, Order
from redline.errors import DeployError, ReplicaDiedError, ServerNotReadyError
from redline.load.client import LoadPlan
from redline.load.worker import LoadWorker, Window, load_worker
from redline.model import Endpoint, Outcome, Request, TokenPrompt
from tests.deploy.conftest import FAKES

ROOT = Path(__file__).parent.parent.parent
# They cost only where a test fails: a busy machine may let any one process wait for seconds.
GONE_S_MAX = 60.0
KILL_S_MAX = 60.0


class Setting(ABC):
    """Where and how one deployer is tried."""

    deployer: str
    """Its key in DEPLOYERS."""

    starts_servers = True
    """False for one that attaches to what somebody else started, and so neither starts nor ends anything."""

    ends_with_its_caller = False
    """True if nothing is left even after kill -9, without `cleanup`."""

    is_routed = False
    """True if all replicas are behind one address, so that who answered cannot be told."""

    seen_s_max = 0.0
    """How long after a death the next question may still say that all live: what is asked may not know it yet."""

    version = "0.0.0+standin"
    """What the stand-in says on /version."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.streamed = folder / "streamed"
        self.streamed.touch()
        self.held = folder / "held"

    @property
    def told(self) -> dict[str, str]:
        """What every stand-in of this setting is told besides its mode."""
        return {
            "STAND_IN_STREAMED": str(self.streamed),
            "STAND_IN_HELD": str(self.held),
            "STAND_IN_VERSION": self.version,
        }

    @abstractmethod
    def order(self, mode: str = "ok", *, replicas: int = 1, start_s_max: float = 60.0) -> Order:
        """An order of stand-ins in a mode."""

    @abstractmethod
    def order_of_another(self) -> tuple[Order, str]:
        """(an order that something else than the pinned build will answer, words of the refusal)."""

    @abstractmethod
    def kill(self, endpoint: Endpoint, replica: int) -> str:
        """End one replica as a crash would; how it is called in `there`, '' where nothing of it stays."""

    @abstractmethod
    def there(self) -> set[str]:
        """Whatever there is of servers: processes, containers, objects."""

    def name_of(self, endpoint: Endpoint, replica: int) -> str:
        """How an error calls a replica."""
        return endpoint.replicas[replica].name

    def make(self) -> Deployer:
        """The deployer; a setting may give it limits that fit a test."""
        return DEPLOYERS[self.deployer]()

    def environment(self) -> dict[str, str]:
        """What another process needs to deploy to the same place."""
        return {}


def becomes(setting: Setting, expected: set[str], within_s: float = GONE_S_MAX) -> bool:
    """True if that and nothing else is there before the bound."""
    deadline = time.monotonic() + within_s
    while setting.there() != expected:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def nothing_new(setting: Setting, before: set[str]) -> bool:
    """True if soon nothing is there that was not before. What an earlier test left may still be going away."""
    deadline = time.monotonic() + GONE_S_MAX
    while not setting.there() <= before:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def is_empty(setting: Setting) -> bool:
    """True if soon nothing is there."""
    return becomes(setting, set())


def window(
    worker: LoadWorker,
    endpoint: Endpoint,
    *,
    count: int = 9,
    between_ms: int = 20,
    meanwhile: Callable[[], None] = lambda: None,
) -> Window:
    """A window of `count` requests at a steady rate, whatever becomes of the others, sent by the real load engine."""
    requests = tuple(
        Request(
            index, TokenPrompt((5, 6, 7)), 4, ignore_eos=True, offset_ns=index * between_ms * 1_000_000, cache_salt=""
        )
        for index in range(count)
    )
    plan = LoadPlan(endpoint.base_urls, endpoint.model, requests, None, window_s_max=90.0)
    assert worker.run(replace(plan, requests=requests[:1])).records  # its code is warm
    meanwhile()
    return worker.run(plan)


@contextmanager
def killing_under_load(
    setting: Setting, endpoint: Endpoint, replica: int
) -> Iterator[tuple[Callable[[], None], list[str]]]:
    """(a function that has a replica killed as soon as three more requests were answered, what the kill gave).

    What comes after those three is held back until then, so that the kill is under load however late it comes.
    """
    ended: list[str] = []
    started = threading.Event()

    def start() -> None:
        setting.held.write_text(str(setting.streamed.stat().st_size + 3))
        started.set()

    def wait_and_kill() -> None:
        started.wait(KILL_S_MAX)
        if not setting.held.exists():
            return
        enough = int(setting.held.read_text())
        deadline = time.monotonic() + KILL_S_MAX
        try:
            while setting.streamed.stat().st_size < enough and time.monotonic() < deadline:
                time.sleep(0.005)
            ended.append(setting.kill(endpoint, replica))
        finally:
            setting.held.unlink()

    thread = threading.Thread(target=wait_and_kill)
    thread.start()
    try:
        yield start, ended
    finally:
        started.set()
        thread.join()


def build_problem(order: Order, endpoint: Endpoint) -> str:
    """What a trial on this endpoint would be invalid for, as far as its build goes; '' for the pinned one."""
    rule = _right_build(order.sut.pin, endpoint.reported_version, endpoint.installed_version)
    return "" if rule.ok else f"{rule.rule}: {rule.reading}, expected {rule.limit}"


def until_death(setting: Setting, deployment: Deployment) -> None:
    """Ask whether all live until the deployment raises, or until the bound of its setting."""
    deadline = time.monotonic() + setting.seen_s_max
    deployment.check_alive()
    while time.monotonic() < deadline:
        time.sleep(0.05)
        deployment.check_alive()


def clean(setting: Setting, order: Order) -> tuple[str, ...]:
    """What `cleanup` ended."""
    return setting.make().cleanup(order.state_dir, older_than_s=None)


class Kept:
    """What every deployer keeps; a test class inherits it and provides the fixture `setting`."""

    @pytest.fixture(scope="class")
    @classmethod
    def worker(cls) -> Iterator[LoadWorker]:
        """The process that sends the load of all windows, as in a run."""
        with load_worker() as started:
            yield started

    @pytest.mark.parametrize("replicas", [1, 2])
    def test_starts_is_ready_says_who_it_is_is_measured_and_ends(self, setting: Setting, worker, replicas: int):
        """All answer as the pinned build at addresses of their own, unless behind a router; all is as before then."""
        order, before = setting.order(replicas=replicas), setting.there()
        address_count = 1 if setting.is_routed else replicas
        said: list[str] = []
        with setting.make().deploy(order, said.append) as deployment:
            endpoint = deployment.wait_ready()
            assert len(set(endpoint.base_urls)) == len(endpoint.replicas) == address_count
            for base_url in endpoint.base_urls:
                assert httpx.get(f"{base_url}/health", trust_env=False).status_code == 200
            assert endpoint.model == order.recipe.served_model_name
            assert endpoint.reported_version == setting.version
            assert build_problem(order, endpoint) == ""
            assert (endpoint.start_s > 0) is setting.starts_servers
            assert len({replica.name for replica in endpoint.replicas}) == address_count
            deployment.check_alive()
            records = window(worker, endpoint).records
            assert [record.outcome for record in records] == [Outcome.OK] * 9
            assert [record.replica for record in records] == [index % address_count for index in range(9)]
            deployment.check_alive()
            assert setting.there() > before or not setting.starts_servers
        assert said
        assert nothing_new(setting, before)

    def test_a_crash_under_load_is_seen_and_named(self, setting: Setting, worker):
        """One of two dies: the requests that it would have answered fail, and the next question says which it was."""
        before = setting.there()
        with setting.make().deploy(setting.order(replicas=2), print) as deployment:
            endpoint = deployment.wait_ready()
            victim = setting.name_of(endpoint, 1)
            with killing_under_load(setting, endpoint, 1) as (kill_soon, ended):
                records = window(worker, endpoint, count=16, between_ms=50, meanwhile=kill_soon).records
            failed = {record.replica for record in records if record.outcome is not Outcome.OK}
            with pytest.raises(ReplicaDiedError) as died:
                until_death(setting, deployment)
            # A router may send what is left to the other one in time; a client that takes turns does not.
            assert failed == {1} or (setting.is_routed and failed <= {0})
            assert victim in str(died.value)
        assert len(ended) == 1
        assert becomes(setting, before - {*ended})

    def test_another_build_is_never_taken_for_the_pinned_one(self, setting: Setting):
        """Another digest is refused by the deployer, another version at the latest by the rules of validity."""
        order, words = setting.order_of_another()
        before = setting.there()
        try:
            with setting.make().deploy(order, print) as deployment:
                problem = build_problem(order, deployment.wait_ready())
        except DeployError as refused:
            problem = str(refused)
        assert words in problem
        assert nothing_new(setting, before)

    def test_render_starts_nothing(self, setting: Setting):
        """What would be done is text, and nothing is there afterwards that was not before."""
        order = setting.order()
        before = setting.there()
        assert setting.make().render(order).strip()
        assert setting.there() == before


class Started(Kept):
    """What is kept besides by those that start servers."""

    def test_a_crash_at_the_start_says_why(self, setting: Setting):
        """The server's own words are in the error, and nothing is left."""
        with (
            pytest.raises(DeployError) as crashed,
            setting.make().deploy(setting.order("exit"), print) as started,
        ):
            started.wait_ready()
        assert "this model cannot be served" in str(crashed.value)
        assert is_empty(setting)

    def test_a_server_that_hangs_is_given_up_in_time(self, setting: Setting):
        """Not later than its recipe allows and a margin, and nothing is left."""
        begin_s = time.monotonic()
        with (
            pytest.raises(ServerNotReadyError) as given_up,
            setting.make().deploy(setting.order("never", start_s_max=0.5), print) as started,
        ):
            started.wait_ready()
        assert time.monotonic() - begin_s < 120  # the stand-in would stay for five minutes
        assert "0.5 s" in str(given_up.value)
        assert is_empty(setting)

    def test_a_server_that_ignores_its_end_is_ended(self, setting: Setting):
        """SIGTERM is not obeyed; after the grace there is nothing left all the same."""
        with setting.make().deploy(replace(setting.order("stubborn"), grace_s=0.3), print) as deployment:
            deployment.wait_ready()
            assert setting.there()
        assert is_empty(setting)

    def test_what_a_killed_redline_leaves_is_cleaned_up(self, setting: Setting, tmp_path: Path):
        """Nothing is left, by itself or after `cleanup`, which says what it ended and then finds nothing."""
        order = setting.order()
        pickled = tmp_path / "order.pickle"
        pickled.write_bytes(pickle.dumps((setting.deployer, order)))
        with subprocess.Popen(
            [sys.executable, str(FAKES / "deploying_order.py"), str(pickled)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)} | setting.environment(),
        ) as caller:
            assert caller.stdout is not None
            assert caller.stdout.readline(), "it never became ready"
            assert setting.there()
            assert clean(setting, order) == (), "somebody still uses it"
            caller.kill()
            caller.wait()
        if not setting.ends_with_its_caller:
            assert clean(setting, order)
        assert is_empty(setting)
        assert clean(setting, order) == ()
