"""The connection to a Kubernetes API: the real client, real HTTP, and everything that can go wrong in between."""

from __future__ import annotations

import ssl
import threading
import time

import pytest

from redline.deploy.cluster_client import CallLimits, Cluster
from redline.deploy.cluster_credentials import connect
from redline.deploy.cluster_errors import ApiRefusalError, unreachable
from redline.errors import ClusterError
from tests.fakes.kubernetes_api import Fault, KubernetesApi
from tests.fakes.kubernetes_state import State

QUICK = CallLimits(try_s=20.0, try_count_max=3, all_s=60.0, pause_s=0.01)
IMPATIENT = CallLimits(try_s=0.5, try_count_max=40, all_s=60.0, pause_s=0.01)
LLM = ("serving.kserve.io/v1alpha2", "LLMInferenceService")


@pytest.fixture
def api(tmp_path, monkeypatch):
    """A server with one namespace, and a kubeconfig that leads to it."""
    state = State()
    state.create("namespaces", "", {"metadata": {"name": "perf"}})
    with KubernetesApi(state) as server:
        monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig(tmp_path / "kubeconfig")))
        yield server


@pytest.fixture
def cluster(api):
    """A connection to it."""
    with connect("test", QUICK) as connected:
        yield connected


def service(name: str = "speed", **spec: object) -> dict[str, object]:
    """A service that is applied."""
    return {
        "apiVersion": LLM[0],
        "kind": LLM[1],
        "metadata": {"name": name, "namespace": "perf", "labels": {"a": "b"}},
        "spec": {"model": {"uri": "hf://a/b"}} | spec,
    }


