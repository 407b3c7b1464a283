"""Killings for want of memory, as cgroups of both versions and the machine count them."""

import os
import selectors
import socket
from pathlib import Path

import pytest

from clusterd.kernel.oom import TRIGGER, Killings, PressureEvent, killings, pressure

EVENTS = "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n"
CONTROL = "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n"


def machine(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


V2 = {"proc/self/cgroup": "0::/system.slice/shop.service\n"}
V1 = {"proc/self/cgroup": "5:cpu,cpuacct:/a\n4:memory:/docker/4711\n0::/\n"}
UP = "sys/fs/cgroup"


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({}, Killings()),
        ({"proc/vmstat": "nr_free_pages 9\noom_kill 7\n"}, Killings(7)),
        (V2 | {f"{UP}/system.slice/shop.service/memory.events": EVENTS}, Killings(2, 3, True)),
        # The memory controller is on further up only.
        (V2 | {f"{UP}/system.slice/memory.events": EVENTS}, Killings(2, 3, True)),
        # In a container, under a path that leads nowhere in it.
        (V2 | {f"{UP}/memory.events": EVENTS}, Killings(2, 3, True)),
        (V2 | {"proc/vmstat": "oom_kill 7\n"}, Killings(7)),
        (V1 | {f"{UP}/memory/docker/4711/memory.oom_control": CONTROL}, Killings(4, 0, True)),
        (V1 | {f"{UP}/memory/memory.oom_control": CONTROL}, Killings(4, 0, True)),
        # Before Linux 4.13 the file has no such line.
        (
            V1
            | {f"{UP}/memory/memory.oom_control": "under_oom 0\n", "proc/vmstat": "oom_kill 7\n"},
            Killings(7),
        ),
        (V2 | {f"{UP}/memory.events": "nonsense\n"}, Killings()),
    ],
)
def test_reads_the_nearest_count_that_there_is(
    tmp_path: Path, files: dict[str, str], found: Killings
) -> None:
    assert killings(machine(tmp_path, files)) == found


def test_reads_those_of_this_machine() -> None:
    assert killings().kills >= 0


def psi(waited: str) -> str:
    rest = "avg60=0.00 avg300=0.00 total=1"
    return f"some avg10={waited} {rest}\nfull avg10=99.00 {rest}\n"


FEW = "MemTotal: 1000 kB\nMemFree: 10 kB\nMemAvailable: 40 kB\n"


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({}, ""),
        ({"proc/pressure/memory": psi("9.00")}, ""),
        ({"proc/pressure/memory": psi("31.00")}, "processes waited for memory 31 % of the time"),
        ({"proc/pressure/memory": "nonsense\n"}, ""),
        # Our cgroup may have enough while the machine has not, and the other way round.
        (V2 | {f"{UP}/system.slice/shop.service/memory.pressure": psi("0.00"),
               "proc/pressure/memory": psi("50.00")}, ""),
        (V2 | {f"{UP}/memory.pressure": psi("20.00")},
         "processes waited for memory 20 % of the time"),
        # Without the kernel's word on waiting, what is left counts.
        ({"proc/meminfo": FEW}, "4 % of memory is left"),
        ({"proc/meminfo": FEW.replace("40", "400")}, ""),
        ({"proc/meminfo": "MemTotal: much\n"}, ""),
    ],
)  # fmt: skip
def test_memory_is_short_where_processes_wait_for_it_or_little_is_left(
    files: dict[str, str], found: str, tmp_path: Path
) -> None:
    assert pressure(machine(tmp_path, files)) == found


def test_a_selector_reports_what_a_trigger_has_to_say() -> None:
    """Urgent data is POLLPRI, as the kernel's trigger is."""
    ours, theirs = socket.socketpair()
    event = PressureEvent(theirs.detach())
    with ours, selectors.DefaultSelector() as selector:
        selector.register(event, selectors.EVENT_READ)
        ours.send(b"!")
        assert not selector.select(0)
        ours.send(b"!", socket.MSG_OOB)
        assert [key.fileobj for key, _ in selector.select()] == [event]
        assert not event.broken
    event.close()


def test_a_trigger_that_is_gone_is_broken() -> None:
    read, write = os.pipe()
    event = PressureEvent(write)
    assert not event.broken
    os.close(read)
    assert event.broken
    event.close()


def test_there_is_no_event_where_the_kernel_has_none(tmp_path: Path) -> None:
    assert PressureEvent.create(machine(tmp_path, V2)) is None
    # A plain file takes the words, and cannot be waited for.
    before = os.listdir("/proc/self/fd")
    assert PressureEvent.create(machine(tmp_path, {"proc/pressure/memory": psi("0.00")})) is None
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_this_machine_takes_the_trigger_from_any_user() -> None:
    """From Linux 6.5 on; where the kernel counts no waiting there is nothing to ask."""
    if tuple(map(int, os.uname().release.split(".")[:2])) < (6, 5) or not pressure_counted():
        pytest.skip("the kernel has no trigger for an ordinary user")
    event = PressureEvent.create()
    assert event is not None, TRIGGER
    assert not event.broken
    event.close()


def pressure_counted() -> bool:
    try:
        return bool(Path("/proc/pressure/memory").read_text())
    except OSError:
        return False
