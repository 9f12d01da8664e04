"""One sentence for each thing that a replay says."""

from __future__ import annotations

from checks.nightly import SuspicionKind
from checks.replay_gaps import Gap
from checks.replay_gate import ReplayedGate
from checks.replay_nightly import NightFinding, Said
from redline.model import Comparison, Finding
from reports import phrases


def night_words(found: NightFinding) -> str:
    """Why the nightly would have said it, of one series on one night."""
    reason = _reason(found)
    return "; ".join(
        [_what(found), *([reason] if reason else []), *(["on record from then on"] if found.recorded else [])]
    )


def _reason(found: NightFinding) -> str:
    reason = ""
    match found.said:
        case Said.IMPROVED:
            pass
        case Said.REGRESSED:
            reason = f"confirmed: {_gate(found)}"
        case Said.ENVIRONMENT:
            reason = f"the environment: {_same_build(found) or _gate(found)}"
        case Said.UNEXPLAINED:
            reason = f"nobody can tell whether the build or the environment: {_gate(found)}"
        case Said.ODD_NIGHT:
            reason = f"moves nothing unless it lasts: {_same_build(found) or _gate(found)}"
        case Said.UNDECIDED:
            reason = f"the recorded pairs do not decide it: {_gate(found)}"
        case Said.SUSPECTED:
            reason = f"a gate would have been run, and none is recorded: {found.build} against {found.last_good_build}"
            reason += "" if found.recorded else "; moves nothing unless it lasts"
    return reason


def _same_build(found: NightFinding) -> str:
    """Why no gate is needed; empty if one is."""
    return f"{found.build} was measured before as well" if found.same_build else ""


def _what(found: NightFinding) -> str:
    """`5.2 % worse since 2026-03-04 (2026-03-03 to 2026-03-05), build B; last good A of 2026-03-02`."""
    direction = "worse" if found.effect > 0 else "better"
    size = f"{phrases.size(abs(found.effect))} {direction}"
    if found.kind is SuspicionKind.DRIFT:
        return f"{size} than the release {found.last_good_build}, slowly: the last nights from {found.first_bad} on"
    since = f"since {found.first_bad}" if found.first_bad != found.date else "tonight"
    if found.earliest != found.latest:
        since += f" (it may have begun from {found.earliest} to {found.latest})"
    return f"{size} {since}, build {found.first_bad_build}; before it {found.last_good_build} of {found.last_good}"


def _gate(found: NightFinding) -> str:
    """What the recorded gate said, of which builds and night."""
    if found.comparison is None:
        return "no gate was recorded"
    return (
        f"{found.build} against {found.last_good_build} on {found.gate_date}, {_judged(found.comparison)}, "
        f"{found.comparison.pair_count} pairs"
    )


def _judged(found: Comparison) -> str:
    return f"{found.finding.value}: {phrases.effect(found)}"


def gap_words(gap: Gap) -> str:
    """What did not run, and until when."""
    nights = "1 night" if gap.night_count == 1 else f"{gap.night_count} nights"
    until = "" if gap.first == gap.last else f" until {gap.last}"
    if not gap.scenario:
        return f"no night ran, {nights} due{until}"
    what = "the scenario" if not gap.metric else "the metric"
    return f"{what} has no reading on {nights} that measured others{until}"


def gate_words(gate: ReplayedGate) -> str:
    """Why the gate ended as it did, and after how many pairs."""
    primaries = [each for each in gate.comparisons if each.primary]
    deciding = [each for each in primaries if each.finding is gate.finding] or primaries
    named = "; ".join(
        f"{each.scenario} {phrases.metric_label(each.metric)} {phrases.effect(each)}" for each in deciding
    )
    stopped = f"stopped after {gate.pair_count} of {gate.pairs_recorded} recorded pairs"
    if gate.finding is Finding.INCONCLUSIVE and gate.pair_count < gate.pair_limit:
        stopped = f"undecided after all {gate.pair_count} recorded pairs; the gate would go on to {gate.pair_limit}"
    elif gate.finding is Finding.INCONCLUSIVE:
        stopped = f"undecided at its last pair, {gate.pair_count}"
    left_out = f"; too few deployments of {', '.join(' '.join(key) for key in gate.left_out)}" if gate.left_out else ""
    return f"{stopped}: {named}{left_out}" if named else f"{stopped}{left_out}"
