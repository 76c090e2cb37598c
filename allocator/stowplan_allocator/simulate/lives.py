"""A job's life in the simulator: what it has done, where it stands, when it will end.

Work is counted in thousandths of a second at full speed: the job's best product at its full
size. What must stay true: work is never lost but to a lost node, and then back to the last
checkpoint; a run that ends by itself has done exactly the job's work.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from stowplan_allocator import types
from stowplan_allocator.simulate import failures, records, workload

FULL_SPEED = 1000


@dataclass(slots=True)
class Life:
    """One job. ``number`` is its place in the order of submission; ``runs_before`` numbers its runs."""

    number: int
    submission: workload.Submission
    restarts: failures.Restarts
    work_needed: int
    work_done: int = 0
    placement: types.Placement | None = None
    since: int = 0
    overhead: int = 0
    speed: int = FULL_SPEED
    attained: int = 0
    lost_seconds: int = 0
    runs: list[records.Run] = field(default_factory=list)
    first_reason: types.Waiting | None = None
    last_reason: types.Waiting | None = None

    @property
    def job(self) -> types.Job:
        """The job as it was submitted."""
        return self.submission.job

    def start(self, placement: types.Placement, *, now: int) -> int:
        """Put the job on its nodes; returns when it will end if nothing happens."""
        self.placement = placement
        self.since = now
        self.overhead = self.restarts.restart_seconds if self.runs else 0
        self.speed = speed_of(self.job, placement=placement)
        left = self.work_needed - self.work_done
        return now + self.overhead + -(-left // self.speed)

    def worked(self, now: int) -> int:
        """Work done by now in all."""
        if self.placement is None:
            return self.work_done
        done = self.work_done + max(0, now - self.since - self.overhead) * self.speed
        return min(done, self.work_needed)

    def stop(self, outcome: records.Outcome, *, now: int) -> types.Placement:
        """End the run; returns the place that is free again."""
        assert self.placement is not None, "a job was stopped that does not run"
        placement = self.placement
        done = self.worked(now)
        self.lost_seconds += min(self.overhead, now - self.since)
        if outcome is records.Outcome.NODE_LOST:
            kept = failures.saved(done, saved_before=self.work_done, restarts=self.restarts)
            self.lost_seconds += (done - kept) // self.speed
            done = kept
        self.attained += (now - self.since) * self.accelerators
        self.runs.append(records.Run(self.since, now, placement, outcome))
        self.work_done = done
        self.placement = None
        return placement

    @property
    def accelerators(self) -> int:
        """What the job holds, or would hold at its full size."""
        num_pods = self.job.num_pods if self.placement is None else self.placement.num_pods
        return num_pods * self.job.pod.accelerators

    def seen(self, now: int) -> types.Job:
        """The job as the planner may see it: the estimate of its user, what it has had, what stopping it costs."""
        job = self.job
        left = workload.expected_left(job.expected_seconds, worked_seconds=self.worked(now) // FULL_SPEED)
        if self.placement is None:
            if not self.runs:
                return job
            return replace(job, expected_seconds=left, attained_accelerator_seconds=self.attained)
        return replace(
            job,
            placement=self.placement,
            expected_seconds=left,
            attained_accelerator_seconds=self.attained + (now - self.since) * self.accelerators,
            disruption_cost=self.restarts.restart_seconds * self.accelerators,
        )

    def record(self) -> records.JobRecord:
        """What is to be remembered of the job."""
        return records.JobRecord(
            self.job,
            self.submission.submitted_seconds,
            tuple(self.runs),
            self.lost_seconds,
            self.first_reason,
            self.last_reason,
        )


def speed_of(job: types.Job, *, placement: types.Placement) -> int:
    """Work per second: the product's relative throughput times the share of the job's full size."""
    throughput = next(
        (c.relative_throughput_milli for c in job.products if c.product == placement.product),
        FULL_SPEED,
    )
    return max(1, throughput * placement.num_pods // job.num_pods)
