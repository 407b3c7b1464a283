"""Every metric that the admin endpoint shows: the one table of names, kinds, labels and meanings.

Names by Prometheus' conventions: counters end in `_total`, units are seconds and bytes. The man
page clusterd-metrics(7) is made from this table, and imports no more than it.
"""

from typing import NamedTuple

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"
PREFIX = "clusterd_"


class Metric(NamedTuple):
    """A row. The name lacks the prefix, and a counter's `_total`."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()
    of_apps: bool = False  # and not of groups that run a program

    @property
    def full(self) -> str:
        """The name as it is scraped; a histogram's without `_bucket`, `_sum` and `_count`."""
        return PREFIX + self.name + ("_total" if self.kind == COUNTER else "")

    @property
    def unit(self) -> str:
        """The unit that its name ends with, or ''."""
        last = self.name.rpartition("_")[2]
        return last if last in ("seconds", "bytes", "ratio") else ""


# How a rollout can end, and a worker.
OUTCOMES = ("finished", "failed", "refused")
CAUSES = {
    "asked": "a reload, a scaling or a stop retired it",
    "recycled": "it had served as long as the settings let it",
    "replaced": "somebody or itself wanted it replaced: TERM, or a request over request_timeout",
    "blocked": "its event loop was blocked for hang_timeout",
    "halted": "a signal had stopped it for hang_timeout",
    "busy": "a thread kept the interpreter to itself for stall_timeout",
    "stalled": "none of its requests got on for stall_timeout",
    "oom": "the kernel was out of memory",
    "overdue": "the master killed it, since it did not become ready or leave in time",
    "breach": "the master killed it, since it broke the rules of its channel",
    "killed": "somebody else killed it",
    "signal": "it died of another signal",
    "status": "it ended by itself",
}

GROUP = ("group",)
APPS = True
SLOT = ("group", "slot")

CLUSTER = (
    Metric(
        "build_info", GAUGE, "Version of clusterd and of Python; always 1.", ("version", "python")
    ),
    Metric("uptime_seconds", GAUGE, "Time since the master started."),
    Metric("state", GAUGE, "1 for the state that the cluster is in, 0 for the others.", ("state",)),
    Metric("journal_number", GAUGE, "Number of the latest event."),
    Metric("master_cpu_seconds", COUNTER, "CPU time of the master, user and system."),
)

TALLIES = {  # by what the master's reply calls them
    "events": Metric("events", COUNTER, "Events of the journal, by kind.", ("group", "kind")),
    "rollouts": Metric(
        "rollouts",
        COUNTER,
        "Rollouts that ended, and reloads refused before one began, by outcome.",
        ("group", "outcome"),
    ),
    "exits": Metric("worker_exits", COUNTER, "Workers that ended, by cause.", ("group", "cause")),
}

OF_GROUPS = (
    Metric("group_workers_wanted", GAUGE, "Workers that the group is to have.", GROUP),
    Metric("group_workers_ready", GAUGE, "Workers that are ready.", GROUP),
    Metric("group_workers", GAUGE, "Worker processes, by phase.", ("group", "phase")),
    Metric("group_generation", GAUGE, "Number of the generation that serves.", GROUP),
    Metric("group_rolling", GAUGE, "1 while another generation rolls in.", GROUP),
    Metric("requests", COUNTER, "Requests answered, by class of status.", ("group", "code"), APPS),
    Metric(
        "application_errors",
        COUNTER,
        "Requests whose application raised, or broke its protocol.",
        GROUP,
        APPS,
    ),
    Metric(
        "request_duration_seconds",
        HISTOGRAM,
        "Time from a request's head to the end of its answer.",
        GROUP,
        APPS,
    ),
    Metric("requests_in_flight", GAUGE, "Requests begun and not answered.", GROUP, APPS),
    Metric("received_bytes", COUNTER, "Bytes read from clients.", GROUP, APPS),
    Metric("sent_bytes", COUNTER, "Bytes of answers.", GROUP, APPS),
    Metric("connections", GAUGE, "Open connections.", GROUP, APPS),
    Metric("connections_accepted", COUNTER, "Connections accepted.", GROUP, APPS),
    Metric(
        "connections_handed_over",
        COUNTER,
        "Idle connections passed on by leaving workers.",
        GROUP,
        APPS,
    ),
    Metric(
        "connections_taken_over",
        COUNTER,
        "Connections taken over from leaving workers.",
        GROUP,
        APPS,
    ),
    Metric(
        "accepts_held_back",
        COUNTER,
        "Times a worker let a less busy sibling accept first.",
        GROUP,
        APPS,
    ),
    Metric(
        "accept_balance_ratio",
        GAUGE,
        "What the busiest ready worker accepted, by the mean of all; 1 is even.",
        GROUP,
        APPS,
    ),
)

OF_SLOTS = (
    Metric("worker_requests", COUNTER, "Requests answered by workers of the slot.", SLOT, APPS),
    Metric(
        "worker_connections_accepted",
        COUNTER,
        "Connections accepted by workers of the slot.",
        SLOT,
        APPS,
    ),
    Metric(
        "worker_cpu_seconds", COUNTER, "CPU time of workers of the slot, user and system.", SLOT
    ),
    Metric("worker_restarts", COUNTER, "Workers of the slot that ended unasked.", SLOT),
    Metric(
        "worker_processes", GAUGE, "Processes of the slot: two while it is being replaced.", SLOT
    ),
    Metric("worker_connections", GAUGE, "Open connections of the slot.", SLOT, APPS),
    Metric(
        "worker_requests_in_flight",
        GAUGE,
        "Requests of the slot begun and not answered.",
        SLOT,
        APPS,
    ),
    Metric(
        "worker_oldest_request_seconds",
        GAUGE,
        "Age of the slot's oldest request in flight; 0 for none.",
        SLOT,
        APPS,
    ),
    Metric(
        "worker_loop_lag_seconds", GAUGE, "Time by which the event loop's last beat was late.", SLOT
    ),
    Metric(
        "worker_heartbeat_age_seconds",
        GAUGE,
        "Time since the event loop's last beat, one a second.",
        SLOT,
    ),
    Metric(
        "worker_memory_bytes",
        GAUGE,
        "Memory of its own (USS), where max_memory has it sampled.",
        SLOT,
    ),
    Metric(
        "worker_held_bytes",
        GAUGE,
        "Memory that workers of the slot hold for clients; see memory_budget.",
        SLOT,
        APPS,
    ),
    Metric(
        "worker_spooled_bytes",
        GAUGE,
        "Request bodies that workers of the slot have on disk; see spool_budget.",
        SLOT,
        APPS,
    ),
    Metric("worker_uptime_seconds", GAUGE, "Age of the slot's oldest process.", SLOT),
)

METRICS = (*CLUSTER, *TALLIES.values(), *OF_GROUPS, *OF_SLOTS)
