"""Options made from the table of settings, so that no setting is described twice."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from clusterd.config.convert import show
from clusterd.config.kinds import Kind, Setting
from clusterd.config.settings import SECTIONS, TABLE, title

Function = TypeVar("Function", bound=Callable[..., Any])
ONLY = "default: the only cluster that runs"  # where --name is not given; see cli/here.py
COLUMN = 34  # options up to this width have their help beside them


class Written(click.ParamType):  # type: ignore[type-arg]  # generic only in newer clicks
    """A value as it was written: `config.convert` judges it, whichever source it came from."""

    name = "text"

    def __init__(self, row: Setting) -> None:
        self.row = row

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return metavar(self.row)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[Any]:
        from click.shell_completion import CompletionItem

        if self.row.about.kind in (Kind.PATH, Kind.PATHS):
            kind = "dir" if self.row.name.endswith("_dir") else "file"
            return [CompletionItem(incomplete, type=kind)]
        words = [*self.row.about.choices, *(["auto"] if self.row.name == "workers" else [])]
        return [CompletionItem(word) for word in words if word.startswith(incomplete)]


class OnOrOff(click.Option):
    """A choice that may also be written as a switch is: the option alone, or its --no- form."""

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        super().add_to_parser(parser, ctx)
        negative = f"--no-{self.opts[0][2:]}"
        parser.add_option(self, [negative], dest=self.name, action="store_const", const="off")


class Grouped(click.Command):
    """A command whose options are listed under the headings of the table."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        records = {param.name: param.get_help_record(ctx) for param in self.get_params(ctx)}
        if "app" in records:  # an argument, of which click shows no help
            records["app"] = (metavar(TABLE["app"]), TABLE["app"].about.help)
        for section in SECTIONS:
            rows = [row for row in TABLE.values() if row.section == section]
            shown = [record for row in rows if (record := records.pop(row.name, None))]
            if shown:
                with formatter.section(title(section)):
                    formatter.write_dl(shown, col_max=COLUMN)
        with formatter.section("Other"):
            formatter.write_dl([record for record in records.values() if record], col_max=COLUMN)


def metavar(row: Setting) -> str:
    """What stands for the value in `--help`."""
    about = row.about
    if about.choices:
        return "|".join(about.choices)
    return about.metavar or {
        Kind.COUNT: "N",
        Kind.SECONDS: "TIME",
        Kind.BYTES: "SIZE",
    }.get(about.kind, "TEXT")


def shown_default(row: Setting) -> str:
    """The default as `--help` and the documents show it."""
    return row.about.shown or show(row, row.default)


def option(row: Setting, default: str = "") -> Callable[[Function], Function]:
    """The option of a setting; None when it is not given, so that other sources count.

    `default` is what the help shows, where a command does not take the setting's own.
    """
    help = f"{row.about.help}  [{default or shown_default(row)}]"
    names = [row.name, row.flag]
    if row.about.short:
        names.append(row.about.short)
    if row.about.kind is Kind.SWITCH:
        names[1] += f"/--no-{row.flag[2:]}"
        return click.option(*names, default=None, help=help)
    if row.is_on_or_off:
        return click.option(
            *names, cls=OnOrOff, type=Written(row), flag_value="on", is_flag=False, help=help
        )
    return click.option(*names, type=Written(row), multiple=row.is_plural, default=None, help=help)


def file_option(function: Function) -> Function:
    """Where settings are read from."""
    return click.option(
        "--config",
        "config",
        metavar="FILE",
        type=click.Path(),
        help="File to read settings from.  [clusterd.toml, else [tool.clusterd] in pyproject.toml]",
    )(function)


def every_setting(function: Function) -> Function:
    """All options of the table, and the application as an argument."""
    function = file_option(function)
    for row in reversed(TABLE.values()):
        if row.name != "app" and row.is_option:
            function = option(row)(function)
    return click.argument("app", required=False, metavar="MODULE:APP")(function)


def which_cluster(function: Function) -> Function:
    """The options by which a command finds the cluster that it speaks to."""
    function = file_option(function)
    for row in reversed(TABLE.values()):
        if row.section == "place":
            function = option(row, ONLY if row.name == "name" else "")(function)
    return function
