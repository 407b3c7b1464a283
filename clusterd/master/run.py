"""The master's two halves of a life: before serving anything may fail loudly, after it nothing."""

import contextlib
import gc
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import setproctitle

from clusterd.config import runtime_dir
from clusterd.config.kinds import DEFAULT
from clusterd.config.place import control_path, directory_of
from clusterd.config.settings import Config
from clusterd.core.errors import BindError
from clusterd.core.events import Kind
from clusterd.fleet.memory import Ledger
from clusterd.ipc import last_run
from clusterd.kernel.abort import explain_abort
from clusterd.kernel.child import Ahead
from clusterd.kernel.privileges import NAME_A_USER, is_root_by_default
from clusterd.kernel.real import Kernel
from clusterd.master import logbook, pidfile, program_locks, remains, trusted_paths
from clusterd.master.activation import Luggage
from clusterd.master.ahead import drop
from clusterd.master.cluster import Cluster
from clusterd.master.control import Control
from clusterd.master.founding import found
from clusterd.master.holder import NAMELESS
from clusterd.master.loop import Loop
from clusterd.master.notify import connect
from clusterd.master.sockets import somaxconn


def run(
    groups: dict[str, Config],
    reread: Callable[[], dict[str, Config]],
    ready_fd: int | None,
    kernel: Kernel,
    log_fd: int = 2,
    directory: str = ".",
    ahead: Ahead | None = None,
    given: dict[str, Any] | None = None,
    luggage: Luggage | None = None,
) -> int:
    """Serve until stopped; the exit status. Raises BindError or ConfigError before serving.

    `directory` is the working directory by the name it was reached by: a deploy may move the
    symlink, and each zygote starts where it points then. `ahead` is the first zygote, if it was
    started already; `given` is what the command line says, for who comes after an upgrade;
    `luggage` the sockets that we were started with.
    """
    cluster = assemble(groups, reread, kernel, log_fd, directory)
    cluster.ahead, cluster.given = ahead, given or {}
    control: Control | None = None
    try:
        bind(cluster, luggage or Luggage())
        control = open_control(cluster)
        if path := cluster.main.config.place.pid_file:
            pidfile.write(path)
        kernel.adopt()
        forget_for_why(cluster)
        announce(cluster, control, ready_fd)
        return serve(cluster, control, luggage.useless if luggage else [])
    finally:
        close(cluster, control)


def bind(cluster: Cluster, luggage: Luggage) -> None:
    """Take from the luggage what is bound already, and bind the rest. Raises BindError."""
    for group in cluster.groups.values():
        group.sockets.luggage = luggage
        remains.bind(cluster, group)
    for one in luggage:
        if not one.listener:
            reason = f"we were started with a socket on {one.address}, {one.name}, and serve none"
            cluster.note(Kind.TROUBLE, reason=reason, next="name its address with --bind")
    luggage.discard()


def serve(cluster: Cluster, control: Control | None, useless: Sequence[str] = ()) -> int:
    """Turn until it is over; the exit status. `useless`: what systemd is to keep no longer."""
    manager = connect(cluster, os.environ, useless)
    if manager is not None and manager.watches:
        explain_abort()
    gc.freeze()
    gc.enable()
    # From here on we must not die: what fails is journaled and tried again.
    code = Loop(cluster, control, manager).run()
    cluster.note(Kind.STOPPED, code=int(code))
    cluster.guard(keep_for_why, cluster)
    if manager is not None:
        manager.stopped()
    return code


def keep_for_why(cluster: Cluster) -> None:
    """Keep the journal's end, which `clusterd why` shows when the cluster is gone."""
    if trusted_paths.fault_of_record(cluster.configs, os.environ):
        return
    place = cluster.config.place
    found = directory_of(place, os.environ) or ""
    last_run.write(cluster.journal.since(0), place.name, found, os.environ)


def forget_for_why(cluster: Cluster) -> None:
    """Remove what was kept of the run before: we may be killed, and it must not pass for ours."""
    if fault := trusted_paths.fault_of_record(cluster.configs, os.environ):
        reason = f"no record of this run will be kept for 'clusterd why': {fault}"
        following = "name a directory where only root may write in XDG_STATE_HOME"
        cluster.note(Kind.TROUBLE, reason=reason, next=following)
        return
    place = cluster.config.place
    last_run.forget(place.name, directory_of(place, os.environ) or "", os.environ)


def close(cluster: Cluster, control: Control | None) -> None:
    """Let go of what was bound, and remove its files."""
    try:
        drop(cluster)
        pidfile.remove(cluster.main.config.place.pid_file)
        for group in cluster.groups.values():
            group.sockets.remove(list(group.sockets.groups))
        program_locks.remove(cluster)
    finally:
        if control is not None:
            control.close()


