"""Where an observation comes from: the leading operator, through a forwarded port of its pod, or a file.

Every refusal is a ``CliError`` that names its cause and its fix. Nothing is asked of the cluster where a file is given.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import pathlib
import sys
import zlib
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from stowplan_allocator import inputs
from stowplan_operator import observation
from stowplan_operator.cli import commands, refusals
from stowplan_operator.cli.client import ANSWERS_ROLE, OPERATOR_SELECTOR, Cluster, Target
from stowplan_operator.cli.exits import CliError, Exit
from stowplan_operator.cli.model import clean, text
from stowplan_operator.cli.words import Speaker

STDIN = "-"


@dataclass(frozen=True, slots=True)
class Source:
    """A file, ``-`` for standard input, or else the operator in this namespace."""

    file: str | None
    operator_namespace: str


@dataclass(frozen=True, slots=True)
class Asker:
    """What a command works with: ``ask`` gets the observation, anew each time; no ``cluster`` where a file is read."""

    ask: Callable[[], Awaitable[observation.Observation]]
    cluster: Cluster | None
    namespace: str | None
    speaker: Speaker
    operator_namespace: str


def execute(target: Target, source: Source, work: Callable[[Asker], Awaitable[Exit]]) -> int:
    """Do the work with an asker, and print what went wrong to stderr; the exit code."""
    speaker = commands.speaker_of(target)

    async def from_file() -> Exit:
        async def ask() -> observation.Observation:
            return read_file(source.file or STDIN)

        return await work(Asker(ask, None, target.namespace, speaker, source.operator_namespace))

    async def from_cluster() -> Exit:
        async with Cluster.open(target) as cluster:

            async def ask() -> observation.Observation:
                return parsed(await fetch(cluster, source.operator_namespace, speaker), where="the operator's snapshot")

            return await work(Asker(ask, cluster, cluster.namespace, speaker, source.operator_namespace))

    return commands.run(_told(from_file() if source.file else from_cluster()))


async def _told(work: Coroutine[Any, Any, Exit]) -> Exit:
    """The work; what a plan refuses is told in its words."""
    try:
        return await work
    except ValueError as error:
        hint = "correct the snapshot, or read it with the version that wrote it"
        raise CliError(f"the snapshot cannot be planned: {clean(str(error))}", code=Exit.USAGE, hint=hint) from None


def read_file(file: str) -> observation.Observation:
    """What a file holds, gzipped or not."""
    where = "standard input" if file == STDIN else file
    try:
        raw = sys.stdin.buffer.read() if file == STDIN else pathlib.Path(file).read_bytes()
        if raw[:2] == b"\x1f\x8b":
            raw = gzip.decompress(raw)
        return parsed(raw.decode(), where=where)
    except (OSError, EOFError, zlib.error) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise CliError(f"{where} cannot be read: {why}", code=Exit.USAGE, hint="give the file of a snapshot") from None
    except UnicodeDecodeError:
        raise CliError(f"{where} is no text", code=Exit.USAGE, hint="give the file of a snapshot") from None


def parsed(document: str, *, where: str) -> observation.Observation:
    """A document as an observation; its texts come from other people, and are printed."""
    try:
        return observation.read(document, where=where)
    except inputs.InputError as error:
        raise refused_input(error) from None


def refused_input(error: inputs.InputError) -> CliError:
    """A mistake in somebody's file."""
    return CliError("\n".join(clean(error.lines())), code=Exit.USAGE)


async def fetch(cluster: Cluster, namespace: str, speaker: Speaker) -> str:
    """The document of the operator that leads."""
    pods = await _pods(cluster, namespace, speaker)
    said: list[str] = []
    names = [text(pod, "metadata", "name") for pod in pods]
    while names:
        name = names.pop(0)
        try:
            answer = await cluster.operator_snapshot(namespace, name)
        except refusals.ForbiddenError as error:
            raise _may_not(error, namespace, speaker) from None
        except refusals.NotFoundError:
            said.append(f"{name}: it is gone")
            continue
        except refusals.TransientError as error:
            said.append(f"{name}: {error.message}")
            continue
        body = gzip.decompress(answer.body) if answer.headers.get("content-encoding") == "gzip" else answer.body
        if answer.status == 200:
            return body.decode()
        reason, leader = _refusal(body)
        said.append(f"{name}: {reason or f'it answers {answer.status}'}")
        # The identity in the Lease begins with the pod's name.
        names.sort(key=lambda one: not leader.startswith(f"{one}_"))
    raise refusals.TransientError(
        "no operator answers with a snapshot\n  " + "\n  ".join(said),
        code=Exit.UNREACHABLE,
        hint=speaker.elsewhere("logs", "-n", namespace, "-l", OPERATOR_SELECTOR, "--tail", "20"),
    )


async def _pods(cluster: Cluster, namespace: str, speaker: Speaker) -> list[dict[str, object]]:
    try:
        pods = await cluster.operator_pods(namespace)
    except refusals.ForbiddenError as error:
        raise _may_not(error, namespace, speaker) from None
    running = [pod for pod in pods if text(pod, "status", "phase") == "Running"]
    if running:
        return running
    state = f"its pods are {', '.join(sorted({text(pod, 'status', 'phase') or 'unknown' for pod in pods}))}"
    raise CliError(
        f"no operator runs in namespace {namespace}" + (f": {state}" if pods else ""),
        code=Exit.UNREACHABLE,
        hint="is it there, and does it want replicas? "
        + speaker.elsewhere("get", "deployments", "-n", namespace, "-l", OPERATOR_SELECTOR)
        + "\n  with none it is switched off: "
        + speaker.elsewhere("scale", "deployment", "-n", namespace, "-l", OPERATOR_SELECTOR, "--replicas=1")
        + "\n  elsewhere: "
        + speaker.elsewhere("get", "pods", "-A", "-l", OPERATOR_SELECTOR)
        + ", then name its namespace: --operator-namespace NAME\n"
        "  outside the cluster: curl -s --compressed localhost:8082/snapshot, and --snapshot - to read it",
    )


def _may_not(error: CliError, namespace: str, speaker: Speaker) -> CliError:
    return CliError(
        f"you may not read the operator's snapshot: {error.message}",
        code=Exit.UNREACHABLE,
        hint=f"an administrator can give you the role {ANSWERS_ROLE}:\n  "
        + speaker.elsewhere("create", "rolebinding", "NAME", f"--role={ANSWERS_ROLE}", "--user=YOU", "-n", namespace),
    )


def _refusal(body: bytes) -> tuple[str, str]:
    with contextlib.suppress(ValueError):
        said = json.loads(body)
        if isinstance(said, dict):
            return clean(text(said, "reason")), text(said, "leader")
    return "", ""