def config_map(name: str) -> dict[str, object]:
    """Something small."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "perf"}}


def test_an_object_is_created_found_listed_and_deleted(api: KubernetesApi, cluster: Cluster):
    """What was created is found by name and by label, and is gone once it is deleted."""
    made = cluster.create(service())
    assert made["metadata"]["managedFields"][0]["manager"] == "redline"
    assert cluster.find(*LLM, "perf", "speed") == made
    assert [each["kind"] for each in cluster.listed(*LLM, "perf", labels="a=b")[0]] == ["LLMInferenceService"]
    assert cluster.listed(*LLM, "perf", labels="a=c")[0] == ()
    assert cluster.delete(made)
    assert cluster.find(*LLM, "perf", "speed") is None
    assert not cluster.delete(made)


def test_only_the_very_object_is_deleted(cluster: Cluster):
    """Another object that has taken the name is left alone."""
    first = cluster.create(config_map("x"))
    cluster.delete(first)
    second = cluster.create(config_map("x"))
    assert not cluster.delete(first)
    assert cluster.find("v1", "ConfigMap", "perf", "x") == second


def test_nothing_is_made_over_what_is_there(cluster: Cluster):
    """Creating what exists is refused as a whole, and the object stays as it was."""
    made = cluster.create(service(replicas=1))
    with pytest.raises(ApiRefusalError) as caught:
        cluster.create(service(replicas=2))
    assert caught.value.reason == "AlreadyExists"
    assert cluster.find(*LLM, "perf", "speed") == made


def test_a_missing_role_is_named_as_its_rule(api: KubernetesApi, cluster: Cluster):
    """403 says which rule an administrator has to add."""
    api.forbidden.add(("create", "llminferenceservices"))
    with pytest.raises(ClusterError) as caught:
        cluster.create(service())
    rule = '{apiGroups: ["serving.kserve.io"], resources: ["llminferenceservices"], verbs: ["create"]}'
    assert rule in caught.value.expected
    assert "namespace perf" in caught.value.next_step
    assert api.count("create", "llminferenceservices") == 1


def test_a_quota_is_no_missing_role(api: KubernetesApi, cluster: Cluster):
    """403 by admission says what the rule says, not that a Role is missing."""
    api.faults.append(Fault("create", "llminferenceservices", 403, "Forbidden", "exceeded quota: gpus, used: 8"))
    with pytest.raises(ClusterError, match="refused by policy") as caught:
        cluster.create(service())
    assert "exceeded quota: gpus" in caught.value.found


def test_expired_credentials_are_said_to_be(api: KubernetesApi, tmp_path, monkeypatch):
    """401 says that one has to log in anew, and shows no token."""
    monkeypatch.setenv("KUBECONFIG", str(api.kubeconfig(tmp_path / "stale", token="a-stale-token")))
    with connect("test", QUICK) as cluster, pytest.raises(ClusterError, match="credentials") as caught:
        cluster.find("v1", "Namespace", "", "perf")
    assert "log in" in caught.value.next_step
    assert "a-stale-token" not in str(caught.value)


def test_kserve_that_is_not_installed_is_named(api: KubernetesApi, cluster: Cluster):
    """A kind that the cluster does not know says what to install."""
    api.missing.add(LLM[0])
    with pytest.raises(ClusterError, match="does not know LLMInferenceService") as caught:
        cluster.create(service())
    assert "KServe 0.20" in caught.value.next_step


def test_a_refused_field_is_named(api: KubernetesApi, cluster: Cluster):
    """422 names the field that is wrong."""
    causes = [{"field": "spec.replicas", "message": "must be >= 0", "reason": "FieldValueInvalid"}]
    api.faults.append(
        Fault("create", "llminferenceservices", 422, "Invalid", "speed is invalid", details={"causes": causes})
    )
    with pytest.raises(ClusterError) as caught:
        cluster.create(service())
    assert "spec.replicas" in caught.value.expected
    assert "speed is invalid" in caught.value.found


def test_a_namespace_that_is_not_there_is_said_so(cluster: Cluster):
    """404 on creating is about the namespace, not about the object."""
    lost = service()
    lost["metadata"] = {"name": "speed", "namespace": "elsewhere"}
    with pytest.raises(ClusterError, match="no namespace elsewhere"):
        cluster.create(lost)


@pytest.mark.parametrize("status", [429, 500, 503, 504])
def test_what_passes_is_tried_again(api: KubernetesApi, cluster: Cluster, status: int):
    """Two transient failures are not seen."""
    api.faults.append(Fault("list", "pods", status, "X", times=2, headers={"Retry-After": "0"}))
    assert cluster.listed("v1", "Pod", "perf")[0] == ()
    assert api.count("list", "pods") == 3


@pytest.mark.slow
def test_retry_after_is_waited_for(api: KubernetesApi, cluster: Cluster):
    """A server that says when to come again is asked no sooner."""
    api.faults.append(Fault("list", "pods", 429, "TooManyRequests", times=1, headers={"Retry-After": "1"}))
    started = time.monotonic()
    cluster.listed("v1", "Pod", "perf")
    assert time.monotonic() - started >= 1.0


def test_tries_are_bounded(api: KubernetesApi, cluster: Cluster):
    """A failure that stays is reported, with the server's own words, after a few tries."""
    api.faults.append(Fault("create", "llminferenceservices", 500, "InternalError", "failed calling webhook x.kserve"))
    with pytest.raises(ClusterError, match="could not create") as caught:
        cluster.create(service())
    assert "failed calling webhook" in caught.value.found
    assert api.count("create", "llminferenceservices") == QUICK.try_count_max


@pytest.mark.parametrize("fault", [{"cut": True}, {"hang_s": 60.0, "status": 500}])
def test_a_connection_that_fails_is_tried_again(api: KubernetesApi, fault: dict[str, object]):
    """A cut connection and one that hangs are asked again."""
    api.faults.append(Fault("get", "namespaces", times=1, **fault))
    with connect("test", IMPATIENT) as cluster:
        assert cluster.find("v1", "Namespace", "", "perf") is not None


def test_an_answer_that_was_lost_leaves_the_object(api: KubernetesApi, cluster: Cluster):
    """A creation whose answer is lost is tried again and refused: the caller can see that it is there."""
    api.faults.append(Fault("create", "llminferenceservices", times=1, cut=True, after=True))
    with pytest.raises(ApiRefusalError) as caught:
        cluster.create(service())
    assert caught.value.reason == "AlreadyExists"


