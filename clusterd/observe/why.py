"""What `clusterd why` tells: the journal's events put together to stories, newest first. Pure."""

import textwrap
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from clusterd.core.stacks import fold
from clusterd.core.terminal import clean
from clusterd.core.units import show_seconds
from clusterd.observe import causes
from clusterd.observe.causes import Reading
from clusterd.observe.snapshot import MAIN

Event = Mapping[str, Any]
DOING = frozenset({"dumped", "blocked", "busy", "stalled", "worker_failed", "zygote_failed"})
DOING_NOW = "What it was doing"
NEAR = 120.0  # seconds before its end within which a dump still tells what a worker was doing
MOST_LINES = 40  # of stacks
REPAIR = "Repair it and start again; 'clusterd check' looks at app and settings."
WIDTH = 80  # columns that sentences are wrapped to


class Story(NamedTuple):
    """One end, and what is known of it."""

    n: int  # the event's number
    time: float  # wall clock, seconds
    kind: str  # worker, zygote, rollout or cluster
    group: str
    headline: str
    slot: int | None = None
    generation: int | None = None
    pid: int | None = None
    lived: float | None = None  # seconds
    meaning: str = ""
    then: str = ""  # what the cluster did
    doing: str = ""  # stacks or a traceback
    doing_is: str = DOING_NOW  # what that shows
    doing_before: float = 0.0  # seconds that they are older than the end
    said: Sequence[str] = ()  # its last log lines
    remedy: str = ""


def stories(events: Sequence[Event], slot: int | None = None, group: str = "") -> list[Story]:
    """The ends in a journal, newest first; only of one slot, or group, where that is asked for."""
    found = []
    for place, event in enumerate(events):
        tell = TELLERS.get(str(event.get("kind")))
        if tell is None or (group and event.get("group", MAIN) != group):
            continue
        if slot is not None and event.get("slot") != slot:
            continue
        story = tell(event, events, place)
        if story is not None:
            found.append(story)
    return found[::-1]


def _worker(event: Event, events: Sequence[Event], place: int) -> Story | None:
    """A worker's end; None where it was only asked to leave, and did."""
    before = _of_process(event, events[:place])
    reading = _reading(event, before)
    if reading is None:
        return None
    doing, age, what = _doing(event, before)
    return Story(
        **_common(event, "worker"),
        headline=reading.headline,
        lived=event.get("uptime"),
        meaning=reading.meaning,
        then=_then(event, events, place),
        doing=doing,
        doing_is=what,
        doing_before=age,
        remedy=str(event.get("remedy") or reading.remedy),
    )


def _reading(event: Event, before: Sequence[Event]) -> Reading | None:
    """Why it ended: the surest cause that the events before its end give."""
    last = {str(one["kind"]): one for one in before}
    cause, code = str(event.get("cause", "")), int(event.get("code") or 0)
    if event.get("oom"):
        seen = cause.partition(": ")[2]
        return causes.OOM._replace(meaning=f"{causes.OOM.meaning} What was seen: {seen}.")
    leaving = last.get("leaving")
    condition = leaving is not None and not leaving.get("recycle")
    if condition and str(leaving and leaving["reason"]).split(" ")[0].rstrip(":") in OWN_CAUSES:
        return causes.replaced(str(leaving and leaving["reason"]))
    if "breach" in last:
        return causes.breached(str(last["breach"].get("reason", "")))
    if "killed" in last:
        return causes.killed(str(last["killed"].get("reason", "")))
    if "worker_failed" in last:
        return causes.failed(last["worker_failed"])
    if not event.get("asked"):
        return causes.ended(code, cause)
    return None


OWN_CAUSES = frozenset(causes.CONDITIONS)


def _zygote(event: Event, events: Sequence[Event], place: int) -> Story | None:
    before = _of_process(event, events[:place])
    killed = next((one for one in before if one["kind"] == "killed"), None)
    failed = next((one for one in before if one["kind"] == "zygote_failed"), None)
    breach = next((one for one in before if one["kind"] == "breach"), None)
    if breach is not None:
        reading = causes.breached(str(breach.get("reason", "")))
    elif killed is not None:
        reading = causes.killed(str(killed.get("reason", "")))
    elif failed is not None:
        if any(_is_end_of(one, event) for one in events):
            return None  # the story of the whole rollout says it all
        reading = causes.failed(failed)
    elif event.get("asked"):
        return None
    else:
        reading = causes.ended(int(event.get("code") or 0), str(event.get("cause", "")))
    born = next((one for one in before if one["kind"] == "zygote_spawned"), None)
    doing, age, what = _doing(event, before)
    return Story(
        **_common(event, "zygote"),
        headline=reading.headline,
        lived=_between(born, event) if born else None,
        meaning=reading.meaning,
        then="Workers that run are not touched by it; another is started when one is needed.",
        doing=doing,
        doing_is=what,
        doing_before=age,
        remedy=str(event.get("remedy") or reading.remedy),
    )


