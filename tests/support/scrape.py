"""A scrape, read as strictly as `promtool check metrics` does, and stricter."""

import math
import re
from collections.abc import Iterator

from prometheus_client.core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as of_openmetrics
from prometheus_client.parser import text_string_to_metric_families as of_text

from clusterd.observe.catalogue import PREFIX

Series = tuple[str, frozenset[tuple[str, str]]]
NAME = re.compile(r"clusterd_[a-z][a-z0-9]*(_[a-z0-9]+)*")
LABEL = re.compile(r"[a-z]+")
NOT_BASE = re.compile(r"milli|micro|minute|hour|kilo|mega|percent|_(ms|us|kb|mb|kib|mib)(_|$)")
SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("_total",)}


def families(page: str) -> list[Metric]:
    """What a page has; raises where it is not as it should be."""
    assert page.endswith("\n")
    openmetrics = page.endswith("# EOF\n")
    found = list((of_openmetrics if openmetrics else of_text)(page))
    declared = re.findall(r"^# TYPE (\S+) \S+$", page, re.MULTILINE)
    explained = re.findall(r"^# HELP (\S+) \S.*$", page, re.MULTILINE)
    assert declared == explained
    assert len(set(declared)) == len(declared) == len(found)
    for family in found:
        if family.name.startswith(PREFIX):  # others are the application's
            judge(family)
    return found


def judge(family: Metric) -> None:
    """One family, alone."""
    assert NAME.fullmatch(family.name), family.name
    assert not NOT_BASE.search(family.name), f"{family.name} is in no base unit"
    assert family.documentation.endswith(".")
    assert family.type in ("counter", "gauge", "histogram")
    counts = family.type == "counter"
    seen = set()
    for sample in family.samples:
        suffix = sample.name.removeprefix(family.name)
        assert suffix in SUFFIXES.get(family.type, ("",)), sample
        assert sample.name.endswith("_total") == counts, sample
        assert all(LABEL.fullmatch(label) for label in sample.labels), sample
        assert sample.value >= 0, sample
        key = (sample.name, frozenset(sample.labels.items()))
        assert key not in seen, f"{key} twice"
        seen.add(key)
    if family.type == "histogram":
        for group in {sample.labels["group"] for sample in family.samples}:
            _judge_histogram(family, group)


def _judge_histogram(family: Metric, group: str) -> None:
    samples = [sample for sample in family.samples if sample.labels["group"] == group]
    buckets = [sample for sample in samples if sample.name.endswith("_bucket")]
    bounds = [float(sample.labels["le"]) for sample in buckets]
    assert bounds == sorted(set(bounds))
    assert math.isinf(bounds[-1])
    counts = [sample.value for sample in buckets]
    assert counts == sorted(counts), "buckets are cumulative"
    rest = {sample.name.removeprefix(family.name): sample.value for sample in samples}
    assert rest["_count"] == counts[-1]
    assert rest["_sum"] >= 0


def values(page: str) -> dict[Series, float]:
    """Every sample's value by name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families(page)
        for sample in family.samples
    }


def counters(page: str) -> dict[Series, float]:
    """What may only grow."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families(page)
        if family.type in ("counter", "histogram")
        for sample in family.samples
    }


def decreased(before: dict[Series, float], after: dict[Series, float]) -> Iterator[str]:
    """Counters that went back, or are gone."""
    for series, value in before.items():
        if after.get(series, -1.0) < value:
            yield f"{series}: {value} became {after.get(series)}"


def value(page: str, name: str, **labels: str) -> float:
    """One sample's."""
    return values(page)[name, frozenset(labels.items())]
