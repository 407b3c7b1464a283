"""What a freshly started child runs: `python -P -m clusterd.child zygote|worker FD [limited]`.

The one file that imports inside functions: a zygote loads the worker's modules so that newborns
find them there, though its room may not import them. One whose group runs a program loads the
keeper instead, and stays small.
"""

import contextlib
import functools
import gc
import importlib
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from clusterd.config.http2 import is_spoken
from clusterd.config.settings import Config
from clusterd.core.errors import AppError, Bug, ConfigError
from clusterd.core.exits import Exit
from clusterd.ipc.channel import Channel, Closed, Foreign, close_all
from clusterd.ipc.messages import UNFIT, Boot, Failed, Spawn
from clusterd.ipc.scoreboard import Scoreboard, is_known
from clusterd.kernel import descent, forked, privileges, tty
from clusterd.kernel.child import AHEAD, LIMITED, keep_only
from clusterd.kernel.process import set_parent_death_signal
from clusterd.zygote.image import Image
from clusterd.zygote.main import Work, Zygote, be_born, failure, ignore_signals

if TYPE_CHECKING:
    from clusterd.worker.birth import Birth
    from clusterd.worker.keyring import Keyring


def main() -> int:
    """Take the first message and become what the command line says."""
    role, channel = sys.argv[1], Channel.of(int(sys.argv[2]))
    keep_only(channel.fileno())
    try:
        return _become(role, channel, is_limited=LIMITED in sys.argv[3:])
    except Foreign:  # clusterd was exchanged on disk, and the master that runs is another version
        if not channel.send(UNFIT):
            raise
        return Exit.NEVER_READY
    finally:
        channel.close()  # or Python warns of an unclosed socket where warnings are shown


def _become(role: str, channel: Channel, is_limited: bool) -> int:
    received = channel.receive(block=False)
    if received is None:
        ignore_signals()  # in development it may be long until somebody needs us
        _load_the_worker()  # started ahead: while the master gets ready to say what to import
        if role == AHEAD:
            _load_the_rest()
        received = channel.receive()
    if received is None or isinstance(received, Closed):
        return Exit.OK  # the master is gone already
    boot, fds = received
    if not isinstance(boot, Boot):
        raise Bug(f"the first message was {type(boot).__name__}")
    os.set_inheritable(channel.fileno(), False)
    config = _settings(boot)
    board, log_fd, *bundle = Scoreboard(fds[0]), *fds[1:]
    if not config.command.command:  # a program is given them when it is started
        for name, _, value in (pair.partition("=") for pair in config.command.environment):
            os.environ[name] = value
        descent.mark()
    # In development, a debugger may read from it, where it has all rights of the terminal's user.
    if is_limited or not (config.dev.dev or config.dev.reload):
        tty.leave()
    is_zygote = role in ("zygote", AHEAD)
    is_bare = is_zygote and not config.command.command and config.app.preload == "never"
    if not is_limited:
        try:
            privileges.apply(config.limits)
        except ConfigError as error:
            channel.send(Failed("limits", error.message, remedy=error.remedy))
            return Exit.CONFIG
    gave_up = is_limited and os.geteuid() != 0
    privileges.hide_memory(config.limits, gave_up, holds_key=bool(bundle))
    if config.command.command:
        keep = _keep(boot.group, config, board, log_fd)
        return Zygote(
            channel, boot, board, log_fd, lambda: _look(config), keep, None, "command"
        ).run()
    if is_bare:
        keyring = _keyring(config) if bundle else None
        return Zygote(channel, boot, board, log_fd, _never, _never, keyring).run(*bundle)
    run = _load_the_worker()
    keyring = _keyring(config) if bundle else None
    work = _work(boot.group, config, keyring, board, log_fd, run)
    if is_zygote:
        build = functools.partial(_build, config)
        return Zygote(channel, boot, board, log_fd, build, work, keyring).run(*bundle)
    if keyring is not None and (fault := keyring.renew(0, *bundle).fault):
        channel.send(Failed("certificates", fault))  # though its zygote could use them
        return Exit.NEVER_READY
    return _solo(channel, work)


def _settings(boot: Boot) -> Config:
    """Return the settings of our group. Raises Foreign where the master is of a version that has
    other settings, or another scoreboard."""
    if not is_known(boot.board):
        raise Foreign("the scoreboard is laid out otherwise")
    try:
        return Config.from_wire(boot.config)
    except (KeyError, TypeError) as error:
        raise Foreign(f"the settings are others: {error}") from error


def _keyring(config: Config) -> "Keyring":
    from clusterd.worker.keyring import Keyring

    return Keyring(config.tls)


def _never(*_: object) -> NoReturn:
    """What a bare zygote builds and forks: it holds no application, and stays small."""
    raise Bug("a bare zygote has nothing to fork from")


