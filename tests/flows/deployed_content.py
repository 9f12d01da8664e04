"""Content of its own for whole runs of the stand-in: a recipe, tiny scenarios, runner classes of hosts and clusters."""

from __future__ import annotations

from pathlib import Path
from shutil import copytree

from tests.fakes.container_world import DIGEST
from tests.fakes.kubernetes_cluster import NAMESPACE
from tests.fakes.kubernetes_orders import PROXY_IMAGE, ROUTER_IMAGE

ROOT = Path(__file__).parents[2]
REFERENCE = f"registry.example/vllm/vllm-openai-cpu@sha256:{DIGEST}"
IMAGE = f"image:{REFERENCE}"

SCENARIO = """\
description = "A short window, for tests"
recipe = "hub"
request_count = {request_count}
repeat_count = {repeat_count}
discard_count = 0
seed = 1
metrics = ["ttft_s_median"]
routing = "{routing}"

[arrivals]
kind = "server"
process = "constant"
rate_per_s = 40.0

[workload]
kind = "random-tokens"
prompt_tokens = 8
output_tokens = 4
vocabulary_first = 3
vocabulary_last = 100

[limits]
schedule_lag_s_p99_max = 60.0 # how late the client is on a busy machine is not what is tested here
prefix_cache_hit_share_max = 1.0 # the stand-in has no cache
window_s_max = 120.0
"""
REQUEST_COUNT = 20
WATCHED_COUNT = 60
SCENARIOS = {
    "tiny": SCENARIO.format(request_count=REQUEST_COUNT, repeat_count=2, routing="even"),
    "long": SCENARIO.format(request_count=60, repeat_count=1, routing="even"),
    "watched": SCENARIO.format(request_count=WATCHED_COUNT, repeat_count=2, routing="even"),
    "by-prefix": SCENARIO.format(request_count=REQUEST_COUNT, repeat_count=1, routing="prefix-aware"),
}
"""Name -> scenario. A window of `tiny` takes half a second, one of `long` and of `watched` 1.5 s.

`watched` has windows in which the machine is sampled at least twice; one of `long` may be held (`HELD`).
"""

HELD = "held"
"""The file, beside what the stand-ins are asked: see counting_stand_in.py."""

RECIPE = """\
description = "Serves nothing: the stand-in takes any model"
model = "nobody/nothing"
revision = "abc123"
served_model_name = "m"
context_tokens_max = 128
start_s_max = 60.0

[server_args]
cpu = []
cuda = []

[environment.cpu]
STAND_IN_MODE = "ok"
STAND_IN_ASKED = "{asked}"
STAND_IN_WINDOW_HELD = "{held}"

[[placements]]
accelerator = "CPU"
replicas = 2
tensor_parallel = 1
server_args = []
source = "a test"
"""
RUNNER = """\
description = "for tests"
platform = "cpu"
policy = "cpu"
arms_resident_max = 1
foreign_cpu_share_max = 1.0
retry_count_max = 0
memory_bytes_free_min = 0
"""
TWO_REPLICAS = 'accelerator = "CPU"\naccelerator_count = 2\n'
CONTAINER = '[container]\nengine = "docker"\nopen_files_max = 4096\n'
ROUTER = f'router_image = "{ROUTER_IMAGE}"\nproxy_image = "{PROXY_IMAGE}"\n'


def cluster_class(deployer: str, reach: str, *, replicas: int = 2, namespace: str = NAMESPACE, more: str = "") -> str:
    """A runner class of a cluster, as TOML."""
    placed = TWO_REPLICAS if replicas == 2 else ""
    said = f'[cluster]\nnamespace = "{namespace}"\ncontext = "test"\nreach = "{reach}"\n{more}'
    return f'{RUNNER}{placed}deployer = "{deployer}"\n{said}'


CLASSES = {
    "host": RUNNER + CONTAINER,
    "host-2": RUNNER + TWO_REPLICAS + CONTAINER,
    "pods": cluster_class("kserve", "pods"),
    "pod": cluster_class("kserve", "pods", replicas=1),
    "router": cluster_class("kserve", "router", more=ROUTER),
    "router-unpinned": cluster_class("kserve", "router"),
    "elsewhere": cluster_class("kserve", "pods", namespace="nowhere"),
}
"""Name -> runner class."""


def write_content(root: Path, asked: Path) -> Path:
    """All of it in `root`. `asked`: where stand-ins that count note what they are asked."""
    for kind, files in (("scenarios", SCENARIOS), ("recipes", {"hub": RECIPE}), ("runners", CLASSES)):
        (root / kind).mkdir(parents=True)
        for name, text in files.items():
            placed = text.replace("{asked}", str(asked)).replace("{held}", str(asked.with_name(HELD)))
            (root / kind / f"{name}.toml").write_text(placed)
    copytree(ROOT / "checks" / "policies", root / "checks" / "policies")
    return root
