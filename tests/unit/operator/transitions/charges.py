"""Who pays for a restart, when restarts are used up, and what the user's own rules make of a failure."""

from __future__ import annotations

from fakes.builders import NOW, time_text
from stowplan_operator import api
from stowplan_operator.failures import Cause
from unit.operator.gang import FIRST, RUNNING, SECOND
from unit.operator.transitions.case import MAX_INFRASTRUCTURE, RESTART, Case, with_rules

CASES: dict[str, Case] = {
    "the last restart that is allowed": Case(
        RUNNING.max_restarts(2).status(restarts=1),
        (FIRST.failed(), SECOND.running()),
        want_cause=Cause.CONTAINER_FAILED,
        want_status={"restarts": 2},
        **RESTART,
    ),
    "a failure after the last restart ends the job": Case(
        RUNNING.max_restarts(2).status(restarts=2),
        (FIRST.failed(9), SECOND.running()),
        want_phase=api.Phase.FAILED,
        want_event="Failed",
        want_cause=Cause.CONTAINER_FAILED,
        want_in_message="was reported before it ended; all 2 restarts of spec.failurePolicy.maxRestarts are used",
        want_status={"restarts": 2, "completionTime": time_text(NOW + 10)},
    ),
    "without restarts the first failure ends the job": Case(
        RUNNING.max_restarts(0),
        (FIRST.failed(), SECOND.running()),
        want_phase=api.Phase.FAILED,
        want_event="Failed",
        want_cause=Cause.CONTAINER_FAILED,
    ),
    "a lost node restarts a job that has used its own restarts": Case(
        RUNNING.max_restarts(0),
        (FIRST.running(), SECOND.running()),
        lost=("n1",),
        want_cause=Cause.NODE_LOST,
        **RESTART,
    ),
    "faults of the infrastructure have a budget of their own": Case(
        RUNNING.status(infrastructureRestarts=MAX_INFRASTRUCTURE),
        (FIRST.running(), SECOND.running()),
        lost=("n1",),
        want_phase=api.Phase.FAILED,
        want_event="Failed",
        want_cause=Cause.NODE_LOST,
        want_in_message="all 7 restarts of the setting recovery.maxInfrastructureRestarts are used",
    ),
    "a rule may end the job": Case(
        with_rules(RUNNING, {"name": "bad data", "exitCodes": [3], "action": "FailJob"}),
        (FIRST.failed(3), SECOND.running()),
        want_phase=api.Phase.FAILED,
        want_event="Failed",
        want_cause=Cause.CONTAINER_FAILED,
        want_in_message="; spec.failurePolicy.rules[0] (bad data) says FailJob",
        want_status={"restarts": None},
    ),
    "a rule may take the charge": Case(
        with_rules(RUNNING, {"exitCodes": ["64-78"], "action": "Ignore"}),
        (FIRST.failed(70), SECOND.running()),
        want_cause=Cause.CONTAINER_FAILED,
        want_status={"restarts": None, "infrastructureRestarts": 1},
        **RESTART,
    ),
    "what a rule ignores is under the limit of the infrastructure": Case(
        with_rules(RUNNING, {"signals": [9], "action": "Ignore"}).status(infrastructureRestarts=MAX_INFRASTRUCTURE),
        (FIRST.failed(137), SECOND.running()),
        want_phase=api.Phase.FAILED,
        want_event="Failed",
        want_cause=Cause.CONTAINER_FAILED,
        want_in_message="all 7 restarts of the setting recovery.maxInfrastructureRestarts are used",
    ),
    "a rule may ask for other nodes": Case(
        with_rules(RUNNING, {"reasons": ["OOMKilled"], "action": "RestartElsewhere"}),
        (FIRST.failed(137, reason="OOMKilled"), SECOND.running()),
        want_cause=Cause.OUT_OF_MEMORY,
        want_status={"restarts": 1},
        **RESTART,
    ),
    "a rule that says Restart shields from the rules below": Case(
        with_rules(RUNNING, {"exitCodes": [3], "action": "Restart"}, {"exitCodes": ["1-255"], "action": "FailJob"}),
        (FIRST.failed(3), SECOND.running()),
        want_cause=Cause.CONTAINER_FAILED,
        want_status={"restarts": 1},
        **RESTART,
    ),
    "a rule may end a job whose gang could save and leave": Case(
        with_rules(RUNNING, {"reasons": ["PodEvicted"], "action": "FailJob"}),
        (FIRST.running(), SECOND.running().evicted()),
        want_phase=api.Phase.FAILED,
        want_event="Failed",
        want_cause=Cause.POD_EVICTED,
        want_in_message="spec.failurePolicy.rules[0] says FailJob",
    ),
    "a rule may end a job that lost a node": Case(
        with_rules(RUNNING, {"reasons": ["NodeLost"], "action": "FailJob"}),
        (FIRST.running(), SECOND.running()),
        lost=("n1",),
        want_phase=api.Phase.FAILED,
        want_event="Failed",
        want_cause=Cause.NODE_LOST,
        want_in_message="spec.failurePolicy.rules[0] says FailJob",
    ),
}
