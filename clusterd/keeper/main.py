"""The life of a keeper: start the program, say when it is ready, end it, or end as it did."""

import os
import signal
import time
import zlib

import setproctitle

from clusterd.config.commands import pattern
from clusterd.config.kinds import MAIN
from clusterd.core import log
from clusterd.core.errors import AppError
from clusterd.core.exits import Exit
from clusterd.core.log import get_logger
from clusterd.core.terminal import clean
from clusterd.ipc.channel import Closed, close_all
from clusterd.ipc.messages import (
    Drain,
    Draining,
    Dump,
    Dumped,
    Failed,
    Leaving,
    Message,
    Quit,
    Ready,
    Reopen,
)
from clusterd.ipc.scoreboard import Cell, Stage
from clusterd.keeper import program
from clusterd.keeper.birth import Birth
from clusterd.keeper.lock import Lock
from clusterd.keeper.notify import NotifySocket
from clusterd.keeper.output import PATIENCE, LogHandler, Outlet, Output, line_form
from clusterd.keeper.recycle import Recycling
from clusterd.keeper.stacks import whereabouts
from clusterd.keeper.turns import Turns
from clusterd.kernel import command
from clusterd.kernel.process import become_subreaper, signal_group, start_ticks
from clusterd.kernel.signals import Wakeup

logger = get_logger("clusterd.keeper")

SAY_AGAIN = 0.1  # s until state that the channel did not take is sent again
TRY_AGAIN = 0.2  # s until a lock that was just being taken, or let go, is tried again
SETTLE = 1.0  # s that what a program left behind may take to end before it counts as its daemon
SIGNALS = (signal.SIGCHLD, signal.SIGTERM, signal.SIGQUIT, signal.SIGUSR2)
MEANINGLESS = (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGWINCH)


def run(birth: Birth) -> int:
    """Be a keeper until the program has ended, or was ended. Returns the exit status: minus a
    signal's number where we are to end like that."""
    keeper = Keeper(birth)
    try:
        return keeper.run()
    except Exception:
        logger.exception("the keeper failed: this is a bug in clusterd")
        command.signal_children(signal.SIGKILL)
        return Exit.BUG


