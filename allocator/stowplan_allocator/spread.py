"""How run times are spread, where runs like a job tell, and one future of the cluster that is drawn from that.

The median of runs is the best single number for one job, and a bad one for many: where most jobs end soon and some run
for days, a cluster whose every job needs the median empties as no cluster does. So each job has
the quantiles of the time that it still needs (``Job.rest_quantiles``), and a forecast gives each the quantile
that its id falls on: together they end as such jobs do. (3Sigma, EuroSys 2018, plans with whole
distributions; where many jobs run, one draw for each was as good as many, see docs/benchmarks-philly.md.)

What must stay true: a job has the same draw in every forecast, so that answers do not flutter; jobs
without quantiles stay as they are.
"""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

from stowplan_allocator import types

NUM_QUANTILES = 64
# The latest runs of one kind that tell: fewer leave chance in, older ones what is no longer so, see
# docs/benchmarks-philly.md.
RUNS_KEPT = 500
# Up to so many jobs, so many draws; of more jobs one.
_DRAWS = ((20, 5), (60, 3))


def rest_quantiles[T: (int, float)](durations: Sequence[T], *, ran_seconds: T) -> tuple[T, ...]:
    """Quantiles of the time still to come after so much: of the ascending run times that are longer; none, if none is.

    They stand for the middles of ``NUM_QUANTILES`` equal parts, or of as many as there are run times.
    """
    first = bisect.bisect_right(durations, ran_seconds)
    longer = len(durations) - first
    parts = min(longer, NUM_QUANTILES)
    return tuple(durations[first + (2 * i + 1) * longer // (2 * parts)] - ran_seconds for i in range(parts))


def draws(snapshot: types.Snapshot) -> tuple[types.Snapshot, ...]:
    """The snapshot with each job expected to need the quantile that its id falls on; where there are few jobs, an
    odd number of times, each time with others: of many jobs one draw says as much.
    """
    if not any(job.rest_quantiles for job in snapshot.jobs):
        return (snapshot,)
    times = next((times for most, times in _DRAWS if len(snapshot.jobs) <= most), 1)
    return tuple(
        replace(
            snapshot,
            jobs=tuple(_drawn(job, part=i, parts=times) for job in snapshot.jobs),
            coming_back=tuple(_drawn(job, part=i, parts=times) for job in snapshot.coming_back),
        )
        for i in range(times)
    )


def draw(job_id: str, quantiles: tuple[int, ...], *, part: int = 0, parts: int = 1) -> int:
    """The quantile that the id falls on; ``parts`` draws of one job are as far apart as can be."""
    digest = hashlib.blake2b(job_id.encode(), digest_size=4).digest()
    place = (int.from_bytes(digest) * parts + (part << 32)) % (parts << 32)
    return quantiles[place * len(quantiles) // (parts << 32)]


def _drawn(job: types.Job, *, part: int, parts: int) -> types.Job:
    if not job.rest_quantiles:
        return job
    return replace(job, expected_seconds=draw(job.id, job.rest_quantiles, part=part, parts=parts))


def at_longest(snapshot: types.Snapshot, *, longest: Mapping[str, int], order: types.QueueOrder) -> types.Snapshot:
    """The snapshot with the run times upon which a plan counts where room is kept: whoever waits has its ``longest``,
    by job id, where that is told. In the order of expected times these say who is first, and stay.
    """
    if not snapshot.reservations or order is types.QueueOrder.SHORTEST:
        return snapshot
    jobs = (
        replace(job, expected_seconds=longest[job.id]) if job.placement is None and job.id in longest else job
        for job in snapshot.jobs
    )
    return replace(snapshot, jobs=tuple(jobs))
