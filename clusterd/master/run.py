"""The master's two halves of a life: before serving anything may fail loudly, after it nothing."""

import contextlib
import gc
import os
from collections.abc import Callable
from dataclasses import replace

import setproctitle

from clusterd.config.place import control_path
from clusterd.config.settings import Config
from clusterd.core.errors import BindError
from clusterd.core.events import Kind
from clusterd.fleet.goal import Goal
from clusterd.ipc.scoreboard import Scoreboard
from clusterd.kernel.child import Ahead
from clusterd.kernel.real import Kernel
from clusterd.master import logbook
from clusterd.master.certificates import read
from clusterd.master.cluster import Cluster
from clusterd.master.control import Control
from clusterd.master.loop import Loop
from clusterd.master.reload import patience_of
from clusterd.master.sockets import Sockets, somaxconn


def run(
    config: Config,
    reread: Callable[[], Config],
    ready_fd: int | None,
    kernel: Kernel,
    log_fd: int = 2,
    directory: str = ".",
    ahead: Ahead | None = None,
) -> int:
    """Serve until stopped; the exit status. Raises BindError or ConfigError before serving.

    `directory` is the working directory by the name it was reached by: a deploy may move the
    symlink, and each zygote starts where it points then. `ahead` is the first zygote, if it was
    started already.
    """
    cluster = assemble(config, reread, kernel, log_fd, directory)
    cluster.ahead = ahead
    control: Control | None = None
    try:
        cluster.sockets.add(config.listen, config.fleet.workers)
        control = open_control(cluster)
        kernel.adopt()
        announce(cluster, control, ready_fd)
        gc.freeze()
        gc.enable()
        # From here on we must not die: what fails is journaled and tried again.
        code = Loop(cluster, control).run()
        cluster.note(Kind.STOPPED, code=int(code))
    finally:
        cluster.sockets.remove(list(cluster.sockets.groups))
        if control is not None:
            control.close()
    return code


def assemble(
    config: Config,
    reread: Callable[[], Config],
    kernel: Kernel,
    log_fd: int = 2,
    directory: str = ".",
) -> Cluster:
    """The cluster before anything runs."""
    title = f"clusterd: master {config.app.app}"
    setproctitle.setproctitle(title)
    cluster = Cluster(
        config=config,
        reread=reread,
        kernel=kernel,
        board=Scoreboard.create(),
        sockets=Sockets(),
        directory=directory,
        log_fd=log_fd,
        terminal=kernel.has_terminal() and os.isatty(2),
    )
    cluster.journal.listen(logbook.write)
    cluster.patience = patience_of(config)
    generation = cluster.next_generation(config, read(config.tls))
    cluster.goal = replace(Goal(size=config.fleet.workers), stable=generation)
    return cluster


def open_control(cluster: Cluster) -> Control | None:
    """The control socket, where there is a place for it.

    A place that was asked for must do; one that we only found in the environment may not.
    """
    path = control_path(cluster.config.place, os.environ)
    if path is None:
        return None
    try:
        return Control(cluster, path)
    except BindError as error:
        if cluster.config.place.runtime_dir or "in use" in error.message:
            raise
        cluster.note(Kind.TROUBLE, reason=error.message, next="serving without commands")
        return None


def announce(cluster: Cluster, control: Control | None, ready_fd: int | None) -> None:
    """Journal what we are; tell whoever started us that commands are taken."""
    config = cluster.config
    place = control.path if control else "off (--runtime-dir says where)"
    wanted = {"app": config.app.app, "workers": config.fleet.workers}
    cluster.note(Kind.STARTED, pid=cluster.pid, **wanted, commands=place)
    for one in cluster.sockets:
        cluster.note(Kind.LISTENING, address=one.name)
    limit = somaxconn()
    if 0 < limit < config.listen.backlog:
        reason = f"backlog {config.listen.backlog} is cut to net.core.somaxconn = {limit}"
        cluster.note(Kind.TROUBLE, reason=reason, next="raise it with sysctl, or lower --backlog")
    if ready_fd is not None:
        with contextlib.suppress(OSError):  # whoever started us no longer listens
            os.write(ready_fd, b"\n")
        os.close(ready_fd)