class Keeper:
    """One process of a command group, from the side of whoever looks after it."""

    def __init__(self, birth: Birth) -> None:
        self.birth = birth
        self.stage = Stage.BOOTING
        self.settings = birth.config.command
        self.row = birth.board.row(birth.row)
        self.turns = Turns()
        self.wakeup = Wakeup((*SIGNALS, *MEANINGLESS))
        self.outlet = Outlet(birth.log_fd, self._on_outlet)
        self._log_to(self.outlet)
        self.output = Output(self.turns, self.outlet, lambda _, text: text, self._on_line)
        self.pattern = pattern(self.settings.readiness)
        self.notify = NotifySocket() if self.settings.readiness == "notify" else None
        self.lock = Lock(birth.lock) if birth.lock >= 0 else None
        self.tries = 0  # to have the lock, while no keeper was found that has it
        self.recycling = Recycling(birth.config.vitals, self.turns, self.row)
        self.fingerprint = birth.fingerprint  # of the program's files as they were when it started
        self.main = 0  # the program's pid, while it runs
        self.code: int | None = None  # how the last of its processes ended
        self.began = 0.0
        self.fault = ""  # why it was ended though nobody asked
        self.said = ""  # STATUS=
        self.asked = False  # to end it
        self.asked_to_leave = False
        self.killing = False
        self.background = False
        self.alone = False  # the master is gone
        self.end: int | None = None

    def _log_to(self, outlet: Outlet) -> None:
        settings = self.birth.config.log
        root = log.get_logger()
        for old in root.handlers[:]:
            root.removeHandler(old)
        handler = LogHandler(outlet)
        identity = self._identity(os.getpid())
        handler.setFormatter(log.formatter(settings.log_format, self.birth.log_fd, identity))
        root.addHandler(handler)
        root.setLevel(settings.log_level.upper())
        root.propagate = False

    def _identity(self, pid: int) -> dict[str, object]:
        birth = self.birth
        whose = {} if birth.group == MAIN else {"group": birth.group}
        return {**whose, "worker": birth.slot, "gen": birth.generation, "pid": pid}

    def run(self) -> int:
        """The whole life."""
        become_subreaper()
        with self.wakeup:
            self._settle_in()
            self._begin()
            while self.end is None:
                self.turns.turn()
            self._clear_up()
        return self.end

    def _settle_in(self) -> None:
        row, birth = self.row, self.birth
        row[Cell.PID] = os.getpid()
        row[Cell.START_TICKS] = start_ticks(os.getpid())
        row[Cell.SLOT] = birth.slot
        row[Cell.GENERATION] = birth.generation
        self._enter(Stage.BOOTING)
        self.turns.on(self.wakeup, self._on_signals)
        self.turns.on(birth.channel, self._hear)
        if self.notify is not None:
            self.turns.on(self.notify, self._on_notify)

    # The program.

    def _begin(self) -> None:
        """Start it, or wait for the lock: then everything is ready for the moment it is free."""
        if self.asked:
            return  # the order to go came just before the end of who had the lock
        try:
            if self.lock is None or self.lock.take():
                self._start()
            else:
                self._stand_by(self.lock)
        except (AppError, OSError) as error:
            self._cannot(str(error))

    def _stand_by(self, lock: Lock) -> None:
        waiting = lock.wait()
        if waiting is None:
            self._try_again(lock)
            return

        def over() -> None:
            self.turns.off(waiting)
            os.close(waiting)
            self._begin()

        self.turns.on(waiting, over)
        self._ready_to_stand_by(keeper=lock.holder)

    def _try_again(self, lock: Lock) -> None:
        """No keeper is found that has the lock: it is just being taken or let go, its keeper is
        gone, or is another user's since a reload has changed the setting."""
        self.turns.at("lock", TRY_AGAIN, self._begin)
        if killed := lock.end_abandoned():
            logger.warning(
                "ended what was left of it without a keeper", extra=log.fields(pids=killed)
            )
        elif self.tries:
            self._ready_to_stand_by()
        self.tries += 1

    def _ready_to_stand_by(self, **keeper: int) -> None:
        if self.stage is Stage.BOOTING:
            logger.info("standing by until the one before has ended", extra=log.fields(**keeper))
            self._ready()

    def _start(self) -> None:
        birth, settings = self.birth, self.settings
        for _, sock in birth.listeners:
            sock.setblocking(True)  # as systemd hands them over; they are this group's alone
        address = self.notify.address if self.notify is not None else ""
        environ = program.environment(
            os.environ, birth.config, birth.group, birth.slot, len(birth.listeners), address
        )
        self.fingerprint = program.fingerprint(birth.program, birth.config)
        ends = self.output.open()
        try:
            self.main = command.start(
                command.Program(
                    path=birth.program,
                    argv=settings.command,
                    directory=settings.directory,
                    environ=environ,
                    output=ends,
                    sockets=[sock.fileno() for _, sock in birth.listeners],
                    kept=self.lock.fileno() if self.lock is not None else -1,
                )
            )
        finally:
            close_all(ends)
        self.began = time.monotonic()
        self.row[Cell.COMMAND] = self.main
        name = f"{birth.group}.{birth.slot}"
        style, hue = birth.config.log.log_format, zlib.crc32(birth.group.encode())
        self.output.form = line_form(style, birth.log_fd, self._identity(self.main), name, hue)
        logger.debug("started", extra=log.fields(program=birth.program, process=self.main))
        self.recycling.begin(lambda why: self._say(Leaving(why, recycle=True), keep=True))
        if settings.readiness == "up":
            self.turns.at("up", settings.ready_after, self._ready)
        elif self.stage is Stage.READY:  # the master does not wait for one that stood by
            self.turns.at("startup", birth.config.fleet.startup_timeout, self._too_late)

    def _cannot(self, reason: str) -> None:
        name = self.settings.command[0]
        self._say(Failed("command", f"{name} cannot be started: {reason}"))
        self.end = Exit.NEVER_READY

    def _ready(self) -> None:
        self.turns.forget("startup")
        if self.stage is Stage.BOOTING and not self.asked:
            self._enter(Stage.READY)
            birth = self.birth
            ready = Ready(os.getpid(), birth.slot, birth.generation, self.fingerprint)
            self._say(ready, keep=True)

    def _too_late(self) -> None:
        self.fault = "was not ready within the startup timeout"
        self._kill()

    def _on_line(self, text: str) -> None:
        if self.pattern is not None and self.pattern.search(text):
            self._ready()

    def _on_notify(self) -> None:
        assert self.notify is not None
        for said in self.notify.receive():
            if "STATUS" in said:
                self.said = clean(said["STATUS"])[:200]
                self._title()
            if said.get("READY") == "1":
                self._ready()
            if said.get("STOPPING") == "1" and not self.asked and not self.asked_to_leave:
                self.asked_to_leave = True  # so that another is there when it is gone
                self._say(Leaving("it says that it stops"), keep=True)

    def _on_children(self) -> None:
        dead, left = command.reap()
        failed = False
        for pid, code in dead:
            if pid == self.main:
                self.main, self.row[Cell.COMMAND] = 0, 0
                self.code, failed = code, code != 0
            elif self.code is not None:
                self.code = code  # of its processes, the last one says how it ended
        if self.code is None:
            return  # it runs; what ended was an orphan of its own
        if not left:
            self._over(self.code)
        elif self.killing:
            command.signal_children(signal.SIGKILL)  # those who became ours by the deaths before
        elif self.asked:
            command.signal_children(self._stop_signal)  # they were not of its process group
        elif failed:
            self._kill()  # it failed; what it left behind is of no use
        elif not self.background and not self.turns.waits_for("settle"):
            self.turns.at("settle", SETTLE, self._in_background)

    def _in_background(self) -> None:
        """It ended, and well, but something of it lives: that is supervised in its place."""
        self.background = True
        left = command.children(os.getpid())
        logger.warning(
            "the program went into the background: it is looked after until the last of its "
            "processes ends, but run it in the foreground if it can be told so",
            extra=log.fields(processes=left),
        )

    def _over(self, code: int) -> None:
        """Nothing of it lives any more."""
        if self.asked:
            self.end = Exit.OK
            return
        self.output.drain()
        seconds = time.monotonic() - self.began
        how = self.fault or f"ended by itself with {cause(code)}"
        reason = f"{self.settings.command[0]} {how} after {seconds:.1f} s"
        self._say(Failed("command", reason, "\n".join(self.output.last)))
        self.end = Exit.NEVER_READY if self.fault else code

    # Its end.

    @property
    def _stop_signal(self) -> int:
        return int(signal.Signals[f"SIG{self.settings.stop_signal}"])

    def _stop(self, within: float) -> None:
        """Ask it to end; kill it after so many seconds."""
        if not self.asked:
            self.asked = True
            self._enter(Stage.DRAINING)
            self._say(Draining(), keep=True)
            if not self._runs:
                self.end = Exit.OK
                return
            if self.main:
                signal_group(self.main, self._stop_signal)
                signal_group(self.main, signal.SIGCONT)  # a stopped one hears nothing
            else:
                command.signal_children(self._stop_signal)
        self.turns.at("kill", within, self._kill)

    @property
    def _runs(self) -> bool:
        return self.main != 0 or self.code is not None

    def _kill(self) -> None:
        self.killing = True
        if self.main:
            signal_group(self.main, signal.SIGKILL)
        command.signal_children(signal.SIGKILL)

    def _quit(self) -> None:
        self.asked = True
        self._enter(Stage.DRAINING)
        if self._runs:
            self._kill()
        else:
            self.end = Exit.OK

    def _clear_up(self) -> None:
        self.output.drain()
        self.output.close()
        self.outlet.flush(PATIENCE)

    # What the master says.

    def _hear(self) -> None:
        while (received := self.birth.channel.receive(block=False)) is not None:
            if isinstance(received, Closed):
                self.alone = True
                self.turns.off(self.birth.channel)
                if not self.asked:
                    logger.warning("the master is gone: ending the program")
                self._stop(self.birth.config.fleet.graceful_timeout)
                return
            self._obey(*received)

    def _obey(self, message: Message, fds: list[int]) -> None:
        match message:
            case Drain():
                self._stop(message.within)
            case Quit():
                if message.dump and self._runs:
                    self._dump()
                self._quit()
            case Dump():
                self._dump()
            case Reopen() if fds:
                self.outlet.reopen(fds.pop(0))
            case _:
                logger.debug("a keeper is not told %s", type(message).__name__)
        close_all(fds)

    def _dump(self) -> None:
        self._say(Dumped(whereabouts(os.getpid(), self.said, self.output.last)))

    def _say(self, message: Message, keep: bool = False) -> None:
        """Tell the master. `keep`: this is state, so it is said again until it went."""
        if not self.birth.channel.send(message) and keep and not self.alone:
            name = f"say {type(message).__name__}"
            self.turns.at(name, SAY_AGAIN, lambda: self._say(message, keep))

    # Signals, and the log.

    def _on_signals(self) -> None:
        for number in self.wakeup.drain():
            match number:
                case signal.SIGCHLD:
                    self._on_children()
                case signal.SIGTERM if self.asked_to_leave or self.alone:
                    self._stop(self.birth.config.fleet.graceful_timeout)
                case signal.SIGTERM:
                    self.asked_to_leave = True  # a replacement is started first
                    self._say(Leaving("TERM"), keep=True)
                case signal.SIGQUIT:
                    self._quit()
                case signal.SIGUSR2:
                    text = whereabouts(os.getpid(), self.said, self.output.last)
                    logger.warning("where it is, as asked for by USR2", extra=log.block(text))

    def _on_outlet(self) -> None:
        """The log takes no more, or takes lines again."""
        stuck = bool(self.outlet.pending)
        self.output.read_on(not stuck or self.outlet.dropping)
        watched = self.turns.has(self.outlet)
        if stuck and not watched:
            self.turns.on(self.outlet, self.outlet.resume, write=True)
            self.turns.at("stuck", PATIENCE, self.outlet.give_up)
        elif not stuck and watched:
            self.turns.off(self.outlet)
            self.turns.forget("stuck")

    def _enter(self, stage: Stage) -> None:
        self.stage = stage
        self.row[Cell.PHASE] = stage
        self._title()

    def _title(self) -> None:
        birth = self.birth
        said = f" ({self.said})" if self.said else ""
        setproctitle.setproctitle(
            f"{birth.config.place.name}: {birth.group} keeper {birth.slot} g{birth.generation} "
            f"{self.stage.name.lower()}{said}"
        )


def cause(code: int) -> str:
    """A wait status in words: `SIGKILL`, or `status 3`."""
    if code >= 0:
        return f"status {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
