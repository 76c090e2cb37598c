"""``status.decision``: why a job waits, where it stands in line, when it starts, and what would start it now. Pure.

What must stay true: a new reason, and what a user's own change makes of the answer, are written at once, numbers at
most every minute: writes to the API server are the budget; alternatives stand beside the answer only for which they
were found.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stowplan_allocator.advising import Advice
from stowplan_allocator.types import Certificate
from stowplan_operator import answered, api, findings, views, wording

Json = dict[str, Any]

DECISION_NUMBERS_SECONDS = 60
# A decision that names nobody who is still in the way, or a place in the line or a limit that is another one by now, is
# renewed sooner: so often over all jobs, that of 1,000 that wait, or of more, each has a minute as for its numbers.
_RENEWALS_PER_SECOND = 1000 / DECISION_NUMBERS_SECONDS
ALTERNATIVES_SECONDS = 600
# Fields of the decision that are found beside the plan, and stay until they are found anew.
_CHANGES = ("alternatives", "alternativesNotTried")
_ADVICE = ("predictedStart", "predictedStartBasis", "reserved", *_CHANGES)
NAMED_NODES = 4


def decide(job: views.JobView, status: Json, phase: api.Phase, facts: findings.Facts) -> None:
    """Keep ``status.decision``: a new reason at once, other words not before they are due."""
    now = views.format_time(facts.now_seconds)
    if facts.misconfigured:
        new: Json = {"reason": "Misconfigured", "message": facts.misconfigured}
        if facts.queue_to_mend:
            new["numbers"] = {api.QUEUE_TO_MEND: facts.queue_to_mend}
    elif facts.waiting is not None:
        new = {"reason": facts.waiting.reason.value, "message": facts.waiting.message}
        if facts.waiting.numbers:
            new["numbers"] = dict(facts.waiting.numbers)
        if facts.waiting.blockers:
            new["blockers"] = list(facts.waiting.blockers)
        if facts.position is not None:
            new["position"] = facts.position
    elif phase is api.Phase.SUSPENDED:
        new = {"reason": "Suspended", "message": "spec.suspend is true"}
    else:
        return
    if facts.certificate is not None and not facts.misconfigured:
        new["certificate"] = certificate_json(facts.certificate)
    old = status.get("decision") or {}
    is_same_reason = old.get("reason") == new["reason"]
    if facts.waiting is not None and not facts.misconfigured:
        answer = answered.of_plan(facts.waiting, generation=job.generation)
        new |= _found_beside(answer, job, old if is_same_reason else {}, facts)
    if is_same_reason:
        is_new_spec = job.status.get("observedGeneration") != job.generation
        hold = 0.0 if is_new_spec else _hold_seconds(old, new, facts)
        fresh = facts.now_seconds - views.parse_time(old.get("lastUpdated")) < hold
        if fresh or _same_decision(old, new, facts.now_seconds):
            return
        status["decision"] = {**new, "since": old.get("since", now), "lastUpdated": now}
    else:
        status["decision"] = {**new, "since": now, "lastUpdated": now}


def _hold_seconds(old: Json, new: Json, facts: findings.Facts) -> float:
    """For how long after its last renewal a decision of the same reason stays as it is.

    What a user's own change makes of it, and the first advice on a new job, are told at once; numbers every minute.
    """
    is_advised, is_found = any(key in old for key in _ADVICE), any(key in new and key not in old for key in _ADVICE)
    if answered.is_by_user(old, new) or (is_found and not is_advised):
        return 0.0
    blockers = old.get("blockers", ())
    has_moved = old.get("position") != new.get("position")
    is_gone = bool(blockers) and not any(map(facts.is_there, blockers))
    is_withdrawn = "alternatives" in old and "alternatives" not in new
    if is_found or has_moved or is_gone or is_withdrawn or answered.names_another_limit(old, new):
        seconds = facts.num_waiting / _RENEWALS_PER_SECOND
        return 0.0 if seconds < 1 else min(DECISION_NUMBERS_SECONDS, seconds)
    return DECISION_NUMBERS_SECONDS


def _found_beside(answer: answered.Answer, job: views.JobView, old: Json, facts: findings.Facts) -> Json:
    """What is known beside the plan, new or of the ``old`` decision; alternatives only where found for this answer."""
    found: Json = {}
    if facts.advice is not None:
        found = _advice_json(facts.advice)
        then = facts.advised_on
        if then is None or not (answer.is_same(then) and answer.has_room_of(then)):
            found = {key: value for key, value in found.items() if key not in _CHANGES}
    kept = set(_ADVICE) if facts.advice is None else set(_CHANGES) if facts.advice.changes is None else set()
    if not answer.is_same(answered.of_decision(old, generation=int(job.status.get("observedGeneration", 0)))):
        kept.difference_update(_CHANGES)
    return {key: value for key, value in old.items() if key in kept} | found


def _same_decision(old: Mapping[str, Any], new: Mapping[str, Any], now_seconds: float) -> bool:
    """Whether a user would see nothing new: a predicted start may move by a tenth of the time until then.

    What an alternative would lose grows all the time, and counts where it has become another price.
    """
    keys = ("reason", "message", "numbers", "blockers", "position", "reserved", "alternativesNotTried")
    if any(old.get(key) != new.get(key) for key in keys):
        return False
    before, after = ([str(one) for one in each.get("alternatives", ())] for each in (old, new))
    is_old = now_seconds - views.parse_time(old.get("lastUpdated")) >= ALTERNATIVES_SECONDS
    if before != after and (is_old or not answered.costs_about_the_same(before, after)):
        return False
    was, start = views.parse_time(old.get("predictedStart")), views.parse_time(new.get("predictedStart"))
    if not was or not start:
        return was == start
    return abs(start - was) <= max(60.0, 0.1 * (was - views.parse_time(old.get("lastUpdated"))))


def _advice_json(advice: Advice) -> Json:
    """Predicted start and alternatives, as far as they are known."""
    fields: Json = {}
    room = ""
    if advice.reservation is not None:
        fields["reserved"] = True
        nodes = [share.node for share in advice.reservation.placement.shares]
        room = f"; room is kept for it on {wording.some(nodes, most=NAMED_NODES)}"
    if advice.forecast is not None:
        fields["predictedStartBasis"] = advice.forecast.basis + room
        if advice.forecast.starts_at_seconds is not None:
            fields["predictedStart"] = views.format_time(advice.forecast.starts_at_seconds)
    if advice.changes is not None:
        fields["alternatives"] = [{"kind": one.kind.value, "message": one.sentence} for one in advice.changes]
    if advice.not_tried:
        fields["alternativesNotTried"] = [kind.value for kind in advice.not_tried]
    return fields


def certificate_json(certificate: Certificate) -> Json:
    """How good the plan is, as text: the gap as a decimal (0.01 is one percent), seconds with three decimals."""
    return {
        "status": certificate.status.value,
        "strategy": certificate.strategy,
        "gap": f"{certificate.gap:.3g}",
        "bound": f"{certificate.bound:.6g}",
        "seconds": f"{certificate.seconds:.3f}",
        **({"note": certificate.note} if certificate.note else {}),
    }
