"""The changes of ``what-if``: read from the command line, made on a snapshot. Pure but for the files of ``submit``.

What must stay true: every change is made as the cluster would: a gang that loses a node loses its place whole and waits
again at its old turn; a submitted job is told as the operator would tell it, with its queue's limits and the run times
of jobs like it, and with none where the snapshot does not know them; a name that does not exist is refused with the
nearest ones.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from stowplan_allocator import relaxing, types
from stowplan_operator import estimates, expectations, gathering, observation
from stowplan_operator.cli import manifests
from stowplan_operator.cli.exits import CliError, Exit

KEYWORDS = {
    "submit": "FILE…",
    "drain": "NODE…",
    "add": "NUMBER [nodes like] NODE",
    "remove": "JOB…",
    "quota": "QUEUE PRODUCT NUMBER",
}
_FILLERS = ("node", "nodes", "like")
_MOST_NEW_NODES = 10_000
_PREFIXES = ("node/", "nodes/", "tj/", "trainingjob/", "trainingjobs/", "queue/", "q/")


@dataclass(frozen=True, slots=True)
class Change:
    """A keyword and its words; of ``submit`` also the jobs of its files."""

    keyword: str
    words: tuple[str, ...]
    manifests: tuple[manifests.Manifest, ...] = ()

    def __str__(self) -> str:
        return " ".join((self.keyword, *self.words))


@dataclass(slots=True)
class Changed:
    """A snapshot with changes made; ids of jobs that were submitted, that lost their place, and that were removed.

    ``bases`` say of submitted jobs what their run times rest on, ``longest`` is as in the observation.
    """

    snapshot: types.Snapshot
    submitted: list[str] = field(default_factory=list)
    bases: dict[str, str] = field(default_factory=dict)
    longest: dict[str, int] = field(default_factory=dict)
    displaced: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)


def parse(given: Sequence[str]) -> list[Change]:
    """``drain n1 n2 submit a.yaml`` as changes; CliError names a wrong word or file."""
    found: list[tuple[str, list[str]]] = []
    for word in given:
        if word in KEYWORDS:
            found.append((word, []))
        elif not found:
            near = difflib.get_close_matches(word, KEYWORDS, n=1)
            raise _wrong(f"{word!r} is no change", f"did you mean {near[0]}? " if near else "")
        else:
            found[-1][1].append(word)
    if not found:
        raise _wrong("no change is given")
    for keyword, words in found:
        if not words:
            raise _wrong(f"{keyword} needs {KEYWORDS[keyword]}")
    return [Change(keyword, tuple(words), _manifests(keyword, words)) for keyword, words in found]


def _manifests(keyword: str, words: Iterable[str]) -> tuple[manifests.Manifest, ...]:
    return tuple(one for file in words for one in manifests.read(file)) if keyword == "submit" else ()


def _wrong(message: str, hint: str = "") -> CliError:
    known = ", ".join(f"{keyword} {words}" for keyword, words in KEYWORDS.items())
    return CliError(message, code=Exit.USAGE, hint=f"{hint}changes are: {known}")


def apply(seen: observation.Observation, changes: Iterable[Change], *, namespace: str | None) -> Changed:
    """All changes, one after the other. CliError names what does not exist, and the nearest that does."""
    changed = Changed(seen.snapshot, longest=dict(seen.longest))
    for change in changes:
        _MAKERS[change.keyword](changed, change, seen, namespace)
    return changed


def _submit(changed: Changed, change: Change, seen: observation.Observation, namespace: str | None) -> None:
    for manifest in change.manifests:
        file, (job, estimate) = manifest.file, manifests.imagined(manifest, seen, namespace=namespace)
        there = next((one for one in changed.snapshot.jobs if one.name == job.name and not one.leaving), None)
        if there is not None and there.placement is not None:
            raise CliError(
                f"{file}: {job.name} runs already",
                code=Exit.USAGE,
                hint=f"to see what a changed one does, remove it first: remove {job.name} submit {file}",
            )
        if there is None:
            _estimated(changed, job := expectations.of_new(job, estimate), estimate)
        elif seen.bases.get(there.id) == estimates.PROGRESS:  # the steps that are left are the same
            changed.bases[there.id] = estimates.PROGRESS
            job = _as_changed(there, job, like=there)
        else:
            job = _as_changed(there, job, like=expectations.of_new(job, estimate))
            _estimated(changed, job, estimate)
        sizes = {job.num_pods, *job.allowed_num_pods}
        jobs = {one.id: one for one in changed.snapshot.jobs} | {job.id: job}
        changed.snapshot = replace(
            changed.snapshot,
            jobs=tuple(gathering.in_order(jobs.values(), changed.snapshot.queues)),
            coming_back=tuple(one for one in changed.snapshot.coming_back if one.name != job.name),
            move_budget=max(changed.snapshot.move_budget, seen.moving.budget_left if seen.moving else 0),
            reservations=tuple(
                one for one in changed.snapshot.reservations if one.job_id != job.id or one.placement.num_pods in sizes
            ),
        )
        changed.submitted.append(job.id)


def _as_changed(there: types.Job, job: types.Job, *, like: types.Job) -> types.Job:
    """The waiting job as its new manifest has it; what it has been through stays. Its run time is that of ``like``."""
    return replace(
        job,
        id=there.id,
        created_at_seconds=there.created_at_seconds,
        avoided_nodes=there.avoided_nodes,
        attained_accelerator_seconds=there.attained_accelerator_seconds,
        expected_seconds=like.expected_seconds,
        rest_quantiles=like.rest_quantiles,
    )


def _estimated(changed: Changed, job: types.Job, estimate: estimates.Estimate | None) -> None:
    """Note what the run time of a job rests on."""
    changed.longest.pop(job.id, None)
    changed.bases.pop(job.id, None)
    if estimate is not None:
        changed.longest[job.id] = expectations.longest_of(estimate)
        changed.bases[job.id] = estimate.basis


def _drain(changed: Changed, change: Change, _: observation.Observation, __: str | None) -> None:
    gone = {node.name for node in (_node(changed.snapshot, word) for word in change.words)}
    nodes = tuple(
        replace(node, blocked=node.blocked or "drained") if node.name in gone else node
        for node in changed.snapshot.nodes
    )
    jobs = []
    for job in changed.snapshot.jobs:
        if job.placement is not None and gone & {share.node for share in job.placement.shares} and not job.leaving:
            changed.displaced.append(job.id)
            job = replace(job, placement=None, disruption_cost=None)
        jobs.append(job)
    changed.snapshot = replace(changed.snapshot, nodes=nodes, jobs=tuple(jobs))


def _add(changed: Changed, change: Change, _: observation.Observation, __: str | None) -> None:
    words = [word for word in change.words if word not in _FILLERS]
    if len(words) != 2 or not words[0].isdecimal() or not 0 < int(words[0]) <= _MOST_NEW_NODES:
        raise _wrong(f"{change} cannot be read")
    model = _node(changed.snapshot, words[1])
    taken = frozenset(node.name for node in changed.snapshot.nodes)
    new = relaxing.copies(model, int(words[0]), taken=taken)
    changed.snapshot = replace(changed.snapshot, nodes=(*changed.snapshot.nodes, *new))


def _remove(changed: Changed, change: Change, _: observation.Observation, namespace: str | None) -> None:
    for word in change.words:
        job = find_job(changed.snapshot, word, namespace=namespace)
        changed.removed.append(job.id)
        kept = tuple(one for one in changed.snapshot.jobs if one.id != job.id)
        reservations = tuple(one for one in changed.snapshot.reservations if one.job_id != job.id)
        changed.snapshot = replace(changed.snapshot, jobs=kept, reservations=reservations)


def _quota(changed: Changed, change: Change, seen: observation.Observation, _: str | None) -> None:
    queues = {queue.name: queue for queue in changed.snapshot.queues}
    if fault := seen.broken_queues.get(_bare(change.words[0])):
        raise CliError(
            f"queue {_bare(change.words[0])} cannot be planned with: {fault}",
            code=Exit.USAGE,
            hint="correct the Queue first; without that its quota changes nothing",
        )
    if not queues:
        raise CliError(
            "there are no queues in the snapshot, so no quota can be changed",
            code=Exit.USAGE,
            hint="without a Queue all jobs stand in one default queue without quotas",
        )
    words = change.words
    if len(words) != 3 or not words[2].isdecimal():
        raise _wrong(f"{change} cannot be read")
    name = _bare(words[0])
    if name not in queues:
        raise unknown("queue", name, known=queues)
    quotas = {quota.product: quota for quota in queues[name].quotas}
    products = {node.product for node in changed.snapshot.nodes if node.product} | set(quotas)
    if words[1] not in products:
        raise unknown("product", words[1], known=products)
    quotas[words[1]] = replace(quotas.get(words[1], types.Quota(words[1])), nominal=int(words[2]))
    queues[name] = replace(queues[name], quotas=tuple(quotas.values()))
    changed.snapshot = replace(changed.snapshot, queues=tuple(queues.values()))


_MAKERS = {"submit": _submit, "drain": _drain, "add": _add, "remove": _remove, "quota": _quota}


def _bare(word: str) -> str:
    return next((word.removeprefix(prefix) for prefix in _PREFIXES if word.startswith(prefix)), word)


def _node(found: types.Snapshot, word: str) -> types.Node:
    name = _bare(word)
    for node in found.nodes:
        if node.name == name:
            return node
    raise unknown("node", name, known=(node.name for node in found.nodes))


def find_job(found: types.Snapshot, word: str, *, namespace: str | None) -> types.Job:
    """The job of this name: as it stands, in the namespace, or the only one of this name in any."""
    name = _bare(word)
    jobs = {job.name: job for job in found.jobs if not job.leaving}
    for full in (name, f"{namespace}/{name}"):
        if full in jobs:
            return jobs[full]
    elsewhere = [full for full in jobs if full.rpartition("/")[2] == name]
    if len(elsewhere) == 1 and namespace is None:
        return jobs[elsewhere[0]]
    if elsewhere:
        where = f" in namespace {namespace}" if namespace else ""
        raise CliError(
            f"no job {name}{where} runs or waits", code=Exit.USAGE, hint=f"there is {' and '.join(elsewhere[:5])}"
        )
    raise unknown("job", name, known=jobs, state=" runs or waits")


def unknown(kind: str, name: str, *, known: Iterable[str], state: str = "") -> CliError:
    """There is none of this name; the nearest names, else a few."""
    names = sorted(known)
    last = {one.rpartition("/")[2]: one for one in names}
    near = difflib.get_close_matches(name, [*names, *last], n=3, cutoff=0.6)
    if near:
        hint = f"did you mean {' or '.join(dict.fromkeys(last.get(one, one) for one in near))}?"
    else:
        hint = f"known: {', '.join(names[:5])}{', …' if len(names) > 5 else ''}" if names else "there are none at all"
    return CliError(f"no {kind} {name}{state}", code=Exit.USAGE, hint=hint)