def assemble(
    groups: dict[str, Config],
    reread: Callable[[], dict[str, Config]],
    kernel: Kernel,
    log_fd: int = 2,
    directory: str = ".",
) -> Cluster:
    """The cluster before anything runs."""
    cluster = Cluster(
        reread=reread,
        kernel=kernel,
        directory=directory,
        log_fd=log_fd,
        terminal=kernel.has_terminal() and os.isatty(2),
    )
    cluster.journal.listen(logbook.Logbook(any(one.dev.dev for one in groups.values())))
    counted = kernel.killings()
    cluster.ledger = Ledger(counted.kills, counted.hits)
    for name, config in groups.items():
        cluster.groups[name] = found(cluster, name, config)
    title(cluster)
    return cluster


def title(cluster: Cluster) -> None:
    """Return the title that ps(1) shows; `master.holder` reads it, too."""
    config = cluster.main.config
    name = "" if config.place.name == NAMELESS else f"[{config.place.name}] "
    setproctitle.setproctitle(f"clusterd: master {name}{what_runs(config)}")


def what_runs(config: Config) -> str:
    """The application or the program of a group, for people."""
    return config.app.app or " ".join(config.command.command)


def open_control(cluster: Cluster) -> Control | None:
    """The control socket, where there is a place for it.

    A place that was asked for must do; one that we only found may not, unless the admin endpoint
    needs it.
    """
    path = control_path(cluster.config.place, os.environ)
    if path is None:
        tried = "; ".join(runtime_dir.faults(os.environ, os.geteuid()))
        reason = f"no command will find this cluster: there is no runtime directory ({tried})"
        cluster.note(Kind.TROUBLE, reason=reason, next="name a directory with --runtime-dir")
        return None
    asked = cluster.config.origins.get("runtime_dir", DEFAULT) != DEFAULT
    try:
        return Control(cluster, path, was_found=not asked)
    except BindError as error:
        if (
            asked
            or cluster.config.place.admin
            or "runs already" in error.message
            or "in use" in error.message
        ):
            raise
        cluster.note(Kind.TROUBLE, reason=error.message, next="serving without commands")
        return None


def announce(cluster: Cluster, control: Control | None, ready_fd: int | None) -> None:
    """Journal what we are; tell whoever started us that commands are taken."""
    main = cluster.main.config
    place = control.path if control else "off (--runtime-dir says where)"
    wanted = {"app": what_runs(main), "workers": main.fleet.workers}
    others = [name for name in cluster.groups if name != cluster.main.name]
    more = {"groups": others} if others else {}
    cluster.note(Kind.STARTED, pid=cluster.pid, **wanted, **more, commands=place)
    for group in cluster.groups.values():
        for one in group.sockets:
            group.note(Kind.LISTENING, address=one.name)
    warn_of_root(cluster)
    warn_of_paths(cluster)
    limit = somaxconn()
    if 0 < limit < main.listen.backlog:
        reason = f"backlog {main.listen.backlog} is cut to net.core.somaxconn = {limit}"
        cluster.note(Kind.TROUBLE, reason=reason, next="raise it with sysctl, or lower --backlog")
    if ready_fd is not None:
        with contextlib.suppress(OSError):  # whoever started us no longer listens
            os.write(ready_fd, b"\n")
        os.close(ready_fd)


def warn_of_paths(cluster: Cluster) -> None:
    """Say at each start that the operator allows others to change what root relies on."""
    configs = cluster.configs
    if not trusted_paths.is_insecure(configs):
        return
    home = Path(cluster.directory)
    all_found = trusted_paths.all_faults(configs, cluster.given, os.environ, home)
    reason = (
        "--insecure-paths: no path to settings, code, certificates, log or pid file is refused "
        "because other users may write to it; these users can become root"
    )
    named = {}
    if all_found:
        _, found = all_found[0]
        mended = "; ".join(trusted_paths.commands(*one) for one in all_found)
        named = {"found": str(found[0]), "next": mended}
    cluster.note(Kind.INSECURE_PATHS, reason=reason, **named)


def warn_of_root(cluster: Cluster) -> None:
    """Say once that workers run as root, where no setting asks for that."""
    found = [group.name for group in cluster.wanted if is_root_by_default(group.config.limits.user)]
    if found:
        whose = "" if len(found) == len(cluster.wanted) else f" of {', '.join(found)}"
        reason = f"no user is set, so the workers{whose} run as root"
        cluster.note(Kind.RUNS_AS_ROOT, reason=reason, next=NAME_A_USER)
