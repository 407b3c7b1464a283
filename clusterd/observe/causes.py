"""What the end of a process usually means, and what to do about it: tables. Pure."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Reading(NamedTuple):
    """An end in words."""

    headline: str  # goes on from "worker 3 …"
    meaning: str = ""
    remedy: str = ""


NATIVE = (
    "Its stack is not known to Python. Set PYTHONFAULTHANDLER=1 to have it written to the log, or "
    "limit_core and look at the core dump with gdb."
)
SIGNALS = {
    "SIGKILL": Reading(
        "was killed by SIGKILL",
        "Not by clusterd: somebody sent it (kill -9, a container's end), or the kernel took it "
        "for want of memory outside our cgroup.",
        "Look for 'Out of memory' in 'dmesg', and who else may signal this user's processes.",
    ),
    "SIGSEGV": Reading(
        "died of SIGSEGV",
        "A C extension, or the interpreter itself, used memory that is not its own.",
        NATIVE,
    ),
    "SIGBUS": Reading(
        "died of SIGBUS",
        "A mapped file became shorter, or its disk or /dev/shm is full.",
        "Look at 'df /dev/shm' and at files that the application maps and others replace.",
    ),
    "SIGABRT": Reading(
        "died of SIGABRT",
        "The C library or an extension gave up: a failed assertion or a corrupted heap.",
        NATIVE,
    ),
    "SIGILL": Reading(
        "died of SIGILL",
        "This CPU lacks an instruction: a package was built for another one.",
        "Reinstall the package from a wheel for this machine, or build it here.",
    ),
    "SIGFPE": Reading("died of SIGFPE", "A C extension divided by zero.", NATIVE),
    "SIGSYS": Reading(
        "died of SIGSYS",
        "It made a system call that a seccomp filter forbids (systemd's SystemCallFilter, or the "
        "container's).",
        "Allow the call, or find what makes it with 'strace -f'.",
    ),
    "SIGXCPU": Reading(
        "died of SIGXCPU", "It reached its limit of CPU time (RLIMIT_CPU).", "Raise the limit."
    ),
    "SIGXFSZ": Reading(
        "died of SIGXFSZ", "A file grew past its limit (RLIMIT_FSIZE).", "Raise the limit."
    ),
    "SIGTERM": Reading(
        "died of SIGTERM",
        "A worker that hears SIGTERM drains and leaves; this one died of it, so the application "
        "replaced our handler, or it came before there was one.",
        "Look for signal.signal() in the application, or in what it imports.",
    ),
    "SIGALRM": Reading(
        "died of SIGALRM",
        "A timer rang (alarm() or setitimer()) that nothing in this process waits for.",
        "Look for signal.alarm() in the application, or in what it imports.",
    ),
}
STATUSES = {
    0: Reading(
        "left by itself, with status 0",
        "The application ended the process: sys.exit() or os._exit() in its code, or in what it "
        "imports.",
        "Look for who calls it; a worker is to be ended by clusterd alone.",
    ),
    1: Reading(
        "ended with status 1",
        "An exception that nobody caught went through the process, or os._exit(1) was called.",
        "The log says more, just before.",
    ),
    70: Reading(
        "ended with status 70",
        "clusterd itself failed. This is a bug of ours.",
        "Please report it with the log from just before.",
    ),
}
OURS = {  # reasons that the master gives for killing, by how they begin
    "it did not leave within the graceful timeout": Reading(
        "was killed, since it did not leave in time",
        "It was asked to leave and was still at work when graceful_timeout and 3 s were over.",
        "Raise graceful_timeout above the longest request, or give requests a limit of their own.",
    ),
    "it was not ready within the startup timeout": Reading(
        "was killed, since it was not ready in time",
        "Its startup (lifespan) took longer than startup_timeout.",
        "See what it waits for: usually a database or another service. Or raise startup_timeout.",
    ),
    "import took too long": Reading(
        "was killed, since the import took too long",
        "The application's modules were not loaded when startup_timeout was over.",
        "See what waits at import ('python -X importtime'), or raise startup_timeout.",
    ),
    "it is blocked": Reading(
        "was killed, since its event loop was blocked",
        "Its successor was ready, and it could not be asked to leave.",
        "Move what blocks out of async functions (asyncio.to_thread), or give it a timeout.",
    ),
    "it is halted": Reading(
        "was killed, since it was stopped",
        "A signal (SIGSTOP, or SIGTSTP) had stopped it, so it could not be asked to leave.",
        "Find who stops processes here: a debugger, or the shell's job control.",
    ),
}
CONDITIONS = {  # why it was replaced, by the first word of the reason
    "blocked": Reading(
        "was replaced, since its event loop was blocked",
        "Something in it ran or waited without giving the loop a turn for hang_timeout.",
        "Move what blocks out of async functions (asyncio.to_thread), or give it a timeout.",
    ),
    "halted": Reading(
        "was replaced, since it was stopped",
        "A signal (SIGSTOP, or SIGTSTP) had stopped it for hang_timeout.",
        "Find who stops processes here: a debugger, or the shell's job control.",
    ),
    "busy": Reading(
        "was replaced, since a thread kept the interpreter to itself",
        "Requests were served, but slowly, for stall_timeout.",
        "Move the computation into a process of its own, or a group that runs a command.",
    ),
    "stalled": Reading(
        "was replaced, since none of its requests got on",
        "All of them waited, for stall_timeout: usually for each other, or for a pool that all "
        "of them hold a part of.",
        "Give what they wait for a timeout; the dump shows where they stand.",
    ),
}
OOM = Reading(
    "was killed for want of memory",
    "The kernel's OOM killer chose it.",
    "Lower workers, raise the limit of memory, or set max_memory.",
)


def breached(reason: str) -> Reading:
    """Return what it means that a process broke the rules of its channel."""
    return Reading(
        "was killed, since it broke the rules of its channel to the master",
        f"No code of clusterd does that. What was seen: {reason}.",
        "Find what writes to descriptors that are not its own; if nothing should, treat the "
        "application as compromised.",
    )


def ended(code: int, cause: str) -> Reading:
    """What a wait status says by itself. `cause` is its name, as the event has it."""
    if code < 0:
        return SIGNALS.get(cause, Reading(f"died of {cause}", "", NATIVE if code < -30 else ""))
    usual = Reading(
        f"ended with status {code}",
        f"The application called sys.exit({code}) or os._exit({code}), or a library did.",
        "The log says more, just before.",
    )
    return STATUSES.get(code, usual)


def failed(event: Mapping[str, Any]) -> Reading:
    """What it said itself of its failure: an event `worker_failed` or `zygote_failed`."""
    stage, reason = str(event.get("stage", "")), str(event.get("reason", ""))
    if stage == "command":  # of a program, by its keeper
        return Reading(
            f"has lost its program: {reason}",
            "",
            "Run it by hand, as its user and in its directory, to see why.",
        )
    return Reading(
        f"failed at {stage}: {reason}",
        "It said so itself before it left.",
        str(event.get("remedy") or "Repair it, then 'clusterd reload --wait'."),
    )


def killed(reason: str) -> Reading:
    """What it means that the master killed it."""
    return OURS.get(reason, Reading("was killed by clusterd", f"The reason given was: {reason}."))


def replaced(reason: str) -> Reading:
    """What it means that it was replaced."""
    first = reason.partition(" ")[0].rstrip(":")
    known = CONDITIONS.get(first)
    if known is None:
        return Reading("was replaced", f"The reason given was: {reason}.")
    return known._replace(meaning=f"{known.meaning} What was seen: {reason}.")
