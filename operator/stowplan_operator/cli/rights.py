"""Next commands that the user may run: others are replaced by what works for him, or say what they take.

The API server is asked about each right once, as everybody may about himself. What must stay true: where it does not
answer, a command is offered as it is.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterable
from dataclasses import dataclass

from stowplan_operator import api
from stowplan_operator.cli.client import ANSWERS_ROLE, Cluster
from stowplan_operator.cli.explaining import DEEP, Explanation, Next
from stowplan_operator.cli.words import Speaker


@dataclass(frozen=True, slots=True)
class _Right:
    """A right that commands with these words need, in all namespaces or in the operator's, and its name for people."""

    words: frozenset[str]
    verb: str
    group: str
    resource: str
    called: str
    is_operators: bool = False


_JOBS_EVERYWHERE = _Right(frozenset({"list", "-A"}), "list", api.GROUP, api.PLURAL, "the right to list jobs everywhere")
_RIGHTS = (
    _JOBS_EVERYWHERE,
    _Right(frozenset({"get", "nodes"}), "list", "", "nodes", "the right to list nodes"),
    _Right(frozenset({"get", "pods", "-A"}), "list", "", "pods", "the right to list pods everywhere"),
    _Right(frozenset({DEEP}), "create", "", "pods/portforward", f"the role {ANSWERS_ROLE}", is_operators=True),
)


async def within(said: Explanation, cluster: Cluster, speaker: Speaker, *, operator_namespace: str) -> Explanation:
    """The same, with commands that the user may run, or that say which right he lacks."""
    needed = {one: right for one in said.next if (right := _needed(one))}
    lacking = {
        right
        for right in set(needed.values())
        if not await cluster.may(
            right.verb, right.resource, group=right.group, namespace=operator_namespace if right.is_operators else ""
        )
    }
    return dataclasses.replace(
        said,
        next=tuple(
            _instead(one, needed[one], speaker, operator_namespace) if needed.get(one) in lacking else one
            for one in said.next
        ),
    )


def _needed(one: Next) -> _Right | None:
    words: Iterable[str] = shlex.split(one.command)
    return next((right for right in _RIGHTS if right.words <= set(words)), None)


def _instead(one: Next, right: _Right, speaker: Speaker, operator_namespace: str) -> Next:
    if right is _JOBS_EVERYWHERE:
        return Next(speaker.command("stowplan", "list"), f"{one.shows}, of your namespace alone")
    where = f" in {operator_namespace}" if right.is_operators else ""
    return Next(one.command, f"{one.shows}; takes {right.called}{where}, which you lack")
