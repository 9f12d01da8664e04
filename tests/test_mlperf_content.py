"""The workloads of MLPerf as content files: every figure agrees with a table that was typed again from the sources."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from checks.policy import Policy
from redline import content
from redline.load import loadgen
from redline.mlperf import ROUND_SEEDS
from redline.model import DatasetItems, MlperfRules, Offline, RunnerClass, Scenario, Server, in_flight_max
from redline.scoring.scorers import scorer

CHECKOUT = Path(__file__).resolve().parents[1]
STAND_IN = CHECKOUT / "datasets" / "stand-in"
DURATION_S_MIN = 600.0


@dataclass(frozen=True, slots=True)
class Expected:
    """One whole performance scenario: rules, lengths, and the run on record that it is sized for.

    `rate_per_s`: of the arrivals, or that Offline is sized by; `machine`: (accelerator, how many), None where no run
    of this recipe is on record at that rate.
    """

    recipe: str
    dataset: str
    benchmark: str
    round: str
    sample_count: int
    output_tokens: tuple[int, int]
    temperature: float = 0.0
    unit: str = "tokens/s"
    query_count_min: int = 100
    rate_per_s: float = 0.0
    request_count: int = 0
    machine: tuple[str, int] | None = None
    ttft_s: float | None = None
    tpot_s: float | None = None
    e2e_s: float | None = None

    def run(self, rate_per_s: float, request_count: int, machine: tuple[str, int] | None, **rules: Any) -> Expected:
        """The same benchmark at a rate."""
        return replace(self, rate_per_s=rate_per_s, request_count=request_count, machine=machine, **rules)


GPTJ = Expected("gpt-j-6b", "cnn-dailymail-gptj", "gptj-99.9", "v4.0", 13368, (30, 128), unit="samples/s")
LLAMA2 = Expected("llama-2-70b", "open-orca-llama2", "llama2-70b-99.9", "v6.0", 24576, (1, 1024))
LLAMA3 = Expected("llama-3.1-8b", "cnn-dailymail-llama3", "llama3.1-8b", "v6.0", 13368, (1, 128))
WHISPER = Expected("whisper-large-v3", "librispeech-whisper", "whisper", "v6.0", 1633, (0, 200))
QWEN = Expected(
    "qwen3-vl-235b-a22b", "shopify-qwen3-vl", "qwen3-vl-235b-a22b", "v6.0", 48289, (0, 150), 1.0, "queries/s"
)
GPT_OSS = Expected("gpt-oss-120b", "gpt-oss-perf", "gpt-oss-120b", "v6.0", 6396, (0, 10240), 1.0)

FULL = {
    "gptj-offline": GPTJ.run(138.338, 93576, ("H100", 8), query_count_min=24576),
    "gptj-server": GPTJ.run(127.0, 80208, ("H100", 8), e2e_s=20.0),
    "llama2-70b-offline": LLAMA2.run(11.7237, 24576, ("H100 PCIe", 8), query_count_min=24576),
    "llama2-70b-server": LLAMA2.run(7.5, 24576, ("H100 PCIe", 8), ttft_s=2.0, tpot_s=0.2),
    "llama2-70b-interactive": LLAMA2.run(29.5, 24576, None, ttft_s=0.45, tpot_s=0.04),
    "llama3.1-8b-offline": LLAMA3.run(43.64, 40104, ("H100", 1), query_count_min=13368),
    "llama3.1-8b-server": LLAMA3.run(39.5, 26736, ("H100", 1), ttft_s=2.0, tpot_s=0.1),
    "llama3.1-8b-interactive": LLAMA3.run(20.0, 13368, None, ttft_s=0.5, tpot_s=0.03),
    "whisper-offline": WHISPER.run(485.582, 321701, ("H200", 8), query_count_min=1633),
    "qwen3-vl-offline": QWEN.run(18.218, 48289, ("H200", 8), query_count_min=48289, unit="samples/s"),
    "qwen3-vl-server": QWEN.run(11.0, 48289, ("H200", 8), query_count_min=48289, e2e_s=12.0),
    "qwen3-vl-interactive": QWEN.run(2.75, 8000, None, round="v6.1", sample_count=8000, e2e_s=1.5),
    "gpt-oss-offline": GPT_OSS.run(16.0, 12792, ("H200", 8), query_count_min=6396),
    "gpt-oss-server": GPT_OSS.run(18.25, 12792, ("H200", 8), ttft_s=3.0, tpot_s=0.08),
    "gpt-oss-interactive": GPT_OSS.run(9.0, 6396, None, ttft_s=2.0, tpot_s=0.015),
}

# Server in published logs: round, target_qps, min_query_count, samples, "Scheduled samples per second".
PUBLISHED = {
    "llama2-70b, 8 x H100-PCIe": ("v4.0", 7.5, 100, 24576, 7.48),
    "llama2-70b, 4 x L40S": ("v4.1", 5.0, 100, 24576, 5.01),
    "llama3.1-8b, 1 x H100": ("v5.1", 39.5, 100, 13368, 39.64),
    "llama3.1-8b, 1 x L40S": ("v5.1", 9.3, 100, 13368, 9.37),
    "llama2-70b, 8 x MI350X": ("v6.0", 281.0, 100, 24576, 281.68),
    "gpt-oss-120b, 8 x MI350X": ("v6.0", 45.0, 100, 6396, 45.37),
    "qwen3-vl-235b-a22b, 8 x H200": ("v6.0", 11.0, 48289, 48289, 11.05),
}

# dataset, items, output tokens, references, share_min, share_min_of, share_max_of
ACCURACY = {
    "gptj-accuracy": (
        *("cnn-dailymail-gptj", 13368, 128),
        {"rouge1": 43.0965, "rouge2": 19.0375, "rougeL": 29.1508, "gen_len": 4556299},  # greedy, as published
        *(0.99, {"gen_len": 0.9}, {}),
    ),
    "llama2-70b-accuracy": (
        *("open-orca-llama2", 24576, 1024),
        {"rouge1": 44.4312, "rouge2": 22.0352, "rougeL": 28.6162, "tokens_per_sample": 294.45},
        *(0.999, {"tokens_per_sample": 0.9}, {"tokens_per_sample": 1.1}),
    ),
    "llama3.1-8b-accuracy": (
        *("cnn-dailymail-llama3", 13368, 128),
        {"rouge1": 38.7792, "rouge2": 15.9075, "rougeL": 24.4957, "rougeLsum": 35.793, "gen_len": 8167644},
        *(0.99, {"gen_len": 0.9}, {"gen_len": 1.1}),
    ),
    "whisper-accuracy": ("librispeech-whisper", 1633, 200, {"accuracy": 97.9329}, 0.99, {}, {}),
    "qwen3-vl-accuracy": ("shopify-qwen3-vl", 48289, 150, {"f1_hierarchical": 0.7903}, 0.99, {}, {}),
    "gpt-oss-accuracy": ("gpt-oss-accuracy", 4395, 32768, {"exact_match": 83.13}, 0.99, {}, {}),
}

MODELS = ("gptj", "llama2-70b", "llama3.1-8b", "whisper", "qwen3-vl", "gpt-oss")
RECIPES = ("gpt-j-6b", "llama-2-70b", "llama-3.1-8b", "whisper-large-v3", "qwen3-vl-235b-a22b", "gpt-oss-120b")
STAND_INS = {"gptj": 24, "llama2": 24, "gpt-oss": 24, "qwen3-vl": 24, "whisper": 10}

SCENARIOS = {path.stem: content.scenario(path) for path in sorted((CHECKOUT / "scenarios").glob("*.toml"))}
MLPERF = {name: scenario for name, scenario in SCENARIOS.items() if scenario.mlperf is not None}


def recipe(name):
    """A recipe of this repository."""
    return content.recipe(CHECKOUT / "recipes" / f"{name}.toml")


def rules_of(scenario: Scenario) -> MlperfRules:
    """The rules that the scenario follows."""
    assert scenario.mlperf is not None
    return scenario.mlperf


def items_of(scenario: Scenario) -> DatasetItems:
    """The items that the scenario asks."""
    assert isinstance(scenario.workload, DatasetItems)
    return scenario.workload


def machine(accelerator: str, count: int) -> RunnerClass:
    """A runner class with these accelerators."""
    platform = "rocm" if accelerator.startswith("MI") else "cuda"
    common = {"arms_resident_max": 1, "foreign_cpu_share_max": 0.05, "retry_count_max": 6, "memory_bytes_free_min": 0}
    return RunnerClass("m", "m", platform, "gpu", **common, accelerator=accelerator, accelerator_count=count)


def loadgen_count(scenario: Scenario, rate_per_s: float) -> int:
    """How many requests LoadGen would issue in equal-issue mode."""
    rules, items = rules_of(scenario), items_of(scenario).item_count
    if isinstance(scenario.arrivals, Offline):
        return loadgen.offline_sample_count(rate_per_s, rules.duration_s_min, rules.query_count_min, items)
    seed = ROUND_SEEDS[rules.round].schedule
    return loadgen.server_query_count(rate_per_s, rules.duration_s_min, rules.query_count_min, seed, items)


# --- the whole scenarios -------------------------------------------------------------------------------------------


def test_there_is_every_scenario():
    """Each workload has its whole scenarios, a short form of each, and no other."""
    whole = set(FULL) | set(ACCURACY)
    assert {name for name in MLPERF if "-stand-in-" not in name} == whole | {f"{name}-ci" for name in whole}


@pytest.mark.parametrize("name", FULL)
def test_performance_follows_the_rules(name):
    """Benchmark, round, counts, unit, lengths and limits are MLPerf's; one run, nothing thrown away."""
    expected, scenario = FULL[name], SCENARIOS[name]
    rules, items = rules_of(scenario), items_of(scenario)
    assert (scenario.recipe, items.dataset) == (expected.recipe, expected.dataset)
    assert (rules.benchmark, rules.round, rules.unit) == (expected.benchmark, expected.round, expected.unit)
    assert (rules.sample_count, items.item_count) == (expected.sample_count, expected.sample_count)
    assert (rules.query_count_min, rules.duration_s_min) == (expected.query_count_min, DURATION_S_MIN)
    assert (items.output_tokens_min, items.output_tokens_max) == expected.output_tokens
    assert (items.temperature, items.top_p, items.order) == (expected.temperature, 1.0, "loadgen")
    limits = (rules.ttft_s_p99_max, rules.tpot_s_p99_max, rules.e2e_s_p99_max)
    assert limits == (expected.ttft_s, expected.tpot_s, expected.e2e_s)
    assert rules.interactive == name.endswith("-interactive")
    assert (scenario.repeat_count, scenario.discard_count, rules.shortened) == (1, 0, "")
    assert scenario.accuracy is None


