"""The life of a worker: booting, ready, draining, gone. Everything meets here."""

import asyncio
import functools
import os
import signal
import socket
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import setproctitle
import uvloop

from clusterd.app import notice
from clusterd.app.lifespan import Lifespan, StartupFailed
from clusterd.config.kinds import MAIN
from clusterd.config.tls import is_secured
from clusterd.core.exits import Exit
from clusterd.core.log import block, get_logger, set_up
from clusterd.core.stacks import fold
from clusterd.ipc.channel import Closed, close_all
from clusterd.ipc.messages import (
    Certificates,
    Cover,
    Drain,
    Draining,
    Dump,
    Dumped,
    Empty,
    Failed,
    Lasting,
    Leaving,
    Message,
    Quit,
    Ready,
    Reopen,
    Uncover,
)
from clusterd.ipc.scoreboard import Cell, Stage
from clusterd.kernel import forked, passing
from clusterd.kernel.nonblocking import NonBlockingWriter
from clusterd.kernel.process import start_ticks
from clusterd.kernel.randomness import reseed
from clusterd.kernel.signals import LOOK_SIGNAL
from clusterd.worker import drain, dump, exit_handlers, recycle, vitals
from clusterd.worker.accept import Acceptor, Listener, Queue
from clusterd.worker.birth import Birth
from clusterd.worker.connection import Connection
from clusterd.worker.gate import Gate
from clusterd.worker.handover import Handover
from clusterd.worker.keyring import HTTP1, without_foreign_names
from clusterd.worker.preamble import expecting_header
from clusterd.worker.pulse import Pulse
from clusterd.worker.server import Server
from clusterd.worker.tls import Handshake
from clusterd.worker.work import NAME as WORK
from clusterd.worker.work import Work
from clusterd.worker.wsgi import Watch, equip, no_lifespan

logger = get_logger("clusterd.worker")

SAY_AGAIN = 0.1  # s until state that the channel did not take is sent again
# Not SIG_IGN: what the app starts would inherit that.
MEANINGLESS = (signal.SIGINT, signal.SIGHUP, signal.SIGWINCH)


def run(birth: Birth, app: Any) -> int:
    """Be a worker until told to leave, or until the master is gone. Returns the exit status."""
    reseed()
    forked.forget()
    try:
        life = Life(birth, app)
        forked.disown(life.descriptors)
        forked.in_child(life.rename_child)
        status = life.run()
        life.run_exit_handlers(status)
        return status
    except Exception:
        logger.exception("the worker failed: this is a bug in clusterd")
        return Exit.BUG


def nothing(_number: int, _frame: FrameType | None) -> None:
    """A signal that means nothing to a worker."""


class TakenOver(Connection):
    """A connection that a sibling handed over: it is kept alive, not new."""

    __slots__ = ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._wait(self.server.http.keep_alive)


