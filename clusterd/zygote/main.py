"""The zygote's life: import, say so, then fork on order until told to leave."""

import json
import os
import signal
from collections.abc import Callable
from logging.handlers import QueueListener
from typing import NoReturn, Protocol

import setproctitle

from clusterd.config.kinds import MAIN
from clusterd.config.settings import Config
from clusterd.core.errors import AppError
from clusterd.core.exits import Exit
from clusterd.ipc.channel import Channel, Closed, close_all
from clusterd.ipc.messages import (
    Boot,
    Certificates,
    Certified,
    Failed,
    Hello,
    Leave,
    Loaded,
    Message,
    Reopen,
    Sockets,
    Spawn,
    Unspawned,
)
from clusterd.ipc.scoreboard import Scoreboard
from clusterd.kernel import fork, forked, resources
from clusterd.kernel.faulty import wrap
from clusterd.kernel.process import set_parent_death_signal
from clusterd.zygote import handlers, inventory, log_queues
from clusterd.zygote.image import Image
from clusterd.zygote.trail import Trail, roots
from clusterd.zygote.undertaker import bury

REASON_SHARE = 8 * 1024  # bytes of a packet that the reason of a failure may take
PACKET_SHARE = 48 * 1024  # bytes of a packet that a traceback may take; it has 32 KiB at most

# What a terminal or an operator sends to the whole process group. A handler that does nothing
# rather than SIG_IGN, which the application's own children would inherit.
IGNORED = (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH)

# Sent by the kernel when the master dies while we import. Python sees to it between two bytecodes
# or in a wait; an import that is stuck in C outlives the master.
ORPHANED = signal.SIGRTMIN + 2

Work = Callable[[Spawn, Channel, list[int], Image | None], int]
Build = Callable[[], Image]  # raises AppError


class Keyring(Protocol):
    """The workers' certificates, which this room may not know more of."""

    def renew(self, number: int, fd: int) -> Certified: ...


def ignore_signals() -> None:
    """Leave the group's signals to the master."""
    for number in IGNORED:
        forked.handle(number, lambda *_: None)