@pytest.mark.parametrize("name", FULL)
def test_performance_is_sized_as_loadgen_does(name):
    """The requests are whole passes over the set, as many as LoadGen issues at the rate, and fit in the window."""
    expected, scenario = FULL[name], SCENARIOS[name]
    assert scenario.request_count == expected.request_count == loadgen_count(scenario, expected.rate_per_s)
    assert scenario.request_count % expected.sample_count == 0
    if isinstance(scenario.arrivals, Server):
        assert (scenario.arrivals.rate_per_s, scenario.arrivals.process) == (expected.rate_per_s, "loadgen")
        seed = ROUND_SEEDS[expected.round].schedule
        last_ns = loadgen.server_offsets_ns(scenario.request_count, expected.rate_per_s, seed)[-1]
        assert DURATION_S_MIN <= last_ns / 1e9 < scenario.limits.window_s_max


@pytest.mark.parametrize("name", [name for name, expected in FULL.items() if expected.machine])
def test_performance_is_at_the_placements_rate(name):
    """The scenario stands in the file as it would be run on the machine that its description names."""
    expected = FULL[name]
    assert expected.machine is not None
    accelerator, count = expected.machine
    placement = recipe(expected.recipe).placement_on(machine(accelerator, count), SCENARIOS[name])
    assert placement is not None
    assert placement.rate_per_s == expected.rate_per_s
    assert f"{count} x {accelerator}" in SCENARIOS[name].description


