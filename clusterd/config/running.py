"""Settings of every group, and of those that run a program. `settings` makes the one table."""

from dataclasses import dataclass

from clusterd.config.kinds import Kind, setting


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """Workers"""

    workers: int = setting(
        0,
        "Number of worker processes; auto is the CPUs that this process may use, by affinity "
        "and cgroup quota. WEB_CONCURRENCY is honoured.",
        Kind.WORKERS,
        short="-w",
        metavar="N|auto",
        low=1,
        high=480,
        shown="auto",
    )
    startup_timeout: float = setting(
        60.0,
        "Time that an application may take to import, and a worker to become ready.",
        Kind.SECONDS,
        low=0.1,
    )
    graceful_timeout: float = setting(
        25.0,
        "Time that a worker may take to finish what it has when it is asked to leave.",
        Kind.SECONDS,
    )
    stream_grace: float = setting(
        5.0,
        "Time after which a leaving worker ends streams that have no end of their own.",
        Kind.SECONDS,
    )
    min_ready: float = setting(
        1.0,
        "Time that the first worker of new code must stay alive before the others follow.",
        Kind.SECONDS,
    )
    rollback_keep: float = setting(
        600.0,
        "Time that the previous code is kept in memory for an instant rollback.",
        Kind.SECONDS,
    )
    parallel_start: bool = setting(
        False,
        "Start all workers at once. Otherwise the first worker imports and runs its startup alone, "
        "and the others start when it is ready, so that two startups never race to create a file "
        "or to migrate a database.",
        Kind.SWITCH,
    )
    max_workers: int = setting(
        0,
        "Most workers that autoscaling may start when the present ones are full, by their CPU, "
        "threads, connections or event loops; 0 turns it off. The setting workers is where it "
        "begins.",
        Kind.COUNT,
        high=480,
    )
    min_workers: int = setting(
        1, "Fewest workers that autoscaling leaves.", Kind.COUNT, low=1, high=480
    )
    after: tuple[str, ...] = setting(
        (),
        "Groups that must be ready before this one starts, and that stop after it.",
        Kind.NAMES,
        metavar="GROUP",
        shown="none",
    )


@dataclass(frozen=True, slots=True)
class VitalsSettings:
    """Vitals"""

    hang_dump: float = setting(
        5.0,
        "Time that something may block a worker's event loop, or keep it from running, before "
        "its stacks are logged; 0 never looks.",
        Kind.SECONDS,
    )
    hang_timeout: float = setting(
        30.0,
        "Time after which a worker whose event loop is blocked is replaced; 0 never.",
        Kind.SECONDS,
    )
    stall_timeout: float = setting(
        300.0,
        "Time after which a worker is replaced whose event loop turns, but too slowly because a "
        "thread keeps the interpreter busy, or whose requests all make no progress; 0 never.",
        Kind.SECONDS,
    )
    max_requests: int = setting(
        0,
        "Requests after which a worker is replaced, the replacement first; 0 for no limit. It is "
        "looked at once a second.",
        Kind.COUNT,
    )
    max_requests_jitter: int = setting(
        0,
        "Most requests to add to max_requests by chance, so that workers do not go together; 0 is "
        "a tenth of it.",
        Kind.COUNT,
        shown="a tenth of max_requests",
    )
    max_age: float = setting(
        0.0,
        "Time after which a worker is replaced, and up to a tenth more by chance; 0 for no limit.",
        Kind.SECONDS,
    )
    max_memory: int = setting(
        0,
        "Memory of its own (USS) beyond which a worker is replaced, once three looks in a row find "
        "it there; a worker looks every 15 seconds. 0 for no limit.",
        Kind.BYTES,
    )


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """Limits and rights"""

    user: str = setting(
        "",
        "User, and after a colon group, that workers become once the sockets are bound. Where root "
        "starts clusterd and names no user, workers run as root, and a warning says so.",
        Kind.WORDS,
        metavar="USER[:GROUP]",
        shown="the user who starts clusterd",
    )
    umask: int = setting(
        -1, "File mode creation mask of workers.", Kind.OCTAL, metavar="MODE", shown="inherited"
    )
    nice: int = setting(
        0, "Added to the niceness of workers, -20 to 19.", Kind.WHOLE, low=-20, high=19
    )
    pin: bool = setting(
        False, "Pin each worker to a CPU of its own, as far as they go.", Kind.SWITCH
    )
    limit_nofile: int = setting(
        0, "Descriptors that a worker may open; 0 leaves the limit.", Kind.COUNT
    )
    limit_core: int = setting(
        -1, "Size of a worker's core dump at most; 0 for none.", Kind.BYTES, shown="inherited"
    )
    limit_as: int = setting(0, "Address space of a worker; 0 leaves the limit.", Kind.BYTES)
    no_new_privs: str = setting(
        "auto",
        "Whether workers and what they start can gain no rights by set-user-ID files or file "
        "capabilities (sudo, ping); auto is on where root starts clusterd and user gives up its "
        "rights.",
        Kind.CHOICE,
        choices=("auto", "on", "off"),
    )
    keep_capabilities: bool = setting(
        False,
        "Leave workers the capabilities that a clusterd not started by root has, as by systemd's "
        "AmbientCapabilities=.",
        Kind.SWITCH,
    )
    dumpable: str = setting(
        "auto",
        "Whether core dumps, and debuggers and profilers of the workers' own user, see the memory "
        "of workers; auto is off where root starts clusterd, user gives up its rights, workers "
        "hold the private key of a certificate and limit_core does not ask for core dumps.",
        Kind.CHOICE,
        choices=("auto", "on", "off"),
    )


@dataclass(frozen=True, slots=True)
class CommandSettings:
    """Command"""

    command: tuple[str, ...] = setting(
        (),
        "Program that the group runs instead of an application, with its arguments. No shell "
        "reads it: for that, name sh -c.",
        Kind.ARGV,
        metavar="COMMAND",
        shown="none",
    )
    singleton: bool = setting(
        False,
        "Never run it twice at once: in a reload the new one starts when the old one has ended.",
        Kind.SWITCH,
    )
    overlap: bool = setting(
        True,
        "In a reload, start the new one of a slot while the old one still runs; false where that "
        "cannot be, since the program binds an address by itself.",
        Kind.SWITCH,
    )
    directory: str = setting(
        ".", "Working directory.", Kind.PATH, metavar="DIR", shown="current directory"
    )
    environment: tuple[str, ...] = setting(
        (), "Variables to set, as a table of texts.", Kind.PAIRS, metavar="NAME=VALUE", shown="none"
    )
    stop_signal: str = setting(
        "TERM",
        "Signal that asks it to end; after graceful_timeout it is killed.",
        Kind.CHOICE,
        choices=("TERM", "INT", "QUIT", "HUP", "USR1", "USR2", "KILL"),
    )
    readiness: str = setting(
        "up",
        "When it counts as ready: up, once it has run for ready_after; notify, once it says "
        "READY=1 to $NOTIFY_SOCKET; line:REGEX, once it prints a line that matches.",
        Kind.WORDS,
        metavar="up|notify|line:REGEX",
    )
    ready_after: float = setting(1.0, "Time that it must stay up to count as ready.", Kind.SECONDS)
