#!/usr/bin/env bash
# Software: opentelemetry-sdk 1.45.2, prometheus_client 0.26.0, Python 3.11 or newer, Linux.
# Guess:    the metrics of a forked process begin at zero: the SDK has hooks for a fork, restarts
#           its export thread in the child, and gives the child a service.instance.id of its own,
#           so the sum over all instances is what was counted.
# Seen:     the child keeps the counts of its parent and reports them under its new identity, with
#           the parent's start time. What was counted before the fork (gunicorn --preload: caches
#           that were filled, migrations) is counted once per process: 7 counts are a sum of 17 with
#           two workers. With delta temporality each child sends the parent's unsent counts as well.
#           The new identity makes it worse: no collector can recognise the repetition.
#           prometheus_client's multiprocess mode notices the new pid and begins at zero.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check opentelemetry-sdk==1.45.2 prometheus_client==0.26.0
mkdir values
cat >fork.py <<'PY'
import json
import os

import prometheus_client
from opentelemetry.sdk.metrics import Counter, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from prometheus_client.multiprocess import MultiProcessCollector


def counter(temporality):
    reader = InMemoryMetricReader(preferred_temporality={Counter: temporality})
    return MeterProvider([reader]).get_meter("fork").create_counter("calls"), reader


def export(reader):
    """Return what one process reports: its identity, the start time and the count."""
    resource = reader.get_metrics_data().resource_metrics[0]
    point = resource.scope_metrics[0].metrics[0].data.data_points[0]
    identity = resource.resource.attributes["service.instance.id"]
    return identity, point.start_time_unix_nano, point.value


def in_child(work):
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.write(writing, json.dumps(work()).encode())
        os._exit(0)
    os.wait()
    return tuple(json.loads(os.read(reading, 1000)))


def count(calls, reader):
    calls.add(1)
    return export(reader)


for temporality in AggregationTemporality.CUMULATIVE, AggregationTemporality.DELTA:
    calls, reader = counter(temporality)
    calls.add(5)
    exports = [in_child(lambda: count(calls, reader)) for _ in range(2)] + [export(reader)]
    identities, starts, values = zip(*exports)
    print(f"{temporality.name}, counted 5 in the parent, 1 in each child: {values}, sum {sum(values)}")
    print("identities:", len(set(identities)), "start times:", len(set(starts)))

calls = prometheus_client.Counter("calls", "calls")
calls.inc(5)
for _ in range(2):
    in_child(lambda: [calls.inc()])
registry = prometheus_client.CollectorRegistry()
MultiProcessCollector(registry)
print("prometheus_client, sum:", registry.get_sample_value("calls_total"))
PY
seen=$(PROMETHEUS_MULTIPROC_DIR=values venv/bin/python fork.py)
expected='CUMULATIVE, counted 5 in the parent, 1 in each child: (6, 6, 5), sum 17
identities: 3 start times: 1
DELTA, counted 5 in the parent, 1 in each child: (6, 6, 5), sum 17
identities: 3 start times: 1
prometheus_client, sum: 7.0'
echo "$seen"
[[ $seen == "$expected" ]] || { echo "this has changed; it was:"; echo "$expected"; exit 1; }