class Zygote:
    """One generation's process.

    `build` loads what `work`, the worker's main, is to run; neither may be imported here. `stage`
    is what a failure to load is called.
    """

    def __init__(
        self,
        channel: Channel,
        boot: Boot,
        board: Scoreboard,
        log_fd: int,
        build: Build,
        work: Work,
        keyring: Keyring | None = None,
        stage: str = "import",
    ) -> None:
        self.channel = channel
        self.board = board
        self.log_fd = log_fd
        self.build = build
        self.work = work
        self.keyring = keyring
        self.stage = stage
        self.forks = wrap(fork, "zygote")
        self.master = os.pidfd_open(os.getppid())
        self.group = boot.group
        self.generation = boot.generation
        self.sockets = [(path, inode) for path, inode in boot.sockets]
        self.config = Config.from_wire(boot.config)
        self.image: Image | None = None
        self.unsafe = ""  # why workers cannot be forked from the image
        self.listeners: list[QueueListener] = []  # whose threads each forked worker starts again

    def run(self, bundle: int = -1) -> int:
        """Load, then serve orders; the exit status. `bundle`: certificates for the keyring."""
        ignore_signals()
        forked.disown(lambda: [self.channel.fileno(), self.master])
        self._title("loading")
        if self.keyring is not None and not self._certify(self.keyring, bundle):
            return Exit.CONFIG
        if not self._load_while_the_master_lives():
            return Exit.NEVER_READY
        if not self.unsafe:  # the import's handler must not reap what we fork
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._title("ready")
        while True:
            received = self.channel.receive()
            if received is None:
                continue
            if isinstance(received, Closed):
                self._bury()
                return Exit.OK
            if isinstance(received[0], Leave):
                return Exit.OK
            if isinstance(received[0], Spawn) and self.unsafe:
                return self._become_worker(received[0], received[1])
            self._obey(*received)

    def _bury(self) -> None:
        self._title("undertaker")
        bury(self.board, self.sockets, self.config.fleet.graceful_timeout, self.master)

    def _load_while_the_master_lives(self) -> bool:
        """Import. It may take for ever, and then nobody would read the end of our channel."""

        def orphaned(*_: object) -> NoReturn:
            self._bury()
            os._exit(Exit.OK)

        signal.signal(ORPHANED, orphaned)
        set_parent_death_signal(ORPHANED)
        loaded = self._load()
        set_parent_death_signal(0)
        signal.signal(ORPHANED, signal.SIG_DFL)
        return loaded

    def _certify(self, keyring: Keyring, bundle: int) -> bool:
        """Load the certificates, so that workers have them; first, since it takes a moment."""
        certified = keyring.renew(0, bundle)
        self.channel.send(certified)
        return not certified.fault

    def _title(self, phase: str) -> None:
        what = self.config.app.app or " ".join(self.config.command.command)
        whose = "" if self.group == MAIN else f"{self.group} "
        setproctitle.setproctitle(f"clusterd: {whose}zygote g{self.generation} {phase} {what}")

    def _load(self) -> bool:
        if self.config.app.preload == "never":
            # It stays nevertheless: to clean up should the master die.
            self.unsafe = "preload is never"
            self.channel.send(Loaded(self.generation, "", 0.0, self.unsafe))
            return True
        earlier, app = resources.read(), self.config.app
        trail = Trail(roots(app.app, app.app_dir) if app.app else ())
        handled = handlers.read()
        try:
            with trail:
                self.image = self.build()
        except AppError as error:
            self.channel.send(failure(self.stage, error))
            return False
        # What the import printed is written now, once, and not by each process forked from here.
        fork.flush_streams()
        found = inventory.take(earlier, self.image.identities, trail.where)
        if found.reason and self.config.app.preload == "always":
            remedy = f"{found.advice} Or set preload to auto."
            self.channel.send(Failed("import", f"forking is not safe: {found.reason}. {remedy}"))
            return False
        image, self.unsafe = self.image, found.reason
        self.listeners = list(log_queues.listening().values())
        told = (found.reason, found.kinds, found.advice, handlers.replaced(handled, trail.roots))
        self.channel.send(Loaded(self.generation, image.fingerprint, image.seconds, *told))
        return True

    def _obey(self, message: Message, fds: list[int]) -> None:
        match message:
            case Sockets(sockets=sockets):
                self.sockets = [(path, inode) for path, inode in sockets]
            case Certificates() if self.keyring is not None:
                self.channel.send(self.keyring.renew(message.number, fds.pop(0)))
                close_all(fds)
            case Reopen():
                os.dup2(fds[0], self.log_fd, inheritable=False)  # for those born from now on
                close_all(fds)
            case Spawn():
                self._fork(message, fds)
                close_all(fds)
            case _:
                close_all(fds)

    def _fork(self, order: Spawn, fds: list[int]) -> None:
        try:
            self.forks.fork_orphan(lambda: self._newborn(order, fds))
        except OSError as error:
            self.channel.send(Unspawned(order.row, str(error)))

    def _newborn(self, order: Spawn, fds: list[int]) -> int:
        forked.forget()
        os.close(self.master)
        self.channel.close()  # or this worker would hide the zygote's death from the master
        for listener in self.listeners:
            log_queues.start_again(listener)
        return be_born(order, fds, self.image, self.work)

    def _become_worker(self, order: Spawn, fds: list[int]) -> int:
        """Become the worker, since the image cannot be forked: it is used here and nowhere else."""
        os.close(self.master)
        self.channel.close()
        return be_born(order, fds, self.image, self.work)


def be_born(order: Spawn, fds: list[int], image: Image | None, work: Work) -> int:
    """Say hello on the newborn's own channel and start its life."""
    channel = Channel.of(fds[0])
    if not channel.send(Hello(os.getpid(), order.slot, order.row, order.generation)):
        return Exit.OK  # the master no longer waits for us: our row may be another's by now
    return work(order, channel, fds[1:], image)


def failure(stage: str, error: AppError) -> Failed:
    """The message that carries an application's error, cut to fit a packet."""
    reason, text = error.message, str(getattr(error, "traceback", ""))
    while _size(reason) > REASON_SHARE:
        reason = reason[: len(reason) * 3 // 4] + "…"
    while _size(text) > PACKET_SHARE:
        text = "…\n" + text[len(text) // 4 :]
    return Failed(stage, reason, text, error.remedy)


def _size(text: str) -> int:
    """Return the bytes that a text takes in a packet; escapes may take six for a character."""
    return len(json.dumps(text, ensure_ascii=False).encode("utf-8", "backslashreplace"))
