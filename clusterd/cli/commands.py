"""The group: which commands there are, and where each is imported from when it is called."""

import importlib
from typing import Any

import click

from clusterd import __version__

RUNNING = "Run and look ahead"
STEERING = "Steer what runs"
WATCHING = "Watch what runs"

# Name, heading, module and attribute, and the line that `clusterd --help` shows.
COMMANDS: dict[str, tuple[str, str, str]] = {
    "run": (RUNNING, "run:run", "Serve an application on every core, in the foreground."),
    "config": (RUNNING, "config:config", "Show every setting, its value, and where it came from."),
    "check": (
        RUNNING,
        "check:check",
        "Look at app, settings and machine, and say what is wrong.",
    ),
    "bench": (RUNNING, "bench:bench", "Measure what the cluster buys, or any server under load."),
    "systemd": (
        RUNNING,
        "systemd:systemd",
        "Print a hardened systemd unit that runs an application.",
    ),
    "completion": (RUNNING, "completion:completion", "Print the shell's completion script."),
    "reload": (STEERING, "steer:reload", "Roll in new code and settings, losing no request."),
    "rollback": (STEERING, "steer:rollback", "Return to the previous code at once."),
    "scale": (STEERING, "steer:scale", "Change the number of workers: to N, or by +N or -N."),
    "restart": (STEERING, "steer:restart", "Replace one worker, the new one first."),
    "upgrade": (STEERING, "steer:upgrade", "Become the clusterd that is installed now, in place."),
    "pause": (STEERING, "steer:pause", "Let all workers leave; new connections wait."),
    "resume": (STEERING, "steer:resume", "Start the workers again after a pause."),
    "reopen": (STEERING, "steer:reopen", "Reopen the log file, after rotating it."),
    "stop": (STEERING, "steer:stop", "Finish what is in hand, then end."),
    "jobs": (WATCHING, "jobs:jobs", "Look at background jobs, and steer them."),
    "status": (WATCHING, "watch:status", "Show the workers and what they do."),
    "top": (WATCHING, "top:top", "Watch the workers live, at a terminal."),
    "why": (WATCHING, "why:why", "Tell why workers died and rollouts failed, the latest first."),
    "events": (WATCHING, "watch:events", "Show what happened, and with --follow what happens."),
    "dump": (WATCHING, "watch:dump", "Show where each worker is in the code right now."),
}


class Commands(click.Group):
    """A group that imports a command when it is called, and lists all without importing any."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][1].partition(":")
        found: Any = getattr(importlib.import_module(f"clusterd.cli.{module}"), attribute)
        assert isinstance(found, click.Command)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for heading in (RUNNING, STEERING, WATCHING):
            with formatter.section(heading):
                formatter.write_dl(
                    [
                        (name, line)
                        for name, (under, _, line) in COMMANDS.items()
                        if under == heading
                    ]
                )

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        found = [
            CompletionItem(name, help=line)
            for name, (_, _, line) in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return found + click.Command.shell_complete(self, ctx, incomplete)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="clusterd %(version)s")
def clusterd() -> None:
    """Run Python web applications on every core, and keep them running.

    \b
      clusterd run shop.main:app -b 0.0.0.0:8000
      clusterd status
      clusterd reload --wait
    """
