"""A vLLM server of this machine: started, waited for, watched, and always ended.

    with launch(python=..., recipe=..., ...) as server:   # starts at once, does not wait
        endpoint = server.wait_ready()                    # a real completion was answered
        ...
        server.check_alive()

Two servers are started together by entering two `launch` blocks before the first `wait_ready`: each is watched
by a thread of its own from its start, so `start_s` is right in whatever order they are waited for. `LocalServer` is
the same for a process and for a container; what differs is in the plan (`redline.deploy.start.Plan`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from redline.deploy.diagnosis import error_of, last_line, read_ending, read_tail
from redline.deploy.endpoint import ask_first, ask_version, is_answered, is_healthy, open_client
from redline.deploy.port import port_taken
from redline.deploy.start import Plan, Start, StartPlan
from redline.deploy.supervisor_program import GRACE_S, process_table
from redline.errors import DeployError, ServerDiedError, ServerExitedError, ServerNotReadyError
from redline.model import Endpoint, Recipe
from redline.units import NS_PER_S, seconds

POLL_S = 0.15
HEALTH_S_MAX = 5.0
HEALTH_AFTER_LOSS_S_MAX = 60.0
"""How long a server in use that lost a process may take to say that it is healthy: as long as for /metrics."""

HEALTHY_ANSWERS_MIN = 3
"""Healthy answers, one a call, after which a lost process was a helper: an engine's loss is noticed in a moment."""

PORT_ATTEMPTS_MAX = 3
"""How often a start is tried when somebody else takes the port that was free a moment ago."""

COMPLETION_ATTEMPTS_MAX = 5
COMPLETION_RETRY_S = 1.0
PROGRESS_EVERY_S = 5.0
ENGINE_LOST_S_MAX = 5.0
"""How long a server that lost a process may take to end by itself, so that its own words can be read."""

_WATCHER_MARGIN_S = 60.0


def _silent(_: str) -> None:
    """Progress that nobody watches."""


class _PortLostError(Exception):
    """The port went to somebody else between choosing and binding it."""


