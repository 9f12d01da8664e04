"""What every deployer keeps: one suite, run for each of them in its own setting.

A setting knows how to order a server that behaves in a mode of tests/fakes/stand_in_vllm.py, how to kill one replica
from outside, and what is left over. The tests themselves know nothing of processes, containers or clusters.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from redline.deploy.choice import DEPLOYERS
from redline.deploy.deployer import Deployer, Order
from redline.errors import DeployError, ReplicaDiedError, ServerDiedError, ServerNotReadyError
from redline.load.client import LoadPlan
from redline.load.worker import Window, load_worker
from redline.model import Endpoint, Outcome, Request, TokenPrompt
from tests.deploy.conftest import FAKES

ROOT = Path(__file__).parent.parent.parent
GONE_S_MAX = 20.0


class Setting(ABC):
    """Where and how one deployer is tried."""

    deployer: str
    """Its key in DEPLOYERS."""

    starts_servers = True
    """False for one that attaches to what somebody else started, and so neither starts nor ends anything."""

    ends_with_its_caller = False
    """True if nothing is left even after kill -9, without `cleanup`."""

    version = "0.0.0+standin"
    """What the stand-in says on /version."""

    @abstractmethod
    def order(self, mode: str = "ok", *, replicas: int = 1, start_s_max: float = 30.0) -> Order:
        """An order of stand-ins in a mode."""

    @abstractmethod
    def kill(self, endpoint: Endpoint, replica: int) -> None:
        """End one replica as a crash would."""

    @abstractmethod
    def left_over(self) -> set[str]:
        """Whatever of the servers is still there: processes, containers, objects."""

    def make(self) -> Deployer:
        """The deployer; a setting may give it limits that fit a test."""
        return DEPLOYERS[self.deployer]()

    def environment(self) -> dict[str, str]:
        """What another process needs to deploy to the same place."""
        return {}


def is_empty(setting: Setting, within_s: float = GONE_S_MAX) -> bool:
    """True if nothing is left over before the bound."""
    deadline = time.monotonic() + within_s
    while setting.left_over():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def window(endpoint: Endpoint, count: int = 9, meanwhile: Callable[[], None] = lambda: None) -> Window:
    """A window of `count` requests, one every 0.1 s whatever becomes of the others, sent by the real load engine."""
    requests = tuple(
        Request(index, TokenPrompt((5, 6, 7)), 4, ignore_eos=True, offset_ns=index * 100_000_000, cache_salt="")
        for index in range(count)
    )
    plan = LoadPlan(endpoint.base_urls, endpoint.model, requests, None, window_s_max=20.0)
    with load_worker() as worker:
        assert worker.run(replace(plan, requests=requests[:1])).records  # it has started, and its code is warm
        meanwhile()
        return worker.run(plan)


class Conformance:
    """The suite; a test class inherits it and provides the fixture `setting`."""

    @pytest.mark.parametrize("replicas", [1, 2])
    def test_starts_is_ready_says_who_it_is_is_measured_and_ends(self, setting: Setting, replicas: int):
        """Each replica answers at its own address as the pinned build; load is spread evenly; nothing is left."""
        order = setting.order(replicas=replicas)
        said: list[str] = []
        with setting.make().deploy(order, said.append) as deployment:
            endpoint = deployment.wait_ready()
            assert len(set(endpoint.base_urls)) == len(endpoint.replicas) == replicas
            for base_url in endpoint.base_urls:
                assert httpx.get(f"{base_url}/health", trust_env=False).status_code == 200
            assert endpoint.model == order.recipe.served_model_name
            assert endpoint.reported_version == setting.version
            assert (endpoint.start_s > 0) is setting.starts_servers
            assert len({replica.name for replica in endpoint.replicas}) == replicas
            deployment.check_alive()
            records = window(endpoint).records
            assert [record.outcome for record in records] == [Outcome.OK] * 9
            assert [record.replica for record in records] == [index % replicas for index in range(9)]
            deployment.check_alive()
            if setting.starts_servers:
                assert setting.left_over()
        assert said
        assert not setting.starts_servers or is_empty(setting)

    def test_a_crash_at_the_start_says_why(self, setting: Setting):
        """The server's own words are in the error, and nothing is left."""
        if not setting.starts_servers:
            return
        with (
            pytest.raises(DeployError) as crashed,
            setting.make().deploy(setting.order("exit"), print) as started,
        ):
            started.wait_ready()
        assert "this model cannot be served" in str(crashed.value)
        assert is_empty(setting)

    def test_a_server_that_hangs_is_given_up_in_time(self, setting: Setting):
        """Not later than its recipe allows and a margin, and nothing is left."""
        if not setting.starts_servers:
            return
        begin_s = time.monotonic()
        with (
            pytest.raises(ServerNotReadyError) as given_up,
            setting.make().deploy(setting.order("never", start_s_max=2.0), print) as started,
        ):
            started.wait_ready()
        assert time.monotonic() - begin_s < 60
        assert "2 s" in str(given_up.value)
        assert is_empty(setting)

    @pytest.mark.parametrize("replicas", [1, 2])
    def test_a_crash_under_load_is_seen_and_named(self, setting: Setting, replicas: int):
        """The requests fail, `check_alive` or the next question says so, and of several it says which."""
        with setting.make().deploy(setting.order(replicas=replicas), print) as deployment:
            endpoint = deployment.wait_ready()
            killer = threading.Timer(1.5, setting.kill, (endpoint, replicas - 1))
            records = window(endpoint, 30, killer.start).records
            killer.join()
            failed = {record.replica for record in records if record.outcome is not Outcome.OK}
            assert failed == {replicas - 1}
            if setting.starts_servers:
                with pytest.raises(ReplicaDiedError if replicas > 1 else ServerDiedError) as died:
                    deployment.check_alive()
                assert endpoint.replicas[-1].name in str(died.value) or replicas == 1
        assert not setting.starts_servers or is_empty(setting)

    def test_a_server_that_ignores_its_end_is_ended(self, setting: Setting):
        """SIGTERM is not obeyed; after the grace there is nothing left all the same."""
        if not setting.starts_servers:
            return
        with setting.make().deploy(setting.order("stubborn"), print) as deployment:
            deployment.wait_ready()
        assert is_empty(setting)

    def test_what_a_killed_redline_leaves_is_cleaned_up(self, setting: Setting, tmp_path: Path):
        """Nothing is left, by itself or after `cleanup`, which says what it ended and then finds nothing."""
        if not setting.starts_servers:
            return
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
            assert setting.left_over()
            assert clean(setting, order) == (), "somebody still uses it"
            caller.kill()
            caller.wait()
        if setting.ends_with_its_caller:
            assert is_empty(setting)
            return
        said = clean(setting, order)
        assert said
        assert is_empty(setting)
        assert clean(setting, order) == ()

    def test_render_starts_nothing(self, setting: Setting):
        """What would be done is text that names the model, and nothing is there afterwards."""
        order = setting.order()
        before = setting.left_over()
        assert setting.make().render(order).strip()
        assert setting.left_over() == before


def clean(setting: Setting, order: Order) -> tuple[str, ...]:
    """What `cleanup` ended."""
    return setting.make().cleanup(order.state_dir, older_than_s=None)
