"""The options of the simulator, for ``python -m stowplan_allocator.simulate`` and ``kubectl stowplan simulate``.

One command object serves both. What must stay true: docs/simulator.md lists every option; values that cannot be are
refused before anything runs; the work is in ``running``, imported when the command runs.
"""

from __future__ import annotations

import enum
import pathlib
import shlex
from collections.abc import Callable
from typing import Any

import click

from stowplan_allocator import types
from stowplan_allocator.simulate import values

_WORDS = "stowplan.words"
type _Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
_DEFAULTS = types.Settings()
_GROUPS = {
    "What to simulate": ("nodes", "jobs", "file", "trace", "data", "trace_list", "gpus", "gpus_per_node", "first"),
    "How to read it": ("duration", "estimates", "level", "priority", "accelerator", "product_label"),
    "How to plan": (
        "strategy",
        "solver",
        "time_limit",
        "gap",
        "order",
        "preemption",
        "reserve_after",
        "seed",
        "reasons",
    ),
    "What goes wrong": ("mean_time_between_failures", "repair_time", "checkpoint_every", "restart_cost"),
    "What to keep": ("until", "sample_every", "json", "html", "png", "title"),
}


class _Command(click.Command):
    """Keeps the words of the command line for the report, and prints its options in groups."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[_WORDS] = list(args)
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        by_name = {parameter.name: parameter for parameter in self.get_params(ctx)}
        for heading, names in _GROUPS.items():
            lines = [by_name.pop(name).get_help_record(ctx) for name in names]
            with formatter.section(heading):
                formatter.write_dl([line for line in lines if line])
        with formatter.section("Else"):
            formatter.write_dl([line for one in by_name.values() if (line := one.get_help_record(ctx))])


def _read[T](read: values.Reader[T]) -> Callable[..., Any]:
    """A callback that reads an option, or each of several, as the loaders read a cell."""

    def callback(_context: click.Context, _parameter: click.Parameter, value: Any) -> Any:
        try:
            if isinstance(value, tuple):
                return tuple(read(one) for one in value)
            return None if value is None else read(value)
        except values.Bad as error:
            raise click.BadParameter(f"{error.cause}; {error.fix}") from None

    return callback


def _level(value: str) -> tuple[str, str]:
    name, _, label = value.partition("=")
    if name == "node":
        raise values.Bad(value, "a level of its own", "leave it out: node is always the last level")
    return values.text(name), label


def _priority(value: str) -> tuple[str, int]:
    name, equals, number = value.partition("=")
    if not equals:
        raise values.Bad(value, "a PriorityClass with its value", "write NAME=100")
    return values.text(name), values.whole(number)


def _time(
    name: str, words: str, *, default: str | None = None, read: values.Reader[int] = values.seconds
) -> _Decorator:
    return click.option(name, metavar="TIME", default=default, callback=_read(read), help=words, show_default=True)


def _file(
    *names: str, words: str, several: bool = False, metavar: str = "FILE", allow_dash: bool = False
) -> _Decorator:
    kind = click.Path(path_type=pathlib.Path, allow_dash=allow_dash)
    return click.option(*names, type=kind, metavar=metavar, multiple=several, help=words)


def _choice(name: str, default: enum.StrEnum, words: str) -> _Decorator:
    names = [str(member.value) for member in type(default)]
    kind = click.Choice(names, case_sensitive=False)
    metavar = f"[{'|'.join(names)}]"
    return click.option(name, type=kind, metavar=metavar, default=default.value, show_default=True, help=words)


def _number(
    name: str, words: str, *, kind: click.ParamType[Any], metavar: str = "N", default: float | None = None
) -> _Decorator:
    return click.option(name, type=kind, metavar=metavar, default=default, show_default=True, help=words)


def _word(name: str, metavar: str, words: str, *, default: str) -> _Decorator:
    return click.option(name, metavar=metavar, default=default, show_default=True, help=words)


_COUNT = click.IntRange(min=1)
_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


@click.command("simulate", cls=_Command, context_settings=_SETTINGS)
@_file("--nodes", words="A table or YAML of nodes.", several=True)
@_file("--jobs", words="A table or YAML of jobs.", several=True)
@_file("-f", "--file", words="YAML or JSON of both, Kubernetes manifests, or a saved snapshot.", several=True)
@click.option("--trace", type=click.Choice(["openb", "philly"]), help="A public trace instead of files.")
@_file("--data", words="openb: the folder; philly: the file.", metavar="PATH")
@click.option("--trace-list", metavar="NAME", help="openb: which list of pods; else default.")
@_number("--gpus", "philly: GPUs of the cluster; else 560.", kind=_COUNT)
@_number("--gpus-per-node", "philly: GPUs of a node; else 8.", kind=_COUNT)
@_number("--first", "Only the first N jobs to be submitted.", kind=_COUNT)
@_time("--duration", "How long jobs run that do not say so themselves.")
@click.option(
    "--estimates",
    type=click.Choice(["given", "true", "none"]),
    default="given",
    show_default=True,
    help="What the planner is told of durations: the inputs' estimates, the truth, or nothing.",
)
@click.option(
    "--level",
    multiple=True,
    metavar="NAME[=LABEL]",
    callback=_read(_level),
    help="A topology level and its node label, the widest first; else those of the inputs, in manifests zone and rack.",
)
@click.option(
    "--priority", multiple=True, metavar="NAME=N", callback=_read(_priority), help="The value of a PriorityClass."
)
@_word("--accelerator", "RESOURCE", "What manifests call an accelerator.", default="nvidia.com/gpu")
@_word("--product-label", "LABEL", "The label of Nodes that names their product.", default="nvidia.com/gpu.product")
@_choice("--strategy", _DEFAULTS.strategy, "How to plan.")
@_word("--solver", "NAME", "The solver, by PuLP's name.", default=_DEFAULTS.solver)
@_number(
    "--time-limit",
    "How long a plan may take.",
    kind=click.FloatRange(min=0.001),
    metavar="SECONDS",
    default=_DEFAULTS.time_limit_seconds,
)
@_number(
    "--gap",
    "The relative gap at which a plan counts as proven.",
    kind=click.FloatRange(min=0, max=1),
    metavar="SHARE",
    default=_DEFAULTS.gap_tolerance,
)
@_choice("--order", _DEFAULTS.order, "The order of jobs of one priority.")
@_choice("--preemption", _DEFAULTS.preemption, "Which running jobs may lose their place.")
@_time(
    "--reserve-after", "Keep room for the first of a line that has waited so long; else what the inputs say, or never."
)
@_number("--seed", "Of failures, and of the choice among equal nodes.", kind=click.IntRange(min=0), default=0)
@click.option(
    "--reasons/--no-reasons", default=True, show_default=True, help="Ask why jobs wait; runs are faster without."
)
@_time("--mean-time-between-failures", "Of each node; without it no node fails.", read=values.some_seconds)
@_time("--repair-time", "How long a node that failed is away.", default="1h")
@_time("--checkpoint-every", "How much work passes between two checkpoints.", default="30m")
@_time("--restart-cost", "What each start but a job's first takes before work goes on.", default="60s")
@_time("--until", "End so long after the first submission; else when every job has ended.")
@_time("--sample-every", "How often the cluster is sampled; else some hundred times.", read=values.some_seconds)
@_file("--json", words="All records; - is standard output.", allow_dash=True)
@_file("--html", words="The report with pictures, as one page.")
@_file("--png", words="The pictures alone.")
@_word("--title", "TEXT", "Of the report.", default="Simulation")
@click.pass_context
def command(context: click.Context, /, **options: Any) -> None:
    """Simulate a cluster: what the planner would do with these jobs on these nodes.

    Every decision is made by the planner of the operator. Prints the figures; writes them, every record and pictures
    into files. Exits with 0 when the simulation ran, with 2 when an input or an option cannot be used.
    """
    from stowplan_allocator.simulate import running

    words = shlex.join([*context.command_path.split(" "), *context.meta[_WORDS]])
    context.exit(running.run(running.Choices(**options), command=words))


def main() -> None:
    """Entry point of ``python -m stowplan_allocator.simulate``."""
    command(prog_name="python -m stowplan_allocator.simulate")