class LocalServer:
    """A server that was started, as a process or in a container. Whoever makes it also calls `close`."""

    def __init__(self, plan: Plan, on_progress: Callable[[str], None]) -> None:
        """Start the server and the thread that waits for it. Raises DeployError if it cannot be started."""
        self._plan = plan
        self._on_progress = on_progress
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._settled = threading.Event()
        self._outcome: Endpoint | BaseException | None = None
        self._ready_pids: frozenset[int] = frozenset()
        self._healthy_counts: dict[int, int] = {}
        self._current = plan.start()
        on_progress(f"starting {plan.label} on port {self._current.port}, log: {plan.log_path}")
        self._watcher = threading.Thread(target=self._watch, name=f"start {plan.label}", daemon=True)
        self._watcher.start()

    @property
    def log_path(self) -> Path:
        """Where the server's standard output and error go."""
        return self._plan.log_path

    @property
    def port(self) -> int:
        """The port it listens on, or will."""
        return self._current.port

    def pids(self) -> tuple[int, ...]:
        """All live processes of the server, the API server first; () once ended."""
        return self._current.pids()

    def wait_ready(self) -> Endpoint:
        """The endpoint, once it answered a real completion; `start_s` counts from the start of the process.

        Reports progress every PROGRESS_EVERY_S seconds, from the calling thread.

        Raises:
            ServerExitedError: it ended before it was ready.
            OutOfMemoryError: it ended because memory was short.
            ServerNotReadyError: it answered no completion within the recipe's `start_s_max` seconds.
            PortTakenError: the port that was asked for is in use.
        """
        limit_s = PORT_ATTEMPTS_MAX * self._plan.recipe.start_s_max + _WATCHER_MARGIN_S
        begin_s = time.monotonic()
        while not self._settled.wait(PROGRESS_EVERY_S):
            waited_s = time.monotonic() - begin_s
            if waited_s > limit_s:  # the watcher is bounded itself; this bound is for a defect in it
                raise ServerNotReadyError(f"{self._plan.label} was not ready within {limit_s:.0f} s")
            newest = last_line(read_tail(self.log_path, self._current.log_offset))
            self._on_progress(f"starting {self._plan.label}, {waited_s:.0f} s: {newest}".rstrip(": "))
        if isinstance(self._outcome, Endpoint):
            return self._outcome
        assert self._outcome is not None  # settled with a value or an error
        raise self._outcome

    def check_alive(self) -> None:
        """Nothing if the server still runs; costs a millisecond. Call it between windows, not within one.

        Once a process of it was lost, /health is asked too: the process may have been a helper that was done, or the
        engine, whose loss the server itself notices only a moment later. After HEALTHY_ANSWERS_MIN calls in which the
        server was healthy the process is forgotten. Those calls cost a request each; one to a server that hangs costs
        up to 2 * HEALTH_AFTER_LOSS_S_MAX + ENGINE_LOST_S_MAX seconds before it is called dead, and an engine whose loss
        the server keeps to itself for that many calls is found only by the requests that fail.

        Raises: ServerDiedError if it ended, or lost one of its processes and is no longer healthy;
        OutOfMemoryError if memory was the reason.
        """
        if self._current.exit_status() is not None:
            raise self._died("it ended")
        table = process_table()
        lost = {pid for pid in self._ready_pids if table and table.get(pid, (0, "Z"))[1] in "ZX"}
        self._healthy_counts |= dict.fromkeys(lost - self._healthy_counts.keys(), 0)
        if not self._healthy_counts:
            return
        if not self._is_healthy_after_loss():
            pids = sorted(self._healthy_counts)
            raise self._died(f"its process{'es' if len(pids) > 1 else ''} {', '.join(map(str, pids))} ended")
        counts = {pid: count + 1 for pid, count in self._healthy_counts.items()}
        self._healthy_counts = {pid: count for pid, count in counts.items() if count < HEALTHY_ANSWERS_MIN}
        self._ready_pids -= counts.keys() - self._healthy_counts.keys()

    def _is_healthy_after_loss(self) -> bool:
        """True if it says so, at once or when asked again: slow to answer is no death."""
        if self._says_it_is_healthy():
            return True
        deadline = time.monotonic() + ENGINE_LOST_S_MAX
        while self._current.exit_status() is None and time.monotonic() < deadline:
            time.sleep(POLL_S)
        return self._says_it_is_healthy()

    def _says_it_is_healthy(self) -> bool:
        if self._current.exit_status() is not None:
            return False
        with open_client(self._current.base_url) as client:
            healthy = is_healthy(client, HEALTH_AFTER_LOSS_S_MAX)
        return healthy and self._current.exit_status() is None

    def close(self) -> None:
        """End the server and everything it started. Raises DeployError if a process survived SIGKILL."""
        self._closed.set()
        try:
            with self._lock:  # no new start after this
                self._current.end()
        finally:
            self._watcher.join(self._plan.grace_s + _WATCHER_MARGIN_S)

    # --- from here on: the watcher's thread -----------------------------------------------------------------

    def _watch(self) -> None:
        try:
            self._outcome = self._until_ready_on_some_port()
        except BaseException as error:  # noqa: BLE001 - carried to wait_ready, which raises it there
            self._outcome = error
        self._settled.set()

    def _until_ready_on_some_port(self) -> Endpoint:
        for attempt in range(1, PORT_ATTEMPTS_MAX + 1):
            try:
                return self._until_ready(self._current)
            except _PortLostError as error:
                self._current.end()
                if self._plan.port is not None or attempt == PORT_ATTEMPTS_MAX:
                    raise port_taken(self._current.port, f"address already in use, {attempt} starts") from error
                with self._lock:
                    self._require_open()
                    self._current = self._plan.start()
        raise AssertionError("the last attempt returns or raises")

    def _until_ready(self, start: Start) -> Endpoint:
        deadline_ns = start.started_ns + round(self._plan.recipe.start_s_max * NS_PER_S)
        refusals: list[str] = []
        with open_client(start.base_url) as client:
            while not self._closed.wait(POLL_S):
                self._require_running(start)
                left_s = seconds(deadline_ns - time.perf_counter_ns())
                if left_s <= 0:
                    raise self._not_ready(start, refusals)
                if not is_healthy(client, min(HEALTH_S_MAX, left_s)):
                    continue
                self._require_our_port(start)
                if self._completes(client, left_s, refusals):
                    ready_ns = time.perf_counter_ns()
                    return self._endpoint(start, client, ready_ns)
                if len(refusals) >= COMPLETION_ATTEMPTS_MAX:
                    raise self._not_ready(start, refusals)
        self._require_open()
        raise AssertionError("the loop above ends only when closed")

    def _completes(self, client: httpx.Client, left_s: float, refusals: list[str]) -> bool:
        """True if a completion came; otherwise why not is added to `refusals`, final ones often enough to count."""
        try:
            recipe = self._plan.recipe
            answer = ask_first(client, recipe.served_model_name, recipe.serves, left_s)
        except httpx.HTTPError as error:
            refusals.append(f"{type(error).__name__}: {error}")
        else:
            if is_answered(answer, recipe.serves):
                return True
            refusal = f"{answer.status} {answer.text}"
            # 4xx, or 200 without tokens: it understood and will say the same again.
            refusals += [refusal] * (1 if answer.status >= 500 else COMPLETION_ATTEMPTS_MAX)
        if len(refusals) < COMPLETION_ATTEMPTS_MAX:
            self._closed.wait(COMPLETION_RETRY_S)
        return False

    def _endpoint(self, start: Start, client: httpx.Client, ready_ns: int) -> Endpoint:
        pids = start.pids()
        self._ready_pids = frozenset(pids)
        try:
            version = ask_version(client)
        except httpx.HTTPError as error:
            raise ServerDiedError(
                f"{self._plan.label} answered a completion but not /version", found=f"{type(error).__name__}: {error}"
            ) from error
        except DeployError as error:  # its own server, so no wrong address: this build says nothing that can be used
            raise ServerNotReadyError(
                f"{self._plan.label} answered a completion but does not say its version",
                expected=error.expected,
                found=error.found,
                next_step=f"read {self.log_path}; a build without /version cannot be told from another",
            ) from error
        identity = start.identity()
        return Endpoint(
            base_url=start.base_url,
            model=self._plan.recipe.served_model_name,
            reported_version=version,
            installed_version=identity.installed_version,
            start_s=seconds(ready_ns - start.started_ns),
            log_path=str(self._plan.log_path),
            cpu_ids=self._plan.cpu_ids,
            pids=pids,
            notes=identity.notes,
        )

    # --- why not ----------------------------------------------------------------------------------------------

    def _require_open(self) -> None:
        if self._closed.is_set():
            raise ServerNotReadyError(f"{self._plan.label} was stopped before it was ready")

    def _require_running(self, start: Start) -> None:
        status = start.exit_status()
        if status is None:
            return
        self._require_open()  # ended because we said so
        start.end()  # whatever its other processes still had to say is in the log after this
        ending = read_ending(status, self.log_path, offset=start.log_offset, oom_kills_before=start.oom_kills_before)
        if ending.address_in_use:
            raise _PortLostError
        raise start.explain(ending) or error_of(
            ending,
            ServerExitedError,
            problem=f"{self._plan.label} ended before it was ready",
            expected=f"a completion within {self._plan.recipe.start_s_max:g} s",
            platform=self._plan.platform,
            log_path=self.log_path,
        )

    def _require_our_port(self, start: Start) -> None:
        """A healthy answer may come from somebody else's server that took the port first."""
        if not start.holds_port():
            raise _PortLostError

    def _not_ready(self, start: Start, refusals: list[str]) -> ServerNotReadyError:
        problem = f"{self._plan.label} was not ready in time"
        if refusals:
            problem = f"{self._plan.label} came up but answers no completion"
            found = f"/health answers, /v1/completions does not: {refusals[-1]}"
        else:
            newest = last_line(read_tail(self.log_path, start.log_offset))
            found = f"the process runs, /health does not answer; its last line: {newest or '(none)'}"
        return ServerNotReadyError(
            problem,
            expected=f"a completion within {self._plan.recipe.start_s_max:g} s",
            found=found,
            next_step=f"read {self.log_path}; raise start_s_max in recipe {self._plan.recipe.name} if it is only slow",
        )

    def _died(self, what: str) -> DeployError:
        start = self._current
        start.end()
        ending = read_ending(
            start.exit_status() or 0,
            self.log_path,
            offset=start.log_offset,
            oom_kills_before=start.oom_kills_before,
        )
        return error_of(
            ending,
            ServerDiedError,
            problem=f"{self._plan.label} died while it was in use: {what}",
            expected="a server that runs until Redline ends it",
            platform=self._plan.platform,
            log_path=self.log_path,
        )


