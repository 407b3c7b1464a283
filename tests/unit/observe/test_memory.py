"""`clusterd status --memory`: what adds up is added up, and what cannot be read is said."""

from clusterd.observe.memory import Process, as_object, memory_table, processes
from clusterd.observe.snapshot import Snapshot
from tests.unit.observe.test_table import REPLY

MIB = 2**20
FOUND = [
    Process("master", 4100, 18 * MIB, 19 * MIB, 25 * MIB),
    Process("zygote g1", 4101, 30 * MIB, 40 * MIB, 60 * MIB),
    Process("worker 0 g1", 4102, error="which only its own user and root may look at"),
    Process("worker 1 g1", 4103, 10 * MIB, 20 * MIB + 512 * 1024, 50 * MIB),
]


def test_every_process_of_a_status_is_named() -> None:
    groups = [{"slot": 0, "pid": 7, "generation": 3, "phase": "ready", "group": "jobs"}]
    shot = Snapshot.of({**REPLY, "workers": [*groups, *REPLY["workers"]]})
    assert processes(shot) == [
        ("master", 4100),
        ("zygote g1", 4101),
        ("worker 0 g1", 4102),
        ("worker 1 g1000", 4194303),
        ("jobs worker 0 g3", 7),
    ]


def test_own_memory_and_shares_are_added_up_and_resident_sets_are_not() -> None:
    lines = memory_table(FOUND).splitlines()
    assert lines[0].split() == ["MEMORY", "OF", "PID", "USS", "PSS", "RSS"]
    assert lines[1].split() == ["master", "4100", "18", "MiB", "19", "MiB", "25", "MiB"]
    assert lines[3].split() == ["worker", "0", "g1", "4102", "-", "-", "-"]
    assert lines[5].split() == ["all", "58", "MiB", "79.5", "MiB"]
    assert lines[6] == "not counted: 1 of them, which only its own user and root may look at"
    assert max(map(len, lines)) <= 100


def test_programs_get_the_same_in_bytes() -> None:
    told = as_object(FOUND)["memory"]
    assert (told["uss"], told["unread"]) == (58 * MIB, 1)
    assert told["processes"][0] == {
        "name": "master", "pid": 4100, "uss": 18 * MIB, "pss": 19 * MIB, "rss": 25 * MIB
    }  # fmt: skip
    assert "uss" not in told["processes"][2]