def _load_the_worker() -> Callable[["Birth", object], int]:
    gc.disable()  # as for the application: what is imported stays
    from clusterd.worker.main import run

    gc.enable()
    return run


def _load_the_rest() -> None:
    """Nobody waits for us yet: load what may be needed, and have it behind us for the collector."""
    for name in ("worker.birth", "worker.keyring", "zygote.fresh", "zygote.importing"):
        importlib.import_module(f"clusterd.{name}")
    if is_spoken("auto"):
        importlib.import_module("clusterd.worker.http2")
    gc.collect()
    gc.freeze()


def _build(config: Config, is_forked: bool = True) -> Image:
    from clusterd.app import lazy
    from clusterd.zygote import fresh
    from clusterd.zygote.importing import build

    lazy.load_package("clusterd")
    if config.dev.reload:
        fresh.install()
    return build(config.app, is_forked=is_forked)


def _look(config: Config) -> Image:
    """The image of a group that runs a program: where that is. Raises AppError."""
    from clusterd.keeper import program

    path = program.find(config)
    gc.collect()
    gc.freeze()
    return Image(path, program.fingerprint(path, config), 0.0)


def _keep(group: str, config: Config, board: Scoreboard, log_fd: int) -> Work:
    from clusterd.keeper import main as keeper
    from clusterd.keeper.birth import Birth as KeeperBirth
    from clusterd.kernel.command import end_like

    def work(order: Spawn, channel: Channel, fds: list[int], image: Image | None) -> int:
        assert image is not None
        unused, listeners = fds[:3], fds[3:]  # nobody dumps a keeper, or hands it connections
        lock = listeners.pop(0) if order.locked else -1
        close_all(unused)
        privileges.place(config.limits, order.slot)
        birth = KeeperBirth(
            group=group,
            channel=channel,
            board=board,
            slot=order.slot,
            row=order.row,
            generation=order.generation,
            config=config,
            listeners=_named(order, listeners),
            log_fd=log_fd,
            program=str(image.app),
            fingerprint=image.fingerprint,
            lock=lock,
        )
        status = keeper.run(birth)
        end_like(status)
        return status

    return work


def _solo(channel: Channel, work: Work) -> int:
    """A worker that imports for itself, where forking from an image is not safe."""
    received = channel.receive()
    if received is None or isinstance(received, Closed):
        return Exit.OK
    order, fds = received
    if not isinstance(order, Spawn):
        raise Bug(f"the second message was {type(order).__name__}")
    channel.close()  # the order carries it once more, so that both kinds of birth are alike
    ignore_signals()
    forked.disown(lambda: fds)  # for what the import forks; the worker says what is its own
    return be_born(order, fds, None, work)


def _work(
    group: str,
    config: Config,
    keyring: "Keyring | None",
    board: Scoreboard,
    log_fd: int,
    run: Callable[["Birth", object], int],
) -> Work:
    from clusterd.worker.birth import Birth
    from clusterd.worker.trust import Peers

    Peers(config.proxy.trusted_proxies)  # parsed once, and not by each worker
    http2: Callable[[Any, str], None] | None = None
    if is_spoken(config.http.http2):
        from clusterd.worker.http2 import equip as http2

    def work(order: Spawn, channel: Channel, fds: list[int], image: Image | None) -> int:
        dump_fd, take, give, *listeners = fds
        descent.mark()
        privileges.place(config.limits, order.slot)
        if image is None:
            try:
                image = _import_alone(config)
            except AppError as error:
                channel.send(failure("import", error))
                return Exit.NEVER_READY
        birth = Birth(
            group=group,
            channel=channel,
            board=board,
            slot=order.slot,
            row=order.row,
            generation=order.generation,
            config=config,
            listeners=_named(order, listeners),
            handover=(socket.socket(fileno=take), socket.socket(fileno=give)),
            dump_fd=dump_fd,
            log_fd=log_fd,
            fingerprint=image.fingerprint,
            interface=image.interface,
            keyring=keyring,
            http2=http2,
        )
        return run(birth, image.app)

    return work


def _named(order: Spawn, fds: list[int]) -> list[tuple[str, socket.socket]]:
    """The listeners that came with an order, by their addresses."""
    return [(one, socket.socket(fileno=fd)) for one, fd in zip(order.listeners, fds, strict=True)]


def _import_alone(config: Config) -> Image:
    """Import in the worker. It may take for ever, and then nobody would see that the master is
    gone."""
    set_parent_death_signal(signal.SIGKILL)
    image = _build(config, is_forked=False)
    set_parent_death_signal(0)
    return image


def leave(status: int) -> NoReturn:
    """Not `sys.exit`: it would wait for threads that the app left running, for ever."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # closed, or None, or a pipe that nobody reads
            stream.flush()
    os._exit(status)


if __name__ == "__main__":
    leave(main())