def test_nobody_there_is_said_so(tmp_path, monkeypatch):
    """A server that does not listen is named by its address."""
    server = KubernetesApi(State())
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig(tmp_path / "kubeconfig")))
    with server:
        pass
    with connect("test", QUICK) as cluster, pytest.raises(ClusterError, match=r"127\.0\.0\.1:\d+ does not answer"):
        cluster.find("v1", "Namespace", "", "perf")


@pytest.mark.parametrize("status", [200, 418])
def test_a_login_page_is_no_api(api: KubernetesApi, cluster: Cluster, status: int):
    """An answer that is no JSON object is refused, and shown without its control characters."""
    api.faults.append(Fault("get", "namespaces", status, page="<html>\x1b[31mlogin\x00</html>"))
    with pytest.raises(ClusterError) as caught:
        cluster.find("v1", "Namespace", "", "perf")
    assert "login" in caught.value.found
    assert "\x1b" not in str(caught.value)
    assert "\x00" not in str(caught.value)


def test_waiting_ends_with_the_first_change(api: KubernetesApi, cluster: Cluster):
    """A change wakes whoever waits long before the time is over."""
    _, version = cluster.listed("v1", "ConfigMap", "perf")
    timer = threading.Timer(0.1, lambda: api.state.create("configmaps", "perf", {"metadata": {"name": "x"}}))
    timer.start()
    cluster.wait_for_change(cluster.resource("v1", "ConfigMap"), "perf", version, 300.0)
    assert [each["metadata"]["name"] for each in cluster.listed("v1", "ConfigMap", "perf")[0]] == ["x"]


@pytest.mark.parametrize("how", ["expired", "expired in the stream", "forbidden", "cut"])
def test_a_watch_that_fails_only_returns(api: KubernetesApi, cluster: Cluster, how: str):
    """An expired version, a refusal and a cut stream are no errors: whoever waits lists again."""
    _, version = cluster.listed("v1", "Pod", "perf")
    resource = cluster.resource("v1", "Pod")
    if how == "forbidden":
        api.forbidden.add(("watch", "pods"))
    elif how == "cut":
        api.faults.append(Fault("watch", "pods", cut=True))
    elif how == "expired":
        api.state.expire()
    else:
        threading.Timer(0.05, api.state.expire).start()
    cluster.wait_for_change(resource, "perf", version, 0.3)
    deadline = time.monotonic() + 30
    while not api.count("watch", "pods") and time.monotonic() < deadline:
        time.sleep(0.01)  # a server that is late may count it after the wait has ended
    assert api.count("watch", "pods") == 1
    assert int(cluster.listed("v1", "Pod", "perf")[1]) >= int(version)


def test_a_context_that_is_not_there_is_named(api: KubernetesApi):
    """Credentials that are missing say which context, and where they were looked for."""
    with pytest.raises(ClusterError, match="context other") as caught, connect("other"):
        pass
    assert "KUBECONFIG" in caught.value.expected


@pytest.mark.parametrize("text", ["", "[", "just text", '{"apiVersion": "v1", "clusters": 3}'])
def test_a_broken_kubeconfig_is_no_crash(tmp_path, monkeypatch, text: str):
    """Whatever is in the file, the error says that there are no credentials."""
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    monkeypatch.setenv("KUBECONFIG", str(path))
    with pytest.raises(ClusterError, match="no credentials"), connect("test"):
        pass


def test_an_expired_certificate_is_told_apart():
    """An expired certificate is named, and is not what a server that does not answer is called."""
    error = ssl.SSLCertVerificationError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: expired")
    assert "not trusted" in unreachable("https://api", error).problem
    assert "renew" in unreachable("https://api", error).next_step
    assert "does not answer" in unreachable("https://api", TimeoutError("timed out")).problem
