"""`clusterd`: finds the command, runs it, and turns every failure into one line and a status."""

import contextlib
import gc
import os
import stat
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from clusterd import __version__

INTERRUPTED = 130  # as the shell says of a process that SIGINT ended
READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC  # no FIFO is waited for
LONGEST = 1024 * 1024  # bytes of a file of settings that are looked at
FAULTS = "CLUSTERD_TEST_FAULTS"  # scripted faults count every spawn, this one too

if TYPE_CHECKING:
    import click

    from clusterd.kernel.child import Ahead


def main() -> None:
    """The console script."""
    sys.exit(run(sys.argv[1:]))


def run(args: Sequence[str]) -> int:
    """The exit status of a command line."""
    if list(args) == ["--version"]:  # click alone would take longer than all of this
        print(f"clusterd {__version__}")
        return 0
    if args[:1] == ["status"] and (code := quick_status(args[1:])) is not None:
        return code
    if args[:1] != ["run"] or "--help" in args or FAULTS in os.environ:
        return invoke(args)
    gc.disable()  # what is imported now stays for life; `master.run` turns it on again
    if os.geteuid() == 0 and may_name_a_user(args):
        return invoke(args)  # `cli.run` starts a zygote once it is known which user it is to be
    from clusterd.kernel.child import start_ahead

    with start_ahead() or contextlib.nullcontext() as ahead:
        return invoke(args, ahead)


def may_name_a_user(args: Sequence[str]) -> bool:
    """Return whether settings may name a user: a zygote with root's rights would be of no use.

    Files are not parsed: that takes as long as is to be saved.
    """
    words = [word.partition("=")[0] for word in args]
    if {"--user", "--config"} & set(words) or {"CLUSTERD_USER", "CLUSTERD_CONFIG"} & set(
        os.environ
    ):
        return True
    for name in ("clusterd.toml", "pyproject.toml"):  # as config.sources looks for them
        with contextlib.suppress(OSError):
            if _mentions_a_user(name):
                return True
    return False


def _mentions_a_user(name: str) -> bool:
    """Return whether a file of settings has the word, or is longer than any should be."""
    fd = os.open(name, READ)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return False
        text = os.read(fd, LONGEST + 1)
    finally:
        os.close(fd)
    return len(text) > LONGEST or b"user" in text


def quick_status(args: Sequence[str]) -> int | None:
    """Answer the plain case of a status at once; None: it is not so plain."""
    from clusterd.cli import quick

    try:
        text = quick.status(args, os.environ)
        if text is not None:
            print(text, flush=True)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return enough()
    return None if text is None else 0


def invoke(args: Sequence[str], ahead: "Ahead | None" = None) -> int:
    """Find the command and call it. `ahead` is for the one that needs a zygote."""
    import click

    from clusterd.cli.commands import clusterd
    from clusterd.core.errors import ClusterdError
    from clusterd.core.exits import Exit

    try:
        code = clusterd.main(list(args), "clusterd", standalone_mode=False, obj=ahead)
        return int(code or Exit.OK)
    except ClusterdError as error:
        complain(str(error))
        return error.exit
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        return Exit.CONFIG
    except click.ClickException as error:
        print(_usage(error), file=sys.stderr)
        return Exit.CONFIG
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        return enough()


def enough() -> int:
    """Whoever read our output has enough, e.g. `head`. The interpreter flushes once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 0


def complain(text: str) -> None:
    """One line a failure on standard error, a second one for the remedy."""
    from clusterd.core.terminal import clean_lines  # it may quote the application

    print(f"clusterd: {clean_lines(text.rstrip())}", file=sys.stderr)


def _usage(error: "click.ClickException") -> str:
    """Bad usage in one line: which command, what is wrong, where to read on."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "clusterd"
    message = " ".join(error.format_message().split()).rstrip(".")
    return f"{path}: {message[:1].lower()}{message[1:]} ('{path} --help' explains)"


if __name__ == "__main__":
    main()
