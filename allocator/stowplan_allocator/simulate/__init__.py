"""An event-driven simulator around ``plan()``: the same decisions, on any nodes and jobs, with failures.

``engine.simulate`` runs, ``records`` holds what comes out.
"""

from stowplan_allocator.simulate.engine import Options, simulate
from stowplan_allocator.simulate.failures import Failures, Restarts
from stowplan_allocator.simulate.records import History, JobRecord, Outcome, Run, Sample
from stowplan_allocator.simulate.workload import Submission

__all__ = [
    "Failures",
    "History",
    "JobRecord",
    "Options",
    "Outcome",
    "Restarts",
    "Run",
    "Sample",
    "Submission",
    "simulate",
]
