"""`clusterd systemd`: print the units under which systemd runs a cluster as it should be run."""

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from clusterd.cli import unit
from clusterd.cli.here import directory
from clusterd.cli.options import Function, Grouped, file_option, option
from clusterd.config.address import Tcp, Unix, parse_bind
from clusterd.config.kinds import MAIN, Kind
from clusterd.config.resolve import load_groups
from clusterd.config.settings import TABLE, Config
from clusterd.core.errors import ConfigError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,99}", re.ASCII)
PATIENCE = 5.0  # seconds for systemctl to tell its version
ITS_OWN = ("app", "user", "runtime_dir")  # settings that a unit says in its own way


def run_options(function: Function) -> Function:
    """The options of `clusterd run` that can stand in a unit."""
    for row in reversed(TABLE.values()):
        if row.is_option and row.name not in ITS_OWN:
            function = option(row)(function)
    return click.argument("app", required=False, metavar="MODULE:APP")(file_option(function))


@click.command(cls=Grouped, context_settings={"allow_extra_args": True})
@run_options
@click.option("--socket", "activated", is_flag=True, help="A socket unit too: systemd listens.")
@click.option("--user", "of_user", is_flag=True, help="For a user's own systemd; see --as.")
@click.option(
    "--as", "account", metavar="USER[:GROUP]", help="User that it runs as.  [DynamicUser=yes]"
)
@click.option("--unit", "called", metavar="NAME", help="Name of the unit.  [after the application]")
@click.option(
    "--systemd-version",
    "version",
    type=click.IntRange(min=1),
    metavar="N",
    help="Version of systemd that is to read the units.  [the one that is installed here]",
)
@click.option("--output-dir", metavar="DIR", help="Write the units there.  [standard output]")
def systemd(
    activated: bool,
    of_user: bool,
    account: str | None,
    called: str | None,
    version: int | None,
    output_dir: str | None,
    **values: object,
) -> None:
    """Print a hardened systemd unit that runs an application.

    \b
      clusterd systemd shop.main:app -b 0.0.0.0:8000 | sudo tee /etc/systemd/system/shop.service
      sudo clusterd systemd shop.main:app --socket --output-dir /etc/systemd/system
      clusterd systemd --user shop.main:app --output-dir ~/.config/systemd/user

    Takes the options of 'clusterd run' and writes them into the unit; what they leave open is read
    from the file of settings when the service starts, in what is the current directory now. With
    --socket systemd itself listens, from the boot on; so it does for ports below 1024, since the
    service is to have no rights.

    Units say what the systemd understands that is installed here. For another machine name its
    version with --systemd-version; before 254 a crash is followed by a start each second, without
    longer and longer waits.
    """
    if more := click.get_current_context().args:
        raise ConfigError(
            f"systemd: there is more than one application: {' '.join(more)}",
            "the user that the service runs as is --as USER; --user is for a user's own systemd",
        )
    home = directory()
    groups = load_groups(values, {}, home)  # the service will not see our environment
    config = groups.get(MAIN) or next(iter(groups.values()))
    if not any(each.app.app or each.command.command for each in groups.values()):
        raise ConfigError("systemd: no application is named; allowed: module:attribute")
    account = "" if of_user else account or config.limits.user
    low = 0 if of_user else unit.low_port(config)
    if low and not activated and output_dir is None:
        raise ConfigError(
            f"systemd: port {low} takes rights that a service should not have, so systemd itself "
            "has to listen, by a second unit",
            "write both with --output-dir /etc/systemd/system, or print both with --socket",
        )
    activated = activated or bool(low)
    plan = unit.Plan(
        name=_name(called, config),
        command=(*program(), "run", *arguments(values), *_as_root(account)),
        directory=str(home),
        made_by=unit.shown(["clusterd", *sys.argv[1:]]),
        account=account,
        of_user=of_user,
        activated=activated,
        version=version or installed(),
        dumps=any(one.limits.limit_core > 0 for one in groups.values()),
        reload=(*program(), "reload", "--wait", *_place(values)),
    )
    texts = {f"{plan.name}.service": unit.service(plan, config)}
    if activated:
        places = {text: numeric(text) for text in config.listen.bind}
        texts[f"{plan.name}.socket"] = unit.sockets(plan, config, places)
    deliver(texts, output_dir)


def installed() -> int:
    """Return the version of systemd on this machine, or the newest known where there is none."""
    try:
        done = subprocess.run(
            ["systemctl", "--version"], capture_output=True, text=True, timeout=PATIENCE, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return unit.NEWEST
    return version_in(done.stdout)


def version_in(text: str) -> int:
    """Return the version that `systemctl --version` tells: `systemd 252 (252.39-1~deb12u2)`."""
    match = re.match(r"systemd (\d+)", text)
    return int(match[1]) if match else unit.NEWEST


def _place(values: Mapping[str, object]) -> list[str]:
    """Return the options by which a command in the unit finds the cluster."""
    words: list[str] = []
    for name in ("config", "name"):
        words += [f"--{name}", str(values[name])] if values.get(name) else []
    return words


def _as_root(account: str) -> tuple[str, ...]:
    """Work as the superuser is done only where it was asked for, by the unit as well."""
    return ("--user", "root") if account.partition(":")[0] in ("root", "0") else ()


def _name(called: str | None, config: Config) -> str:
    """The unit's name: as told, else the cluster's, else that of the application's package."""
    own = config.place.name
    package = config.app.app.partition(":")[0].partition(".")[0]
    name = called or (own if own != TABLE["name"].default or not package else package)
    name = name.removesuffix(".service")
    if not NAME.fullmatch(name):
        raise ConfigError(f"systemd: {name!r} cannot name a unit; allowed: letters, digits, -_.@")
    return name


def program() -> list[str]:
    """What starts this clusterd, by its full path: the script, else the module."""
    script = Path(sys.argv[0])
    if script.name == "clusterd" and (found := shutil.which(str(script.absolute()))):
        return [found]
    return [sys.executable, "-m", "clusterd.cli.main"]


def arguments(values: Mapping[str, object]) -> list[str]:
    """The options that were given, as `clusterd run` takes them."""
    words: list[str] = [str(values["app"])] if values.get("app") else []
    if values.get("config"):
        words += ["--config", str(values["config"])]
    for name, row in TABLE.items():
        given = values.get(name)
        if name == "app" or given in (None, ()):
            continue
        if row.about.kind is Kind.SWITCH:
            words.append(row.flag if given else f"--no-{row.flag[2:]}")
            continue
        for one in given if isinstance(given, tuple) else (given,):
            words += [row.flag, str(one)]
    return words


def numeric(text: str) -> list[str]:
    """A bind as ListenStream= takes it: numbers instead of names. Raises ConfigError."""
    bind = parse_bind(text)
    if isinstance(bind, Unix):
        return [bind.path]
    if not isinstance(bind, Tcp):
        return []
    try:
        found = socket.getaddrinfo(
            bind.host, bind.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"systemd: the host of {text} is not known: {error}") from error
    return list(dict.fromkeys(str(Tcp(str(where[0]), bind.port)) for *_, where in found))


def deliver(texts: Mapping[str, str], place: str | None) -> None:
    """Print the units, or write them where they were asked for. Raises ConfigError."""
    if place is None:
        click.echo("\n".join(texts.values()), nl=False)
        return
    for name, text in texts.items():
        path = Path(place).expanduser() / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        except OSError as error:
            raise ConfigError(f"systemd: {path} cannot be written: {error.strerror}") from None
        click.echo(os.fspath(path))
