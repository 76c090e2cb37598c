"""Flags and arguments that commands share. Light: ``--help`` imports this and click alone.

Flags that name the cluster may stand before or after the command; the later one counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from stowplan_operator.cli.asking import Source
    from stowplan_operator.cli.client import Target

GIVEN = "stowplan.flags"
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_PREFIX = re.compile(r"(?:tj|trainingjobs?(?:\.stowplan\.dev)?)/")

type Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def _keep(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        context.meta.setdefault(GIVEN, {})[parameter.name] = value


def cluster(function: Callable[..., Any]) -> Callable[..., Any]:
    """The flags that name the cluster and the namespace."""
    for flags, metavar, words in (
        (("--kubeconfig",), "FILE", "Else $KUBECONFIG, else ~/.kube/config."),
        (("--context",), "NAME", "Else the kubeconfig's current context."),
        (("-n", "--namespace"), "NAME", "Else the context's namespace."),
    ):
        function = click.option(*flags, metavar=metavar, help=words, expose_value=False, callback=_keep)(function)
    return function


def output(*forms: str) -> Decorator:
    """The flag -o."""
    return click.option("-o", "--output", "form", type=click.Choice(forms), help="Form of the answer; else for people.")


def _job_name(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    name = _PREFIX.sub("", value, count=1)
    if not _NAME.fullmatch(name):
        raise click.BadParameter(f"{value!r} cannot be the name of a job: lower-case letters, digits and '-' only")
    return name


def job(function: Callable[..., Any]) -> Callable[..., Any]:
    """The argument JOB, without its prefix."""
    return click.argument("name", metavar="JOB", callback=_job_name)(function)


def duration(_context: click.Context, _parameter: click.Parameter, value: str | None) -> float | None:
    """An option such as 90s in seconds."""
    if value is None:
        return None
    from stowplan_operator.cli import words

    try:
        return words.parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def target(context: click.Context) -> Target:
    """The cluster that the flags name."""
    from stowplan_operator.cli.client import Target

    return Target(**context.meta.get(GIVEN, {}))


def snapshot(function: Callable[..., Any]) -> Callable[..., Any]:
    """The flags that say where the operator's snapshot comes from."""
    function = click.option(
        "--operator-namespace",
        default="stowplan-system",
        show_default=True,
        metavar="NAME",
        help="Where the operator runs.",
    )(function)
    return click.option(
        "--snapshot",
        "file",
        metavar="FILE",
        help="A saved snapshot (- for standard input) instead of the operator's own; the cluster is not asked.",
    )(function)


def source(file: str | None, operator_namespace: str) -> Source:
    """Where the snapshot comes from, as the flags say."""
    from stowplan_operator.cli.asking import Source

    return Source(file, operator_namespace)
