"""`clusterd run`: the composition root. Puts the master together and gives it the process.

What is imported here stays in the master for life: no asyncio, no ssl, no psutil, no application.
"""

import functools
import os
import sys
from collections.abc import Mapping

import click

from clusterd import __version__
from clusterd.cli.deciding import ACTIVATED, FOUND, decide
from clusterd.cli.here import directory
from clusterd.cli.options import Grouped, every_setting
from clusterd.config import internal, runtime_dir, watch
from clusterd.config.place import identity
from clusterd.config.settings import TABLE, Config
from clusterd.core import log
from clusterd.core.errors import ConfigError
from clusterd.kernel import faulty, limited, own_files, privileges, tty
from clusterd.kernel.child import Ahead
from clusterd.kernel.nonblocking import open_masters
from clusterd.kernel.real import Kernel
from clusterd.master import children, trusted_paths
from clusterd.master import run as master
from clusterd.master.activation import take


@click.command(cls=Grouped)
@every_setting
@click.option("--ready-fd", type=int, hidden=True, help="Gets one byte once commands are taken.")
@click.pass_obj
def run(ahead: Ahead | None, /, ready_fd: int | None, **values: object) -> int:
    """Serve an application on every core, in the foreground.

    \b
      clusterd run shop.main:app
      clusterd run shop.main:app -b 0.0.0.0:8000 -b '[::]:8000' -w 4
      clusterd run 'shop.main:make()' --app-dir src -b unix:/run/shop.sock,mode=660

    Each option can also be set as CLUSTERD_ITS_NAME in the environment, or as its_name in
    clusterd.toml or the [tool.clusterd] table of pyproject.toml; 'clusterd config' shows what
    counts. TIME is 30, 500ms, 2m or 1h; SIZE is 8192, 64KiB or 1MiB.

    Ends with 0 when it was asked to, 3 when no worker ever became ready, 4 for a wrong setting,
    5 for an address that cannot be had.
    """
    home = directory()  # asked once: a deploy that moves its symlink changes what "." is
    luggage = take(os.environ, os.getpid())
    values[ACTIVATED] = luggage.binds
    values[FOUND] = runtime_dir.find(os.environ, os.geteuid())
    # What was not given is left out: an empty tuple would come back from JSON as a list.
    given = {name: value for name, value in values.items() if value not in (None, ())}
    reread = functools.partial(decide, given, home)
    groups = reread()
    config = next(iter(groups.values()))  # what is said below is for all groups
    trusted_paths.refuse_code(groups, os.environ)
    trusted_paths.refuse_files(groups, os.environ)
    descriptor = open_log(config.log.log_file, groups)
    log.set_up(
        descriptor,
        config.log.log_format,
        config.log.log_level,
        identity(config.place),
        open_masters,
    )
    if os.isatty(2):
        greet(groups)
    if remark := watch.remark(config):
        log.get_logger().warning(remark)
    kernel = faulty.wrap(Kernel())
    close_terminal(groups, kernel)
    ahead = zygote_ahead(ahead, groups)
    return master.run(
        groups, reread, ready_fd, kernel, descriptor, str(home), ahead, given, luggage
    )


def close_terminal(groups: dict[str, Config], kernel: Kernel) -> None:
    """Have no application read from our terminal, but for a debugger with our own rights.

    Before the first zygote is started: it inherits the terminal, and another user could not open it
    again.
    """
    debugs = any(one.dev.dev or one.dev.reload for one in groups.values())
    loses_rights = any(limited.has_rights_to_lose(one.limits.user) for one in groups.values())
    if (loses_rights or not debugs) and kernel.has_terminal():
        tty.write_only()


def zygote_ahead(ahead: Ahead | None, groups: dict[str, Config]) -> Ahead | None:
    """Return a zygote for the first application that is imported in one, or None.

    It is the one that was started already, where that has the rights that it is to have. As root
    it was not, where a user may be named: which one is known only now.
    """
    apps = (one for one in groups.values() if one.app.app and one.app.preload != "never")
    config = next(apps, None)
    if ahead is not None and (config is None or not children.fits(ahead, config.limits)):
        ahead.end()
        ahead = None
    if config is None or ahead is not None or faulty.VARIABLE in os.environ:
        return ahead
    limits = children.wanted_at_once(config.limits)
    return None if limits is None else limited.start_ahead(limits, children.report)


def open_log(path: str, groups: Mapping[str, Config]) -> int:
    """Return the descriptor that log lines go to. Raises ConfigError."""
    if not path:
        return 2
    owners = privileges.users(config.limits.user for config in groups.values())
    try:
        return own_files.open_log(path, owners)
    except OSError as error:
        flag = TABLE["log_file"].flag
        raise ConfigError(f"{flag}: {path} cannot be opened: {error.strerror}") from None


def greet(groups: dict[str, Config]) -> None:
    """What a person at a terminal wants to know before the import is through."""
    what = [
        f"importing {config.app.app} for {counted(config)}"
        + (f" on {', '.join(config.listen.bind)}" if config.listen.bind else "")
        for name, config in groups.items()
        if config.app.app and name not in internal.NAMES
    ]
    what += [
        f"{name} runs {counted(config)}"
        for name, config in groups.items()
        if config.command.command and name not in internal.NAMES
    ]
    what += ["reloading when files change"] if "watch" in groups else []
    print(f"clusterd {__version__}: {'; '.join(what)}; Ctrl-C stops", file=sys.stderr)


def counted(config: Config) -> str:
    count = config.fleet.workers
    return f"{count} worker{'s' * (count != 1)}"
