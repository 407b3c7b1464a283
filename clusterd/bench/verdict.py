"""What a report comes to, in sentences: the first is the answer, the others qualify it."""

from collections.abc import Sequence

from clusterd.bench import amounts
from clusterd.bench.figures import Figures, Speedup
from clusterd.bench.results import Report
from clusterd.bench.rows import told

DIED = "died"  # the event of a server that ended by itself
LEFT = "more than 1 % without an answer"
KEPT = 0.99  # share of the rate that a server which keeps up answers
CLOSE = 0.03  # shares that differ by less are said to be alike


def verdict(report: Report, found: Sequence[Figures]) -> list[str]:
    """Sentences about the figures that speak for each side."""
    answered = [one for one in found if one.requests]
    if not answered:
        return [_nothing(report)]
    stood = [one for one in answered if not _death(one)]
    said = _compared(report, stood) if stood else []
    said += [_ending(one) for one in answered if one not in stood]
    said += _failures(answered)
    if report.interrupted or any(one.partial for one in stood):
        said.append("It ended before its time: these are the figures until then.")
    return said


def _compared(report: Report, found: Sequence[Figures]) -> list[str]:
    """Sides whose servers stood it: what died after a moment has won nothing."""
    said = [*_headline(report, found), *_noise(report, found)]
    if not found[0].load.rate:
        said += _latency(found)
    return said + _others(found)


def _death(one: Figures) -> str:
    """How a side's server ended by itself, in any of its turns; "" for one that stood."""
    ends = [event for turn in one.turns for event in turn.events if event.kind == DIED]
    return ends[0].text.partition("\n")[0] or "it ended" if ends else ""


def _ending(one: Figures) -> str:
    until = amounts.rate(one.throughput.median)
    return f"{one.side.name} did not last: {_death(one)}; it answered {until} until then."


def _nothing(report: Report) -> str:
    """With what failed most, and what it said."""
    kinds: dict[str, int] = {}
    texts: dict[str, str] = {}
    for turn in report.turns:
        texts.update(turn.texts)
        for kind, many in turn.errors.items():
            kinds[kind] = kinds.get(kind, 0) + many
    if not kinds:
        return "Nothing was answered."
    most = max(kinds, key=lambda kind: kinds[kind])
    text = f": {texts[most]}" if most in texts else ""
    said = f"Nothing was answered; {amounts.count(kinds[most])} × {most}{text}"
    return said if said.endswith((".", "?", "!")) else f"{said}."


def _gaining(found: Sequence[Figures]) -> tuple[Figures, Speedup] | None:
    """The side with the most workers of those that are compared with fewer of the same."""
    names = {one.side.name for one in found}
    sides = [(one, one.speedup) for one in found if one.speedup and one.speedup.over in names]
    return max(sides, key=lambda pair: pair[0].side.workers, default=None)


def _headline(report: Report, found: Sequence[Figures]) -> list[str]:
    searched = {search.side: search for search in report.searches}
    gaining = _gaining(found)
    if searched:
        return [_search(report, found, gaining)]
    if gaining and gaining[1].throughput:
        return [_speedup(*gaining)]
    first = found[0]
    if first.load.rate:
        rates: dict[float, list[str]] = {}
        for one in found:
            rates.setdefault(one.load.rate, []).append(_slowness(one))
        ends = [f"at {amounts.rate(rate)} {_and(said)}" for rate, said in rates.items()]
        return [f"A{'; '.join(ends)[1:]}."]
    if len(found) == 1:
        rate, p99 = amounts.rate(first.throughput.median), first.percentiles["p99"]
        over = amounts.plural(first.load.connections, "connection")
        how = f", with a p99 of {told(p99)}" if p99.value else f", and leave{_s(first)} {LEFT}"
        return [f"{first.side.name} answer{_s(first)} {rate} over {over}{how}."]
    best = max(found, key=lambda one: one.throughput.median)
    others = [
        f"{amounts.times(one.throughput.median / best.throughput.median)} for {one.side.name}"
        for one in sorted(found, key=lambda one: -one.throughput.median)
        if one is not best
    ]
    rate = amounts.rate(best.throughput.median)
    return [f"{best.side.name} answer{_s(best)} most, {rate}; of that {_and(others)}."]


def _slowness(one: Figures) -> str:
    found = one.percentiles["p99"]
    if found.value is None and one.throughput.median < KEPT * one.load.rate:
        return f"{one.side.name} answer{_s(one)} only {amounts.rate(one.throughput.median)}"
    if found.value is None:
        return f"{one.side.name} leave{_s(one)} {LEFT}"
    return f"{one.side.name} answer{_s(one)} with a p99 of {told(found)}"