class ServerProcess(LocalServer):
    """A server as a process. Made by `launch`, which also ends it."""


@contextmanager
def launch(  # noqa: PLR0913 - one keyword per fact of a deployment; a bundle would only rename them
    *,
    python: Path,
    recipe: Recipe,
    platform: str,
    extra_args: tuple[str, ...],
    model: str,
    state_dir: Path,
    log_path: Path,
    distribution: str,
    installed_version: str,
    port: int | None = None,
    cpu_ids: tuple[int, ...] = (),
    grace_s: float = GRACE_S,
    on_progress: Callable[[str], None] = _silent,
) -> Iterator[ServerProcess]:
    """A server that starts at once and is ended with the block, however the block, or the caller, ends.

    `python` is the interpreter of the build; `model` a directory or a hub id; `state_dir` holds the build's
    caches; `port` None lets the kernel choose; `cpu_ids` () means all; `grace_s` is the wait between SIGTERM and
    SIGKILL at the end; `on_progress` gets one line now and then, in the thread that calls `wait_ready`.

    Raises: UsageError for arguments that cannot be served; PortTakenError if `port` is in use; DeployError if
    the process cannot be started, or if one of its processes survives its end.
    """
    plan = StartPlan(
        python=python,
        recipe=recipe,
        platform=platform,
        extra_args=extra_args,
        model=model,
        state_dir=state_dir,
        log_path=log_path,
        distribution=distribution,
        installed_version=installed_version,
        port=port,
        cpu_ids=cpu_ids,
        grace_s=grace_s,
    )
    server = ServerProcess(plan, on_progress)
    try:
        yield server
    finally:
        server.close()
