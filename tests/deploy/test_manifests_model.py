"""Where the pods of a cluster find the model, and which addresses are refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from redline.deploy.manifests_model import ModelSource, own_model, provisioned_model
from redline.deploy.manifests_pod import server_args
from redline.errors import UsageError
from tests.deploy.cluster_orders import H200, order_of

REVISION = "b5c939de8f754692c1647ca79fbf85e8c1e70f8a"
PODS = replace(H200, reach="pods")


def order(model="openai/gpt-oss-120b", model_uri="hf://{model}"):
    """An order for a model, in a cluster whose models lie there."""
    return replace(order_of(replace(PODS, model_uri=model_uri)), model=model)


@pytest.mark.parametrize(
    ("model", "model_uri", "uri"),
    [
        ("openai/gpt-oss-120b", "hf://{model}", f"hf://openai/gpt-oss-120b:{REVISION}"),
        ("openai/other", "hf://{model}", "hf://openai/other"),
        ("openai/gpt-oss-120b", "hf://{model}:v1", "hf://openai/gpt-oss-120b:v1"),
        ("openai/gpt-oss-120b", "pvc://models/{model}", "pvc://models/openai/gpt-oss-120b"),
        ("openai/gpt-oss-120b", "pvc://m/{model}/{revision}", f"pvc://m/openai/gpt-oss-120b/{REVISION}"),
        ("openai/gpt-oss-120b", "s3://bucket/{model}", "s3://bucket/openai/gpt-oss-120b"),
        ("openai/gpt-oss-120b", "oci://registry/{model}:1", "oci://registry/openai/gpt-oss-120b:1"),
        ("pvc://claim/folder", "hf://{model}", "pvc://claim/folder"),
    ],
)
def test_kserve_is_given_an_address(model, model_uri, uri):
    """The recipe's model is fetched at its revision; where the cluster keeps models, its own address is taken."""
    assert provisioned_model(order(model, model_uri)) == ModelSource(uri, "/mnt/models")


def test_without_kserve_vllm_fetches_it_or_a_volume_holds_it():
    """The hub's id and revision go to vLLM itself; a claim is mounted, and the path leads into it."""
    fetched = own_model(order())
    assert (fetched.path, fetched.revision, fetched.claim) == ("openai/gpt-oss-120b", REVISION, "")
    assert server_args(order(), fetched)[:4] == ("--model", "openai/gpt-oss-120b", "--revision", REVISION)

    replaced = own_model(order("openai/other"))
    assert "--revision" not in server_args(order("openai/other"), replaced)

    mounted = own_model(order(model_uri="pvc://models/{model}"))
    assert (mounted.path, mounted.claim) == ("/mnt/models/openai/gpt-oss-120b", "models")
    assert own_model(order("pvc://claim")).path == "/mnt/models"


@pytest.mark.parametrize("model", ["/models/llama", "./llama", "~/llama"])
def test_a_directory_is_refused(model):
    """A path means something on this machine only; the message says where a model can lie."""
    with pytest.raises(UsageError, match="directory of this machine") as caught:
        provisioned_model(order(model))
    assert "pvc://" in caught.value.next_step


def test_a_directory_that_hides_a_hub_id_is_refused(tmp_path, monkeypatch):
    """In a directory that holds one of the model's name, the command line would name this machine's."""
    (tmp_path / "openai" / "gpt-oss-120b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for model in ("openai/gpt-oss-120b", "hf://openai/gpt-oss-120b"):
        with pytest.raises(UsageError, match="directory of this machine"):
            own_model(order(model))


@pytest.mark.parametrize(
    ("model", "model_uri"),
    [
        ("openai/m", "ftp://{model}"),
        ("openai/m", "https://host/{model}"),
        ("openai/m", "gs://bucket/{model}"),
        ("openai/m", "{model}"),
        ("gpt2", "hf://{model}"),
        ("a/b/c", "hf://{model}"),
        ("openai/m?x=1", "hf://{model}"),
        ("openai/{{.Name}}", "hf://{model}"),
        ("openai/m\nx", "hf://{model}"),
        ("m", "s3://key:secret@bucket/{model}"),
    ],
)
def test_other_addresses_are_refused(model, model_uri):
    """What KServe does not read, and what could change the manifest, is refused; a password is not repeated."""
    with pytest.raises(UsageError, match="address of a model") as caught:
        provisioned_model(order(model, model_uri))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["s3", "oci"])
def test_what_only_kserve_fetches_is_refused_without_it(scheme):
    """A plain Deployment has nobody to fetch from a bucket."""
    with pytest.raises(UsageError, match="without KServe"):
        own_model(order(model_uri=f"{scheme}://bucket/{{model}}"))
