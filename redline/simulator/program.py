"""`redline simulate`: the stand-in as a program."""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import signal
import socket
import ssl
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from redline.errors import PortTakenError, RedlineError, UsageError
from redline.simulator.desk import FrontDesk
from redline.simulator.options import add_arguments
from redline.simulator.server import LISTEN_BACKLOG, Server
from redline.simulator.settings import Settings, parse_settings_text

STAND_IN = "a stand-in: it never counts as a measurement"


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT; 0 after a clean end. Raises UsageError, PortTakenError."""
    if arguments.log_requests_max < 1:
        raise UsageError("--log-requests-max must be at least 1", found=str(arguments.log_requests_max))
    settings = _settings(arguments)
    tls = _tls(arguments)
    _raise_descriptor_limit()
    if arguments.cpu:
        _pin(arguments.cpu)
    desk = FrontDesk(settings, api_key=arguments.api_key, log_requests_max=arguments.log_requests_max)
    with _bound_socket(arguments.host, arguments.port) as listener:
        if settings.failures.listen_after_s == 0:
            listener.listen(LISTEN_BACKLOG)  # before the line below: who reads it can connect
        server = Server(desk, listener, tls)
        with _stopped_by_signals(server) as wake_fd:
            host, port = listener.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            sys.stdout.write(f"redline simulate: http{'s' if tls else ''}://{shown}:{port} ({STAND_IN})\n")
            sys.stdout.flush()
            server.serve(wake_fd=wake_fd, parent_fd=sys.stdin.fileno() if arguments.until_stdin_ends else None)
    return 0


def _settings(arguments: argparse.Namespace) -> Settings:
    text = arguments.settings
    if not text.lstrip().startswith("{"):
        try:
            text = Path(text).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError("--settings names no file that can be read", found=f"{text}: {error}") from error
    settings = parse_settings_text(text)
    given = {name: getattr(arguments, name) for name in ("ttft_s", "itl_s") if getattr(arguments, name) is not None}
    served = {name: getattr(arguments, name) for name in ("model", "version") if getattr(arguments, name) is not None}
    return replace(settings, timing=replace(settings.timing, **given), serving=replace(settings.serving, **served))


def _tls(arguments: argparse.Namespace) -> ssl.SSLContext | None:
    if arguments.tls_certificate is None and arguments.tls_key is None:
        return None
    if arguments.tls_certificate is None or arguments.tls_key is None:
        raise UsageError("TLS needs both", expected="--tls-certificate FILE and --tls-key FILE")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(arguments.tls_certificate, arguments.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise UsageError("the certificate and its key cannot be loaded", found=str(error)) from error
    return context


def _raise_descriptor_limit() -> None:
    """As many connections as the system lets this process have."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _pin(cpu_ids: list[int]) -> None:
    try:
        os.sched_setaffinity(0, cpu_ids)
    except (OSError, ValueError) as error:
        raise UsageError(
            "--cpu names no CPU of this machine",
            expected=f"one of {sorted(os.sched_getaffinity(0))}",
            found=f"{cpu_ids}: {error}",
        ) from error


def _bound_socket(host: str, port: int) -> socket.socket:
    """A socket bound to the address, not listening yet. Raises UsageError, PortTakenError."""
    if not 0 <= port <= 65535:
        raise UsageError("--port is no port", expected="0 to 65535", found=str(port))
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, OverflowError) as error:
        raise UsageError("--host or --port is no address", found=f"{host} port {port}: {error}") from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise PortTakenError(
            "the address cannot be bound",
            found=f"{host} port {port}: {error}",
            next_step="leave --port out for one that is free",
        ) from error
    return listener


@contextlib.contextmanager
def _stopped_by_signals(server: Server) -> Iterator[int]:
    """SIGTERM and SIGINT stop the server; yields a descriptor that has bytes when a signal came."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    before_fd = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    before = {number: signal.signal(number, lambda *_: server.stop()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield reading
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(before_fd)
        os.close(reading)
        os.close(writing)


def main(arguments: list[str] | None = None) -> int:
    """`python -m redline.simulator.program`: the exit code."""
    parser = argparse.ArgumentParser(
        prog="redline simulate", description=f"An OpenAI-compatible server with known timing ({STAND_IN})."
    )
    add_arguments(parser)
    try:
        return run(parser.parse_args(arguments))
    except RedlineError as error:
        sys.stderr.write(f"{error}\n")
        return int(error.exit_code)


if __name__ == "__main__":
    sys.exit(main())