@pytest.mark.parametrize("name", ACCURACY)
def test_accuracy_asks_each_item_once(name):
    """The accuracy scenarios ask the whole set once and want the checker's figures."""
    dataset, count, output_tokens_max, reference, share_min, share_min_of, share_max_of = ACCURACY[name]
    scenario = SCENARIOS[name]
    items, target, rules = items_of(scenario), scenario.accuracy, rules_of(scenario)
    assert (items.dataset, items.item_count, items.output_tokens_max) == (dataset, count, output_tokens_max)
    assert scenario.request_count == rules.sample_count == count
    assert (rules.duration_s_min, rules.shortened) == (0.0, "")
    assert (dict(target.reference), target.share_min) == (reference, share_min)
    assert (dict(target.share_min_of), dict(target.share_max_of)) == (share_min_of, share_max_of)
    assert scenario.metrics == ("item_score",)


def test_gptj_says_what_greedy_decoding_costs():
    """GPT-J is not searched with beams, and every one of its scenarios says so with the figures on record."""
    for name in ("gptj-offline", "gptj-server", "gptj-accuracy", "gptj-accuracy-ci"):
        assert any("94.60 %" in text and "Open division" in text for text in rules_of(SCENARIOS[name]).deviations)


def test_seeds_are_the_rounds():
    """The seeds of six rounds, as MLCommons published them."""
    assert {name: (each.qsl, each.sample_index, each.schedule) for name, each in ROUND_SEEDS.items()} == {
        "v4.0": (13281865557512327830, 198141574272810017, 7575108116881280410),
        "v4.1": (3066443479025735752, 10688027786191513374, 14962580496156340209),
        "v5.0": (6023615788873153749, 15036839855038426416, 9933818062894767841),
        "v5.1": (1780908523862526354, 14771362308971278857, 18209322760996052031),
        "v6.0": (2465351861681999779, 14276810075590677512, 3936089224930324775),
        "v6.1": (2085463073848966840, 2747215439041700203, 16159082839903944936),
    }