def _is_end_of(one: Event, event: Event) -> bool:
    """Did the rollout, or the start, end over this zygote?"""
    same = one.get("generation") == event.get("generation")
    return one["kind"] == "gave_up" or (one["kind"] == "rollout_failed" and same)


def _rollout(event: Event, events: Sequence[Event], place: int) -> Story | None:
    reason = str(event.get("reason", ""))
    if reason in ("paused", "the cluster is stopping"):
        return None
    serving = event.get("serving")
    return Story(
        **_common(event, "rollout"),
        headline=f"did not come up: {reason}",
        then=f"Generation {serving} serves on." if serving is not None else "",
        doing=str(event.get("traceback") or ""),
        doing_is="Where it failed",
        remedy=str(event.get("remedy") or "Repair it, then 'clusterd reload --wait'."),
    )


def _refused(event: Event, events: Sequence[Event], place: int) -> Story:
    return Story(
        **_common(event, "rollout"),
        headline=f"a reload was refused: {event.get('reason', '')}",
        then="Nothing was changed.",
        remedy=str(event.get("remedy") or "'clusterd config' shows what is read from where."),
    )


def _gave_up(event: Event, events: Sequence[Event], place: int) -> Story:
    return Story(
        **_common(event, "cluster"),
        headline=f"gave up: {event.get('reason', '')}",
        meaning="No worker ever became ready, so there was nothing to keep up.",
        doing=str(event.get("traceback") or ""),
        doing_is="Where it failed",
        remedy=str(event.get("remedy") or REPAIR),
    )


TELLERS: dict[str, Callable[[Event, Sequence[Event], int], Story | None]] = {
    "exited": _worker,
    "zygote_exited": _zygote,
    "rollout_failed": _rollout,
    "reload_refused": _refused,
    "gave_up": _gave_up,
}


def _common(event: Event, kind: str) -> dict[str, Any]:
    identity = {key: event.get(key) for key in ("slot", "generation", "pid")}
    return {"n": event["n"], "time": float(event.get("time", 0.0)), "kind": kind,
            "group": str(event.get("group", MAIN)), **identity}  # fmt: skip


def _of_process(event: Event, earlier: Sequence[Event]) -> list[Event]:
    """What is told of the same process, oldest first. A pid is given out again: to others."""
    same = ("pid", "generation")
    return [one for one in earlier if all(one.get(key) == event.get(key) for key in same)]


def _doing(event: Event, before: Sequence[Event]) -> tuple[str, float, str]:
    """The last stacks of it, how much older than its end they are, and what they show."""
    for one in reversed(before):
        age, said = _between(one, event), one["kind"] in ("worker_failed", "zygote_failed")
        if age > NEAR and not said:
            break
        if one["kind"] in DOING and one.get("traceback"):
            return str(one["traceback"]).rstrip(), age, _shows(one)
    return "", 0.0, DOING_NOW


def _shows(event: Event) -> str:
    """What the text of an event is."""
    if event["kind"] not in ("worker_failed", "zygote_failed"):
        return DOING_NOW
    return "What it printed last" if event.get("stage") == "command" else "Where it failed"


def _then(event: Event, events: Sequence[Event], place: int) -> str:
    """What the cluster did about it."""
    key = ("group", "slot")
    same = [one for one in events if all(one.get(part) == event.get(part) for part in key)]
    said = []
    after = [one for one in same if one["n"] > event["n"]]
    failed = _failed_rollout(event, events[place:])
    if failed is not None and not _took_a_place(event, same):
        return f"Nothing was replaced: generation {failed.get('serving')} serves on."
    early = _successor_before(event, same)
    if early is not None:
        return f"Process {early['pid']} had taken its place {show_seconds(_between(early, event))}"\
            " before."  # fmt: skip
    backed = next((one for one in after[:2] if one["kind"] == "backed_off"), None)
    if backed is not None:
        said.append(
            f"Since it was early death number {backed.get('deaths', '?')} in a row, the next "
            f"try waited {show_seconds(float(backed.get('retry_in', 0)))}."
        )
    back = next((one for one in after if one["kind"] == "readied"), None)
    if back is not None:
        said.append(f"Replaced by process {back['pid']} after {_short(_between(event, back))}.")
    elif any(one["kind"] == "stopping" for one in events[place:]):
        said.append("The cluster was stopped before it was replaced.")
    else:
        said.append("It is not replaced yet.")
    return " ".join(said)


