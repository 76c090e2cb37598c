"""Which of a gang's ends is the cause: what real torchrun and NCCL print, and what must not be mistaken for it."""

from __future__ import annotations

import itertools
import json
import pathlib
from typing import Any

import pytest

from stowplan_operator import evidence, views
from stowplan_operator.evidence import Weight

# Ends of two torchrun agents on loopback (torch 2.15, gloo): the termination message, or the end of the log.
REAL: list[dict[str, Any]] = json.loads(pathlib.Path(__file__).with_name("torchrun_ends.json").read_text())

# Case → the rank that is the cause, and its exit code and signal.
CAUSES: dict[str, tuple[int, int, int]] = {
    "a script exits with 3": (1, 3, 0),
    "a worker is killed (SIGKILL)": (1, 137, 9),
    "a worker aborts (SIGABRT)": (1, 134, 6),
}


def read(message: str = "", *, exit_code: int = 1, reason: str = "Error") -> evidence.Evidence:
    by_signal = exit_code - 128 if exit_code > 128 else 0
    return evidence.read(views.ContainerEnd(exit_code, by_signal, reason, message, finished_at=0.0))


def gangs() -> dict[str, dict[int, evidence.Evidence]]:
    found: dict[str, dict[int, evidence.Evidence]] = {}
    for one in REAL:
        name = f"{one['launcher']}, {'with' if one['record'] else 'without'} @record: {one['case']}"
        found.setdefault(name, {})[one["rank"]] = read(one["message"], exit_code=one["exitCode"])
    return found


GANGS = gangs()


@pytest.mark.parametrize("name", [name for name in GANGS if name.rpartition(": ")[2] in CAUSES])
def test_the_failed_rank_of_a_real_gang_is_its_cause(name: str) -> None:
    gang = GANGS[name]
    rank = min(gang, key=lambda rank: gang[rank].weight)
    assert (rank, gang[rank].exit_code, gang[rank].signal) == CAUSES[name.rpartition(": ")[2]]


def test_an_exception_is_the_cause_and_is_quoted_where_anything_recorded_it() -> None:
    for name, gang in GANGS.items():
        if name.endswith("a script raises") and name != "torchrun, without @record: a script raises":
            assert [gang[rank].weight for rank in (0, 1)] == [Weight.PEER_LOST, Weight.OWN], name
            assert gang[1].said == "ValueError: the loss is NaN at step 20"


def test_without_record_plain_torchrun_tells_victims_not_apart() -> None:
    gang = GANGS["torchrun, without @record: a script raises"]
    assert {end.weight for end in gang.values()} == {Weight.UNEXPLAINED}


def test_a_real_rank_that_was_told_to_stop_says_so() -> None:
    for rank in (0, 1):
        gangs = [gang for name, gang in GANGS.items() if name.endswith(f"rank {rank} gets SIGTERM")]
        assert len(gangs) == 2
        for gang in gangs:
            assert gang[rank].was_stopped
            assert gang[1 - rank].weight is Weight.PEER_LOST


def test_a_real_hang_leaves_only_victims_where_anything_recorded_it() -> None:
    gang = GANGS["stowplan-torchrun, with @record: a rank hangs until its peer's timeout"]
    assert [gang[rank].weight for rank in (0, 1)] == [Weight.TIMED_OUT, Weight.PEER_LOST]


def test_survivors_of_a_lost_store_are_victims() -> None:
    for name, gang in GANGS.items():
        if "holds the store" in name or "never answers" in name:
            assert gang[1].weight is Weight.PEER_LOST, name


WATCHDOG = (
    "[rank3]:[E1102 ProcessGroupNCCL.cpp:685] [Rank 3] Watchdog caught collective operation timeout: "
    "WorkNCCL(SeqNum=7, OpType=ALLREDUCE, NumelIn=1, Timeout(ms)=600000) ran for 600012 milliseconds\n"
)
TEXTS: dict[str, tuple[str, int, Weight]] = {
    "nothing": ("", 1, Weight.UNEXPLAINED),
    "words that are not known": ("bye", 1, Weight.UNEXPLAINED),
    "an exit code of its own": ("", 3, Weight.CERTAIN),
    "an exception": ("KeyError: 'lr'", 1, Weight.OWN),
    "an exception of a module": ("omegaconf.errors.ConfigKeyError: no lr", 1, Weight.OWN),
    "out of GPU memory": ("[rank0]: torch.OutOfMemoryError: CUDA out of memory.", 1, Weight.OWN),
    "killed": ("", 137, Weight.CERTAIN),
    "killed, while it complained of its peers": ("RendezvousConnectionError: x", 137, Weight.CERTAIN),
    "a segmentation fault": ("", 139, Weight.CERTAIN),
    "aborted without a word": ("", 134, Weight.OWN),
    "aborted by NCCL's watchdog": (WATCHDOG, 134, Weight.TIMED_OUT),
    "NCCL lost a peer": (
        "torch.distributed.DistBackendError: NCCL error, ncclRemoteError: A call failed possibly due to a network "
        "error or a remote process exiting prematurely.",
        1,
        Weight.PEER_LOST,
    ),
    "the store's clients are late": ("torch.distributed.DistStoreError: Timed out after 61 s", 1, Weight.TIMED_OUT),
    "the store cannot be reached": ("torch.distributed.DistNetworkError: connect failed", 1, Weight.PEER_LOST),
    "its own error, and its peers' complaint after it": (
        "ValueError: NaN\nRuntimeError: [gloo/transport/tcp/pair.cc:5] Connection closed by peer",
        1,
        Weight.OWN,
    ),
    "a data store that refused is no peer": ("ConnectionError: s3: Connection reset by peer", 1, Weight.OWN),
    "an exit code of its own, but a peer's loss": ("RendezvousConnectionError: The connection", 2, Weight.PEER_LOST),
}


@pytest.mark.parametrize(("message", "exit_code", "want"), TEXTS.values(), ids=TEXTS)
def test_weight(message: str, exit_code: int, want: Weight) -> None:
    assert read(message, exit_code=exit_code).weight is want


def test_memory_is_its_own_cause_whatever_was_logged() -> None:
    assert read("RendezvousConnectionError: x", exit_code=137, reason="OOMKilled").weight is Weight.CERTAIN


@pytest.mark.parametrize(
    ("message", "exit_code", "want"),
    [
        pytest.param("", 143, True, id="SIGTERM's exit code"),
        pytest.param('{"stopped": true}', 1, True, id="our trainer's summary"),
        pytest.param("SignalException: Process 7 got signal: 15", 1, True, id="torchrun's word"),
        pytest.param("SignalException: Process 7 got signal: 15\nValueError: x", 1, False, id="an error beside it"),
        pytest.param("", 1, False, id="nothing"),
    ],
)
def test_was_stopped(message: str, exit_code: int, want: bool) -> None:
    assert read(message, exit_code=exit_code).was_stopped is want


def test_what_is_said_is_short_and_in_one_line() -> None:
    said = read(f"ValueError: {'x' * 5000}\nmore").said
    assert len(said) <= 240
    assert said.endswith("…")
    assert "\n" not in said


def test_a_long_hostile_message_is_read_quickly() -> None:
    for text in ("a." * 2048, "Error" * 800, " " * 4096, "exitcode  : 1 (pid: " * 200):
        assert read("".join(itertools.islice(itertools.cycle(text), 4096))).exit_code == 1