@pytest.mark.parametrize("submission", PUBLISHED)
def test_the_schedule_is_that_of_published_runs(submission):
    """Count and due times of these seeds give the rate that submissions' LoadGen logs say was scheduled."""
    round_name, rate_per_s, query_count_min, sample_count, scheduled_per_s = PUBLISHED[submission]
    seed = ROUND_SEEDS[round_name].schedule
    count = loadgen.server_query_count(rate_per_s, DURATION_S_MIN, query_count_min, seed, sample_count)
    last_ns = loadgen.server_offsets_ns(count, rate_per_s, seed)[-1]
    assert round((count - 1) / (last_ns / 1e9), 2) == scheduled_per_s


# --- their short forms, and the stand-ins --------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*FULL, *ACCURACY])
def test_short_forms_say_so(name):
    """The form for the CI is the same work under the same rules, shorter, and says that it is."""
    whole, short = SCENARIOS[name], SCENARIOS[f"{name}-ci"]
    rules = rules_of(short)
    assert str(short.request_count) in rules.shortened
    assert 200 <= short.request_count <= 1000
    assert items_of(short).item_count == short.request_count
    assert (short.recipe, short.metrics) == (whole.recipe, whole.metrics)
    assert items_of(short).output_tokens_max == items_of(whole).output_tokens_max
    assert replace(rules_of(whole), shortened=rules.shortened, deviations=rules.deviations) == rules
    if whole.accuracy is None:
        assert (short.repeat_count, short.discard_count) == (3, 1)
    else:
        assert short.accuracy.reference.items() <= whole.accuracy.reference.items()
        assert 0.9 <= short.accuracy.share_min < whole.accuracy.share_min


