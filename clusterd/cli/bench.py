"""`clusterd bench`: what the cluster buys over one process, or how any server does under load."""

import importlib.util
from typing import Any

import click

from clusterd.cli import bench_options as options
from clusterd.core.errors import ConfigError
from clusterd.core.exits import Exit

NEEDED = ("hdrh", "matplotlib")  # of the extra


class Bench(options.Headed):
    """`bench TARGET`, and `bench compare A B`. What follows `--` is for 'clusterd run'."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        if args[:1] == ["compare"]:
            return compare.make_context("bench compare", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keeps what follows `--` apart: click would take it for arguments."""
        if "--" in args:
            cut = args.index("--")
            ctx.meta[options.PASSED] = args[cut + 1 :]
            args = args[:cut]
        return super().parse_args(ctx, args)


@click.command(cls=Bench)
@click.argument("target", metavar="TARGET")
@options.all_of_them
@click.pass_context
def bench(ctx: click.Context, /, target: str, **asked: Any) -> int:
    """Measure what the cluster buys, or any server under load.

    \b
      clusterd bench shop.main:app                   1 worker against all, in turns
      clusterd bench shop.main:app -- --threads 16   what follows -- is for 'clusterd run'
      clusterd bench https://shop.example/           whatever serves there
      clusterd bench compare before.json after.json  what changed, beyond the noise

    TARGET is an application, which is then started with each number of --workers in turn, in every
    round afresh; or a URL (http, https, ws, wss) or unix:/path/to.sock:/page that is served
    already. Settings of this directory and of CLUSTERD_* count as in 'clusterd run'; the address
    and the workers are the benchmark's.

    \b
    How hard:
      -c 64                   closed loop: 64 connections, each asks again once it is answered.
                              Shows the most that a server can do; hides what waiting costs.
      --rate 5000             open loop: 5000 requests a second are due, whatever became of those
                              before. Latency counts from when each was due: what users feel.
      --slo 'p99<50ms'        the highest such rate that keeps the target.
      --ladder 1..4096        more and more connections: how many it can hold.

    \b
    Beside others, under the same load in the same run:
      --against 'gunicorn -k uvicorn.workers.UvicornWorker -w {workers} -b :{port} {app}'
      --against 'node=node server.js {port}'

    \b
    While things break:
      --rate 500 --kill-every 2s --reload-every 5s --broken-deploy --slow 3%

    A table is printed, and a report with pictures and one with all raw figures are written; where
    figures are not the server's alone, both say so. Ctrl-C reports what was measured so far.

    Ends with 0; 1 where something could not be measured or a --fail-on is met; 4 for a wrong
    option; 130 after Ctrl-C.
    """
    need_extra()
    from clusterd.cli import bench_plan, bench_run

    return bench_run.run(bench_plan.plan(target, asked, ctx.meta.get(options.PASSED, [])))


@click.command()
@click.argument("before", metavar="A.json", type=click.Path())
@click.argument("after", metavar="B.json", type=click.Path())
@click.option(
    "--fail-on-worse", is_flag=True, help="End with 1 if anything is worse by more than the noise."
)
def compare(before: str, after: str, fail_on_worse: bool) -> int:
    """Say what changed between two reports, and whether that is more than the noise.

    Reports are the .json files of 'clusterd bench'. The noise is what the rounds of each differ by
    among themselves, so more rounds see smaller changes. Of twenty figures about one looks changed
    by chance alone.
    """
    need_extra()
    from clusterd.cli import bench_compare

    worse = bench_compare.compare(before, after)
    return Exit.FAILED if worse and fail_on_worse else Exit.OK


def need_extra() -> None:
    """Raise ConfigError where what the extra brings is not installed."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"bench: {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed",
            "pip install 'clusterd[bench]'",
        )