def _search(
    report: Report, found: Sequence[Figures], gaining: tuple[Figures, Speedup] | None
) -> str:
    best = max(report.searches, key=lambda search: search.rate)
    if not best.rate:
        return f"No rate keeps {best.slo}."
    if gaining and gaining[1].rate:
        one, speedup = gaining
        rate = amounts.rate(one.load.rate)
        more = f"{amounts.times(speedup.rate)} the rate of {speedup.over}"
        return f"{one.side.name} keep{_s(one)} {best.slo} up to {rate}, {more}."
    parts = [
        f"{s.side} {amounts.rate(s.rate) if s.rate else 'at no rate'}" for s in report.searches
    ]
    return f"{best.slo} is kept up to: {_and(parts)}."


def _speedup(one: Figures, speedup: Speedup) -> str:
    ratio = speedup.throughput
    assert ratio is not None
    who = f"{one.side.name} answer{_s(one)} {amounts.times(ratio.value)} as much as {speedup.over}"
    if speedup.cpu is None:
        return who + "."
    dearer = 1 / speedup.cpu.value
    if abs(dearer - 1) < 0.005:
        return f"{who}, at the same CPU time a request."
    return f"{who}, at {amounts.times(dearer)} the CPU time a request."


def _noise(report: Report, found: Sequence[Figures]) -> list[str]:
    """Whether the speed-up of the first sentence is more than chance."""
    gaining = _gaining(found)
    if gaining and gaining[1].rate:
        return ["How much of that is noise, a search does not say."]
    ratio = gaining[1].throughput if gaining else None
    if ratio is None:
        return []
    if ratio.low is None or ratio.high is None:
        return ["One turn each does not say how much of that is noise."]
    interval = f"{amounts.digits(ratio.low)} – {amounts.times(ratio.high)}"
    if ratio.told:
        return [f"The 95 % interval of that is {interval}."]
    return [f"That is no more than the noise between turns: its 95 % interval is {interval}."]


def _s(one: Figures) -> str:
    """`4 workers answer`, but `gunicorn answers`."""
    return "" if one.side.name.endswith("workers") else "s"


def _latency(found: Sequence[Figures]) -> list[str]:
    """From the fewest workers to the most."""
    gaining = _gaining(found)
    base = next((o for o in found if gaining and o.side.name == gaining[1].over), None)
    if gaining is None or base is None or base.load != gaining[0].load:
        return []
    before, after = base.percentiles["p99"], gaining[0].percentiles["p99"]
    if not before.value or not after.value:
        return []
    change = after.value / before.value
    if abs(change - 1) < CLOSE:
        return [f"p99 stays at {told(after)}."]
    falls = change < 1
    slow, fast = (before, after) if falls else (after, before)
    apart = not slow.low or not fast.high or slow.low > fast.high
    noise = "" if apart else ", which single turns contradict"
    return [f"p99 {'falls' if falls else 'rises'} from {told(before)} to {told(after)}{noise}."]


def _others(found: Sequence[Figures]) -> list[str]:
    """Other servers beside ours with the most workers."""
    gaining = _gaining(found)
    if gaining is None or gaining[0].load.rate:
        return []
    ours = gaining[0]
    others = [one for one in found if one.side.command != ours.side.command]
    parts = [
        f"{one.side.name} {amounts.times(one.throughput.median / ours.throughput.median)}"
        for one in sorted(others, key=lambda one: -one.throughput.median)
    ]
    return (
        [f"Under the same load, of what {ours.side.name} answer: {_and(parts)}."] if parts else []
    )


def _failures(found: Sequence[Figures]) -> list[str]:
    failed, ended = sum(one.failed for one in found), sum(o.requests + o.lost for o in found)
    if not failed:
        lost = sum(one.lost for one in found)
        but = f", but {amounts.count(lost)} were never answered" if lost else ""
        return [f"None of {amounts.plural(ended, 'request')} failed{but}."]
    sides = [
        f"{one.side.name} {amounts.count(one.failed)} ({amounts.percent(one.error_share)})"
        for one in found
        if one.failed
    ]
    return [f"Requests failed: {_and(sides)}."]


def _and(parts: Sequence[str]) -> str:
    """`a, b and c`."""
    *most, last = parts
    return f"{', '.join(most)} and {last}" if most else last