@pytest.mark.parametrize("model", STAND_INS)
def test_stand_ins_ask_all_they_know(model):
    """A stand-in is asked what is committed, in whole passes, with at most 144 requests, and says what it is."""
    kinds = ("offline", "accuracy") if model == "whisper" else ("offline", "server", "accuracy")
    found = {name for name, scenario in SCENARIOS.items() if scenario.recipe == f"{model}-stand-in"}
    assert found == {f"{model}-stand-in-{kind}" for kind in kinds}
    for name in found:
        scenario, items = SCENARIOS[name], items_of(SCENARIOS[name])
        definition = content.dataset(CHECKOUT / "datasets" / f"{items.dataset}.toml")
        assert definition.item_count == items.item_count == rules_of(scenario).sample_count == STAND_INS[model]
        assert (scenario.request_count % items.item_count, scenario.request_count <= 144) == (0, True)
        assert rules_of(scenario).shortened.startswith("a stand-in of ")
        if scenario.accuracy is None:
            assert (scenario.repeat_count, scenario.discard_count) == (3, 1)


def stand_in_answers(model: str) -> list[tuple[str, str]]:
    """(exact answer, reference) of every committed item."""
    if model == "whisper":
        manifest = json.loads((STAND_IN / "speech" / "dev-all-repack.json").read_text())
        return [(row["transcript"], row["transcript"]) for row in manifest]
    file, answer, reference = {
        "gptj": ("articles", "highlights", "highlights"),
        "llama2": ("open_orca", "response", "response"),
        "gpt-oss": ("reasoning", "answer", "reference"),
        "qwen3-vl": ("products", "", ""),
    }[model]
    rows = [json.loads(line) for line in (STAND_IN / f"{file}.jsonl").read_text().splitlines()]
    if model == "qwen3-vl":
        named = [{name: row[f"ground_truth_{name}"] for name in ("category", "brand", "is_secondhand")} for row in rows]
        return [(json.dumps(each), json.dumps(each)) for each in named]
    return [(row[answer], row[reference]) for row in rows]


@pytest.mark.parametrize("model", STAND_INS)
def test_stand_in_targets_are_what_exact_answers_get(model):
    """The reference figures of a stand-in are what its data set's scorer gives for the answers it learned."""
    scenario = SCENARIOS[f"{model}-stand-in-accuracy"]
    judge = scorer(content.dataset(CHECKOUT / "datasets" / f"{items_of(scenario).dataset}.toml").scorer)
    answers = stand_in_answers(model)
    assert len(answers) == STAND_INS[model]
    figures = judge.corpus([judge.item(answer, reference) for answer, reference in answers], [1] * len(answers))
    for name, value in scenario.accuracy.reference.items():
        assert figures[name] == pytest.approx(value)


# --- recipes and suites --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECIPES)
def test_placements_have_a_source(name):
    """Every placement says whose values it has, keeps the prefix cache off, and its JSON arguments are JSON."""
    found = recipe(name)
    assert found.placements
    assert set(found.server_args) == {"cuda", "rocm"}
    for placement in found.placements:
        assert placement.source.startswith(("MLPerf Inference v", "vllm-project/recipes"))
        runner_class = machine(placement.accelerator, placement.accelerator_count)
        for scenario in (each for each in SCENARIOS.values() if each.recipe == name):
            placed = found.placed(runner_class, scenario).server_args[runner_class.platform]
            assert "--no-enable-prefix-caching" in placed
            assert ("--tensor-parallel-size" in placed) == (placement.tensor_parallel > 1)
        for argument in placement.server_args:
            assert not argument.startswith("{") or json.loads(argument)