class Life:
    """One worker, from its first breath to its exit status."""

    def __init__(self, birth: Birth, app: Any, leave: Callable[[int], Any] = os._exit) -> None:
        self.birth = birth
        self.stage = Stage.BOOTING
        self.row = birth.board.row(birth.row)
        whose = {} if birth.group == MAIN else {"group": birth.group}
        own = {"worker": birth.slot, "gen": birth.generation, "pid": os.getpid()}
        self.identity: dict[str, Any] = {**whose, **own}
        log = birth.config.log
        self.log = set_up(
            birth.log_fd, log.log_format, log.log_level, self.identity, NonBlockingWriter
        )
        self.loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        self.gate = Gate(birth.board, birth.row, birth.config.http.max_connections)
        self.pulse = Pulse(self.loop, self.row)
        recycle.attend(self.pulse, self.row, birth.config.vitals, self._say)
        self.interface = birth.interface
        self.lifespan = Lifespan(app if self.interface == "asgi" else no_lifespan)
        self.work = Work(birth.group, birth.slot, birth.generation, self._ask_to_be_replaced)
        self.lifespan.extensions[WORK] = self.work.extension
        self.handover = Handover(birth.handover) if birth.handover is not None else None
        self.server: Server = self._make_server(app)
        self.pulse.every.append(self.server.memory.look)
        self.vitals = vitals.attend(self.pulse, self.loop, self.server, self._say, birth)
        self.acceptor = Acceptor(
            self.loop, self.server, lambda: Connection(self.server), self.gate, self._on_bug
        )
        self.watch: Watch | None = None
        if self.interface == "wsgi":
            self._call_wsgi(app)
        self._leave = leave
        self._end: asyncio.Future[int] = self.loop.create_future()
        self._booting: asyncio.Task[None] | None = None
        self._drain: drain.Drain | None = None
        self._order: Drain | None = None  # to leave, which came during startup
        self._draining: asyncio.Task[None] | None = None
        self._main: asyncio.Task[int] | None = None
        self._asked_to_leave = False
        self._alone = False  # the master is gone
        self._lasting: list[str] = []  # listeners that outlive the cluster

    def _make_server(self, app: Any) -> Server:
        server = Server(app, self.birth.config, self.loop, self.row, self.lifespan.state)
        server.on_load = self._on_load
        self.lifespan.extensions[notice.NAME] = server.notice.extension
        if self.birth.config.log.access_log:
            server.set_access_log(self.birth.log_fd, self.identity)
        return server

    def _call_wsgi(self, app: Any) -> None:
        pool = self.acceptor.pool = equip(self.server, app)
        if pool is not None:
            self.row[Cell.SEATS] = pool.size
            pool.changed = self._on_load
            limit = self.birth.config.wsgi.request_timeout
            self.watch = Watch(pool, limit, lambda: self._say(Leaving("request timeout"), True))

    def run(self) -> int:
        """The whole life, on this thread."""
        asyncio.set_event_loop(self.loop)
        self.loop.set_exception_handler(self._on_stray_error)
        self._set_signals()
        dump.register(self.birth.dump_fd)
        main = self._main = self.loop.create_task(self._live(), name="clusterd")
        try:
            while True:
                try:
                    return self.loop.run_until_complete(main)
                except (SystemExit, KeyboardInterrupt) as exit_:
                    # It broke out of the loop, but not out of our task: an app's bug costs its
                    # own task, never a worker.
                    logger.error("the application called sys.exit in a task", exc_info=exit_)
                    if main.done():
                        return Exit.BUG
        finally:
            self.publish()

    async def _live(self) -> int:
        self._enter(Stage.BOOTING)
        self.row[Cell.PID] = os.getpid()
        self.row[Cell.START_TICKS] = start_ticks(os.getpid())
        self.row[Cell.SLOT] = self.birth.slot
        self.row[Cell.GENERATION] = self.birth.generation
        self.pulse.publish = self._publish_if_any
        self.pulse.start()
        self.loop.add_reader(self.birth.channel.fileno(), self._hear)
        if not await self._boot():
            return self._end.result() if self._end.done() else Exit.NEVER_READY
        if self._order is None:
            self._open()
        else:
            self._begin_drain(self._order)
        return await self._end

    async def _boot(self) -> bool:
        """The app's startup. False: it failed, or we were told to leave meanwhile."""
        self._booting = self.loop.create_task(self.lifespan.startup())
        try:
            await self._booting
        except asyncio.CancelledError:
            self._finish(Exit.OK)
            return False
        except StartupFailed as error:
            reason, trace = error.message, error.trace
            failed = Failed("lifespan", dump.fit(reason, 8192), dump.fit_end(trace, 32768))
            # The master logs it, traceback and all, unless it is gone.
            if not self.birth.channel.send(failed):
                logger.error("%s", reason, extra=block(trace, stage="lifespan"))
            return False
        finally:
            self._booting = None
        return True

    def _open(self) -> None:
        self.server.dress(self.interface)
        if self.birth.http2 is not None:
            self.birth.http2(self.server, self.interface)
        if self.birth.keyring is not None:
            self.birth.keyring.offer((*self.server.spoken, HTTP1))
            sys.unraisablehook = without_foreign_names(sys.unraisablehook)
        reuseport = self.birth.config.listen.balance == "reuseport"
        for name, sock in self.birth.listeners:
            self.acceptor.add(self._listener(name, sock, is_gated(sock, name, reuseport)))
        if self.handover is not None:
            queue = Queue(self.handover, lambda: TakenOver(self.server), self._on_taken_over)
            self.acceptor.add(queue)
        self.acceptor.start()
        self._enter(Stage.READY)
        birth = self.birth
        self._say(Ready(os.getpid(), birth.slot, birth.generation, birth.fingerprint), keep=True)
        logger.debug("ready")

    def _listener(self, name: str, sock: socket.socket, gated: bool) -> Listener:
        """A listener, with what its connections go through before anything is spoken on them."""
        keyring = self.birth.keyring
        make: Callable[..., Any] | None = None
        secure = keyring is not None and sock.family != socket.AF_UNIX and is_secured(name)
        if keyring is not None and secure:
            make = functools.partial(Handshake, self.server, keyring)
        if self.birth.config.proxy.proxy_protocol:
            make = expecting_header(self.server, make)
        if sock.family == socket.AF_UNIX:
            passing.refuse(sock)  # no client needs to send any, and their close might block us
        return Listener(name, sock, gated, make, secure)

    # What the master says.

    def _hear(self) -> None:
        try:
            while (received := self.birth.channel.receive(block=False)) is not None:
                if isinstance(received, Closed):
                    self._on_master_gone()
                    return
                self._obey(*received)
        except Exception as error:
            self._on_bug(error)

    def _obey(self, message: Message, fds: list[int]) -> None:
        match message:
            case Drain():
                self._begin_drain(message)
            case Quit():
                if message.dump and self.server.running:
                    self._say(Dumped(dump.fit(dump.stacks(self.loop))))
                self._quit()
            case Dump():
                self._say(Dumped(dump.fit(dump.stacks(self.loop))))
            case Reopen() if fds:
                self._reopen(fds.pop(0))
            case Certificates() if self.birth.keyring is not None:
                self._say(self.birth.keyring.renew(message.number, fds.pop(0)), keep=True)
            case Cover():
                for name in message.listeners:
                    self._cover(name, fds.pop(0))
            case Uncover():
                for name in message.listeners:
                    self.acceptor.drop(name)
            case Empty():
                for name in message.listeners:
                    self._empty(name, fds.pop(0))
            case Lasting():
                self._lasting = message.listeners
            case _:
                logger.error("a worker is not told %s", type(message).__name__)
        close_all(fds)

    def _reopen(self, fd: int) -> None:
        if self.server.access is not None:
            self.server.set_access_log(fd)  # first: it writes what it has to the old one
        self.log.reopen(fd)

    def _cover(self, name: str, fd: int) -> None:
        if self.stage is Stage.READY:
            self.acceptor.add(self._listener(name, socket.socket(fileno=fd), gated=False))
        else:
            os.close(fd)

    def _empty(self, name: str, fd: int) -> None:
        """Accept what waits in a listener. Only workers that have been ready get one.

        Also while draining: the clients that wait there are served by no other process.
        """
        listener = self._listener(name, socket.socket(fileno=fd), gated=False)
        self.acceptor.empty(listener)

    def _on_master_gone(self) -> None:
        self._alone = True
        # The master would do this at a stop. Without it, clients that come back for each request
        # would keep us until the graceful timeout cuts them off.
        self.acceptor.refuse_newcomers(self._lasting)
        self.loop.remove_reader(self.birth.channel.fileno())
        if self.stage is not Stage.DRAINING:
            logger.warning("the master is gone: finishing what is in hand, then leaving")
        within = self.birth.config.fleet.graceful_timeout
        self._begin_drain(Drain("master gone", within, last=True, handover=False))

    def _say(self, message: Message, keep: bool = False) -> None:
        """Tell the master. `keep`: this is state, so it is said again until it went."""
        if not self.birth.channel.send(message) and keep and not self._alone:
            self.loop.call_later(SAY_AGAIN, self._say, message, keep)

    # Leaving.

    def _begin_drain(self, order: Drain) -> None:
        if self._booting is not None:
            # Kept, too: startup may be over already without our having heard of it, and to cancel
            # it does nothing then. A worker that forgets the order would outlive its master.
            self._order = order
            self._booting.cancel()
        elif self._drain is not None:
            self._drain.hurry(order)
        elif not self._end.done():
            self._enter(Stage.DRAINING)
            grace = self.birth.config.fleet.stream_grace
            self._drain = drain.Drain(
                self.loop, self.server, self.acceptor, self.handover, order, grace
            )
            self._drain.on_offered = lambda: self._say(Draining(), keep=True)
            self.acceptor.stop()
            self._draining = self.loop.create_task(self._leave_by(self._drain), name="drain")

    async def _leave_by(self, way: drain.Drain) -> None:
        try:
            await way.run()
            await self.lifespan.shutdown(way.left)
            await self._end_strays(min(1.0, way.left))
        except Exception as error:
            self._on_bug(error)
        else:
            self._finish(Exit.OK)

    async def _end_strays(self, within: float) -> None:
        """Cancel what the app left running, as `asyncio.run` would, so that it can clean up."""
        known = {self._main, asyncio.current_task()}
        strays = asyncio.all_tasks() - known
        for task in strays:
            task.cancel()
        if strays:
            await asyncio.wait(strays, timeout=within)

    def _finish(self, status: int) -> None:
        self.pulse.stop()
        if not self._end.done():
            self._end.set_result(status)

    def _quit(self) -> None:
        """Leave now. Not through the loop, which may be stuck in the app."""
        try:
            self.publish()
        finally:  # a signal finds us anywhere, also half-way through what is published
            self._leave(Exit.OK)

    def run_exit_handlers(self, status: int) -> None:
        """Run the application's exit handlers: where a worker leaves in good order, and not at a
        quick stop or after a hang or a bug of ours."""
        if status not in (Exit.OK, Exit.NEVER_READY) or self.vitals.has_left:
            return
        left = self._drain.left if self._drain is not None else 0.0
        seconds = max(exit_handlers.AT_LEAST, left)
        exit_handlers.run(seconds, self.birth.channel, status, self.log)

    # What a child that the application forks must not keep.

    def descriptors(self) -> list[int]:
        """Return the descriptors that are ours alone: sockets of clients, of siblings and of the
        master. The log stays open, the child may log."""
        birth = self.birth
        found = [birth.channel.fileno(), birth.dump_fd]
        found += [sock.fileno() for _, sock in birth.listeners]
        found += [sock.fileno() for sock in birth.handover or ()]
        found += [source.fileno() for source in self.acceptor.sources]
        found += [connection.descriptor() for connection in self.server.connections]
        return found

    def rename_child(self) -> None:
        """Have ps(1) show that a forked child is no worker; its dumps are not the master's."""
        dump.unregister()
        setproctitle.setproctitle(self._title("child of worker"))

    # Signals. Python runs their handlers between two bytecodes of the main thread, wherever that
    # is; the loop's wake-up descriptor, which uvloop owns, makes an idle loop run them.

    def _set_signals(self) -> None:
        for number in MEANINGLESS:
            forked.handle(number, nothing)
        # USR1 is for the master, which reopens logs for us. Our parent has a handler for it that
        # does nothing; if the import has put another in its place (`faulthandler.register`, which
        # `signal.getsignal` does not show), that one stays.
        if signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL:
            forked.handle(signal.SIGUSR1, nothing)
        forked.handle(signal.SIGTERM, self._on_term)
        forked.handle(signal.SIGQUIT, lambda _number, _frame: self._quit())
        forked.handle(signal.SIGUSR2, self._on_usr2)
        forked.handle(LOOK_SIGNAL, self.vitals.on_look)
        signal.siginterrupt(LOOK_SIGNAL, False)  # C libraries may not know of it

    def _on_term(self, _number: int, _frame: FrameType | None) -> None:
        self.loop.call_soon_threadsafe(self._ask_to_leave)

    def _ask_to_leave(self) -> None:
        """Be replaced first, if there is somebody to do it; the second time, leave at once."""
        if self._asked_to_leave or self._alone:
            within = self.birth.config.fleet.graceful_timeout
            self._begin_drain(Drain("TERM", within, handover=False))  # to whom, nobody said
        else:
            self._asked_to_leave = True
            self._say(Leaving("TERM"), keep=True)

    def _ask_to_be_replaced(self, reason: str) -> None:
        """Ask for a worker in our place, as the application wants: a job is stuck, say."""
        if not self._alone:
            self._say(Leaving(reason), keep=True)

    def _on_usr2(self, _number: int, frame: FrameType | None) -> None:
        """From the handler itself, so that a loop stuck in Python code shows where."""
        try:
            stacks = "\n".join(fold(dump.stacks(self.loop, frame)))
        except Exception as error:  # must not surface in whatever code was interrupted
            stacks = f"no stacks: {error!r}"
        logger.warning("stacks, as asked for by USR2", extra=block(stacks))

    # What the pieces tell each other.

    def _enter(self, stage: Stage) -> None:
        self.stage = stage
        self.row[Cell.PHASE] = stage
        self.vitals.enter(stage, self.loop.time())
        setproctitle.setproctitle(f"{self._title('worker')} {stage.name.lower()}")

    def _title(self, what: str) -> str:
        birth = self.birth
        whose = birth.config.place.name
        if birth.group != MAIN:
            whose += f": {birth.group}"
        return f"{whose}: {what} {birth.slot} g{birth.generation}"

    def _on_load(self) -> None:
        """The number of open connections has changed: siblings look at it before they accept."""
        if self.gate.is_open:
            self.gate.show(self.server.load)

    def _on_taken_over(self) -> None:
        self.row[Cell.TAKEN_OVER] += 1  # rare, and the cell is ours alone

    def publish(self) -> None:
        """Our counters go to the row: those of connections by the server, ours beside them."""
        row = self.row
        row[Cell.HELD_BACK] = self.acceptor.held_back
        row[Cell.HANDED_OVER] = self._drain.handed_over if self._drain is not None else 0
        self.server.publish()
        self.work.publish(row)

    def _publish_if_any(self) -> None:
        """At each beat. An idle worker has nothing new, and every line run in the cold costs."""
        if self.server.open or self.server.is_dirty or self.work.is_new:
            self.publish()
        if self.watch is not None:
            self.watch.look()

    def _on_bug(self, error: Exception) -> None:
        logger.error("the worker failed: this is a bug in clusterd", exc_info=error)
        self.gate.shut()
        self._finish(Exit.BUG)
        if self._booting is not None:
            self._booting.cancel()

    def _on_stray_error(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """An error that nobody awaited: nearly always of a task that the app started."""
        logger.error("%s", context.get("message"), exc_info=context.get("exception"))


def is_gated(sock: socket.socket, name: str, reuseport: bool) -> bool:
    """Whether siblings share this listener, so that who is less busy should go first."""
    own = reuseport and sock.family != socket.AF_UNIX and not name.startswith("fd:")
    return not own