def _failed_rollout(event: Event, later: Sequence[Event]) -> Event | None:
    """Return the end of the rollout that a worker belonged to, if that failed."""
    key = ("group", "generation")
    return next(
        (
            one
            for one in later
            if one["kind"] == "rollout_failed" and all(one.get(k) == event.get(k) for k in key)
        ),
        None,
    )


def _took_a_place(event: Event, same: Sequence[Event]) -> bool:
    """Return whether a worker of a rollout had replaced the one in its slot before it ended.

    A canary has not: it runs beside the old worker of its slot.
    """
    born = [one for one in same if one["kind"] == "spawned" and one["n"] < event["n"]]
    mine = [one for one in born if one.get("generation") == event.get("generation")]
    since = mine[-1]["n"] if mine else 0
    return any(
        one["kind"] == "retired" and since < one["n"] < event["n"]
        for one in same
        if one.get("pid") != event.get("pid")
    )


def _successor_before(event: Event, same: Sequence[Event]) -> Event | None:
    """The worker that was ready in its slot before it was gone."""
    asked = [
        one
        for one in same
        if one["kind"] in ("leaving", "retired") and one.get("pid") == event.get("pid")
    ]
    if not asked:
        return None
    return next(
        (
            one
            for one in same
            if one["kind"] == "readied"
            and asked[0]["n"] - 1000 < one["n"] < event["n"]
            and one["n"] > asked[0]["n"]
            and one.get("pid") != event.get("pid")
        ),
        None,
    )


def _between(first: Event, second: Event) -> float:
    return max(0.0, float(second.get("time", 0.0)) - float(first.get("time", 0.0)))


def _short(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else show_seconds(seconds)


def who(story: Story) -> str:
    """`worker 3 of web (process 71, generation 2, 3m10s old)`."""
    if story.kind == "cluster":
        return "the cluster"
    if story.kind == "rollout":
        return f"generation {story.generation} of {story.group}" if story.generation else ""
    name = "the zygote" if story.kind == "zygote" else f"worker {story.slot}"
    age = f", {show_seconds(story.lived)} old" if story.lived is not None else ""
    return f"{name} of {story.group} (process {story.pid}, generation {story.generation}{age})"


def told(story: Story, now: float) -> str:
    """A story for people."""
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(story.time))
    headline = " ".join(filter(None, (who(story), story.headline)))
    lines = [f"#{story.n}  {at}, {show_seconds(max(0.0, now - story.time))} ago"]
    lines += _wrapped(headline[:1].upper() + headline[1:])
    lines += [line for text in (story.meaning, story.then) if text for line in _wrapped(text)]
    if story.remedy:
        lines += _wrapped(f"To do: {story.remedy}")
    if story.said:
        lines += ["  Its last log lines:", *(f"    {line}" for line in story.said)]
    if story.doing:
        age = f" {_short(story.doing_before)} before" if story.doing_before >= 0.1 else ""
        lines += [f"  {story.doing_is}{age}:"]
        lines += [f"    {line}" for line in trimmed(story.doing)]
    # What an exception says may come from a peer, and must not drive a terminal.
    return "\n".join(clean(line.expandtabs()) for line in lines)


def trimmed(stacks: str) -> list[str]:
    """Return the lines of stacks with foreign frames folded, and no more than `MOST_LINES`."""
    kept = fold(stacks, "--json has them")
    more = len(kept) - MOST_LINES
    return kept if more <= 0 else [*kept[:MOST_LINES], f"… {more} lines more: --json has them"]


def _wrapped(text: str) -> list[str]:
    text = " ".join(text.split())
    return textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="  ")


def page(found: Iterable[Story], now: float) -> str:
    """Stories for people, with a line between them."""
    return (
        "\n\n".join(told(story, now) for story in found) or "no process died, and no rollout failed"
    )