def test_flags_that_a_model_needs():
    """Whisper's decoder holds 448 tokens and is asked to transcribe; pictures come anew in every window."""
    found = recipe("whisper-large-v3")
    assert (found.context_tokens_max, found.serves) == (448, "transcriptions")
    assert "--mm-processor-cache-gb 0" in " ".join(recipe("qwen3-vl-235b-a22b").server_args["cuda"])


@pytest.mark.parametrize("name", MLPERF)
def test_placed_scenarios_fit_in_their_window(name):
    """At every placement's rate the last request is due within the window."""
    scenario = SCENARIOS[name]
    rules = rules_of(scenario)
    if not isinstance(scenario.arrivals, Server) or rules.interactive:
        return
    placements = [each for each in recipe(scenario.recipe).placements if each.arrivals in ("", "server")]
    for rate_per_s in {scenario.arrivals.rate_per_s} | {each.rate_per_s for each in placements if each.rate_per_s}:
        count = scenario.request_count if rules.shortened else loadgen_count(scenario, rate_per_s)
        last_ns = loadgen.server_offsets_ns(count, rate_per_s, ROUND_SEEDS[rules.round].schedule)[-1]
        assert last_ns / 1e9 < scenario.limits.window_s_max


@pytest.mark.parametrize("name", MLPERF)
def test_scenarios_name_what_exists(name):
    """Recipe and data set exist, the set is large enough, and its scorer reports the figures that are asked for."""
    scenario = SCENARIOS[name]
    items = items_of(scenario)
    assert (CHECKOUT / "recipes" / f"{scenario.recipe}.toml").is_file()
    definition = content.dataset(CHECKOUT / "datasets" / f"{items.dataset}.toml")
    assert items.item_count <= definition.item_count
    bound = in_flight_max(scenario.arrivals)
    assert bound is None or bound <= scenario.request_count
    if scenario.accuracy is None:
        return
    judge = scorer(definition.scorer)
    sample = {"rouge": ("a b", "a b"), "word-errors": ("a", "a"), "final-answer": ("\\boxed{1}", "aime:1")}
    answer, reference = sample.get(judge.name, ('{"category": "A", "brand": "b", "is_secondhand": false}',) * 2)
    assert scenario.accuracy.reference.keys() <= judge.corpus([judge.item(answer, reference)], [1]).keys()


@pytest.mark.parametrize("name", sorted(path.stem for path in (CHECKOUT / "suites").glob("*.toml")))
def test_suites_can_be_judged(name):
    """A suite's scenarios exist, and both policies know all its metrics and judge one to six of them as primary."""
    suite = content.suite(CHECKOUT / "suites" / f"{name}.toml")
    speed = [SCENARIOS[each] for each in suite.scenarios if not SCENARIOS[each].measures_accuracy]
    keys = [(scenario.name, metric) for scenario in speed for metric in scenario.metrics]
    for path in sorted((CHECKOUT / "checks" / "policies").glob("*.toml")):
        policy = content.load(path, Policy)
        assert policy.missing([metric for _, metric in keys]) == ()
        assert policy.primaries(keys)


def test_every_model_has_its_suite():
    """One suite for each model, whole: accuracy, Offline and, where MLPerf has it, Server."""
    for model in MODELS:
        kinds = [kind for kind in ("accuracy", "offline", "server") if f"{model}-{kind}" in SCENARIOS]
        suite = content.suite(CHECKOUT / "suites" / f"mlperf-{model}.toml")
        assert suite.scenarios == tuple(f"{model}-{kind}" for kind in kinds)


def test_the_page_names_everything():
    """docs/workloads.md names every recipe, scenario and suite of MLPerf's."""
    text = (CHECKOUT / "docs" / "workloads.md").read_text()
    suites = (path.stem for path in (CHECKOUT / "suites").glob("*.toml"))
    wanted = [*RECIPES, *FULL, *ACCURACY, *suites, *(f"{model}-stand-in" for model in STAND_INS)]
    assert [name for name in wanted if f"`{name}`" not in text] == []
