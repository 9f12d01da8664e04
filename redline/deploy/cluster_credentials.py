"""Who Redline is to a cluster: a kubeconfig's context, or the service account of the pod that it runs in."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from redline.deploy.cluster_client import CallLimits, Cluster
from redline.errors import ClusterError

CREDENTIALS_S_MAX = 60.0


@contextmanager
def connect(context: str, limits: CallLimits | None = None) -> Iterator[Cluster]:
    """A connection with the credentials of a kubeconfig's context, or of the pod that Redline runs in.

    $KUBECONFIG names the file, else ~/.kube/config; `context` '' is its current one. Nothing is asked yet.
    Raises ClusterError if there are no credentials.
    """
    from kubernetes.client.api_client import ApiClient  # noqa: PLC0415 - the package takes most of a second
    from kubernetes.client.configuration import Configuration  # noqa: PLC0415 - as above

    configuration = Configuration()
    _bounded(lambda: _load_credentials(configuration, context))
    configuration.retries = False  # they are counted here, where it is known what may be asked twice
    with ApiClient(configuration) as api:
        yield Cluster(api, limits or CallLimits())


def _load_credentials(configuration: Any, context: str) -> None:
    from kubernetes.config import (  # noqa: PLC0415 - the package takes most of a second
        ConfigException,
        load_incluster_config,
        load_kube_config,
    )
    from yaml import YAMLError  # noqa: PLC0415 - comes with it

    file = os.environ.get("KUBECONFIG") or None
    try:
        load_kube_config(file, context or None, configuration, persist_config=False)  # type: ignore[no-untyped-call]
    except (ConfigException, YAMLError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        if not file and not context:
            try:
                load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
            except ConfigException:
                pass
            else:
                return
        raise ClusterError(
            f"no credentials for the cluster{f' of context {context}' if context else ''}",
            expected="a kubeconfig at $KUBECONFIG or ~/.kube/config"
            + (f" with a context {context}" if context else ", or the service account of a pod"),
            found=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}",
            next_step="log in to the cluster; kubectl config get-contexts lists what is there",
        ) from error


def _bounded(load: Callable[[], None]) -> None:
    """Credentials may come from a program that the kubeconfig names, which may wait for somebody."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            load()
        except BaseException as error:  # noqa: BLE001 - carried to the caller, which raises it
            failures.append(error)

    loading = threading.Thread(target=run, daemon=True)
    loading.start()
    loading.join(CREDENTIALS_S_MAX)
    if loading.is_alive():
        raise ClusterError(
            "the credentials of the cluster were not there in time",
            expected=f"within {CREDENTIALS_S_MAX:.0f} s",
            found="the program that the kubeconfig names for them still runs",
            next_step="log in to the cluster first, so that it need not ask",
        )
    if failures:
        raise failures[0]
