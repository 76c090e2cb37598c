"""What the end of one container says of its gang: the cause, a victim of it, or nothing. Pure.

When one rank of a gang fails, its peers fail after it: they lose their connections or wait in vain. Times do not tell
them apart (``finishedAt`` has whole seconds, and a node's clock may be wrong), their last words do. What must stay
true: a rank that says why it failed itself is never taken for a victim because a peer's words are also in its log;
texts that are not known count as a cause, so that a new version of torch makes nothing worse than going by time.

The texts are those of torch 2.15 (``tests/unit/operator/torchrun_ends.json`` holds real ends) and of NCCL.
"""

from __future__ import annotations

import enum
import re
import signal
from dataclasses import dataclass

from stowplan_operator import views

_LONGEST_SAID = 240
STOPPED_EXIT_CODE = 128 + signal.SIGTERM


class Weight(enum.IntEnum):
    """How much an end says about the cause; the least comes first, whichever ended earlier."""

    CERTAIN = 0  # killed, out of memory, or an exit code of its own
    OWN = 1  # an error in its own words; also: stopped from outside
    UNEXPLAINED = 2  # exit code 1 and no word that is known, as of torchrun without @record
    TIMED_OUT = 3  # it waited for its peers in vain
    PEER_LOST = 4  # its connection to a peer broke

    @property
    def is_victim(self) -> bool:
        """Whether another rank must have failed, or hung, before."""
        return self in (Weight.TIMED_OUT, Weight.PEER_LOST)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What an end says. ``exit_code`` and ``signal`` are the failed worker's, where torchrun names them.

    ``said`` is the last error in its words, shortened; empty where there is none. ``was_stopped`` says that it was
    asked to end (SIGTERM), which its gang never does by itself.
    """

    weight: Weight
    exit_code: int
    signal: int = 0
    said: str = ""
    was_stopped: bool = False


# A worker's line in torchrun's table of failures: "exitcode  : -9 (pid: 22824)  (SIGKILL)".
_WORKER_EXIT = re.compile(r"^\s*exitcode\s*: (-?\d+) \(pid: \d+\)", re.MULTILINE)
# "ValueError: the loss is NaN", perhaps with module, rank or our entry point's words before it.
_ERROR = re.compile(
    r"^[ \t]*(?:\[rank\d+\]:[ \t]*)?(?:rank \d+ failed with exit code \d+: )?"
    r"((?:\w+\.)*\w*(?:Error|Exception|Exit|Interrupt|Warning)): ?(.*)$",
    re.MULTILINE,
)
# torchrun's own words for a worker that failed, whatever the cause.
_ABOUT_A_WORKER = ("ChildFailedError",)
# Only of connections between ranks: a script's own, to a data store for example, are its own fault.
_PEER_LOST = re.compile(
    r"gloo/transport/.*(?:Connection|Read error|Write error|[Ss]ocket)"
    r"|RendezvousConnectionError|RendezvousClosedError|DistNetworkError|connection to the C10d store has failed"
    r"|failed to recv, got 0 bytes|sendBytes failed|Connection was likely closed"
    r"|ncclRemoteError|socketProgress|socketPoll|NCCL communicator was aborted|remote process exit"
)
_TIMED_OUT = re.compile(
    r"atchdog caught collective operation timeout|Timed out waiting \d+ms for (?:recv|send) operation"
    r"|RendezvousTimeoutError|DistStoreError|eartbeat monitor timed out|watchdog thread terminated with exception"
    r"|wait timeout after \d+ms|failed to pass monitoredBarrier"
)
_STOPPED = re.compile(r"SignalException: Process \d+ got signal: 15|\"stopped\": true")


def read(end: views.ContainerEnd) -> Evidence:
    """What this end says."""
    exit_code, by_signal = _worker_exit(end)
    text = end.message
    errors = [match for match in _ERROR.finditer(text) if match[1].rsplit(".")[-1] not in _ABOUT_A_WORKER]
    lost = [match for match in errors if _PEER_LOST.search(match[0])]
    late = [match for match in errors if _TIMED_OUT.search(match[0])]
    own = [match for match in errors if match not in lost and match not in late and not _STOPPED.search(match[0])]
    said = _short((own or late or lost or errors)[-1]) if errors else ""
    if end.reason == "OOMKilled" or by_signal in (signal.SIGKILL, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL):
        return Evidence(Weight.CERTAIN, exit_code, by_signal, said)
    if exit_code == STOPPED_EXIT_CODE or (_STOPPED.search(text) and not own):
        return Evidence(Weight.OWN, exit_code, by_signal, said, was_stopped=True)
    if not own:
        if late or (not lost and _TIMED_OUT.search(text)):
            return Evidence(Weight.TIMED_OUT, exit_code, by_signal, said)
        if lost or _PEER_LOST.search(text):
            return Evidence(Weight.PEER_LOST, exit_code, by_signal, said)
    if exit_code > 1 and not by_signal:
        return Evidence(Weight.CERTAIN, exit_code, by_signal, said)
    return Evidence(Weight.OWN if own or by_signal else Weight.UNEXPLAINED, exit_code, by_signal, said)


def _worker_exit(end: views.ContainerEnd) -> tuple[int, int]:
    """Exit code and signal: the container's, or the first worker's where torchrun ended with 1 and lists them."""
    listed = _WORKER_EXIT.search(end.message.partition("Root Cause")[2]) if end.exit_code == 1 else None
    if listed is None:
        return end.exit_code, end.signal
    code = int(listed[1])
    return (128 - code, -code) if code < 0 else (code or 1, 0)


def _short(match: re.Match[str]) -> str:
    said = f"{match[1].rsplit('.')[-1]}: {match[2].strip()}".rstrip(": ")
    return said if len(said) <= _LONGEST_SAID else f"{said[: _LONGEST_SAID - 1]}…"
