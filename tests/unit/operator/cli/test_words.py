"""The words of the command line: durations, numbers, exit codes and suggested commands, as people read them."""

from typing import Any

import pytest

from stowplan_allocator import types
from stowplan_operator import decision
from stowplan_operator.cli import model, parts, words
from stowplan_operator.cli.words import Speaker
from unit.operator.cli import samples


@pytest.mark.parametrize(
    ("seconds", "want"),
    [
        (-3, "0s"),
        (0, "0s"),
        (119.9, "119s"),
        (120, "2m"),
        (192, "3m12s"),
        (600, "10m"),
        (3 * 3600, "3h"),
        (4 * 3600 + 300, "4h5m"),
        (30 * 3600, "30h"),
        (51 * 3600, "2d3h"),
        (45 * 86400, "45d"),
    ],
)
def test_durations_read_as_ages_in_kubectl_do(seconds: float, want: str) -> None:
    assert words.duration(seconds) == want


@pytest.mark.parametrize(
    ("text", "want"), [("90", 90), ("90s", 90), ("10m", 600), ("1h30m", 5400), ("2d", 172800), ("0", 0)]
)
def test_a_duration_is_read(text: str, want: float) -> None:
    assert words.parse_duration(text) == want


@pytest.mark.parametrize("text", ["", "m", "10x", "5m1h", "1h30", "-5s", "1.5h", "10 m", "1m1m"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write for example 90s"):
        words.parse_duration(text)


@pytest.mark.parametrize(
    ("fraction", "want"),
    [("0", "0%"), ("0.0002", "0.02%"), ("0.000001", "under 0.01%"), ("0.5", "50%"), ("0.3%", "0.3%"), ("nan", "nan")],
)
def test_a_gap_reads_as_percent(fraction: str, want: str) -> None:
    assert words.percent(fraction) == want


@pytest.mark.parametrize(
    ("key", "want"),
    [
        ("accelerators_needed", "accelerators needed"),
        ("acceleratorsNeeded", "accelerators needed"),
        ("NVIDIA-H100-80GB-HBM3", "NVIDIA-H100-80GB-HBM3"),
    ],
)
def test_keys_of_numbers_become_words_and_products_stay(key: str, want: str) -> None:
    assert words.phrase(key) == want


@pytest.mark.parametrize(
    ("code", "signal", "want"),
    [
        (1, None, "exit code 1"),
        (137, None, "exit code 137 (SIGKILL)"),
        (137, 9, "exit code 137 (SIGKILL)"),
        (None, 15, "ended by SIGTERM"),
        (255, None, "exit code 255"),
        (None, 99, "ended by signal 99"),
        (None, None, ""),
    ],
)
def test_an_exit_code_names_its_signal(code: int | None, signal: int | None, want: str) -> None:
    assert words.exit_of(code, signal) == want


@pytest.mark.parametrize(
    ("command", "want"),
    [
        (("stowplan", "get", "digits"), "kubectl stowplan get digits --context c1 -n team-a"),
        (("stowplan", "list", "-A"), "kubectl stowplan list -A --context c1"),
        (("get", "nodes"), "kubectl get nodes --context c1"),
        (("edit", "q", "red"), "kubectl edit q red --context c1"),
        (("edit", "tj", "q"), "kubectl edit tj q --context c1 -n team-a"),
    ],
)
def test_suggested_commands_repeat_the_flags_that_mean_something(command: tuple[str, ...], want: str) -> None:
    speaker = Speaker(now=samples.NOW, cluster_flags=("--context", "c1"), namespace="team-a")
    assert speaker.command(*command) == want


def test_times_from_a_faster_clock_are_not_negative_and_unreadable_ones_unknown() -> None:
    speaker = Speaker(now=samples.NOW)
    assert speaker.age(samples.ago(-30)) == "0s"
    assert speaker.age("yesterday") == "-"
    assert speaker.ago("") == ""


PROOFS = {
    types.SolveStatus.OPTIMAL: "Optimal: the solver proved that no other plan",
    types.SolveStatus.FEASIBLE: "Feasible, not proved best: the time limit ended the search; the best plan can be",
    types.SolveStatus.GREEDY: "Greedy: planned by rule, without a proof that no better plan exists (gap 1.5%",
    types.SolveStatus.NOTHING_TO_DO: "No solving was needed",
}


@pytest.mark.parametrize(("seconds", "want"), [(3599, "3599 GPU seconds"), (3600, "1.0 GPU hours")])
def test_gpu_time_is_told_in_seconds_below_an_hour(seconds: int, want: str) -> None:
    assert words.gpu_time(seconds) == want


@pytest.mark.parametrize("solved", types.SolveStatus)
def test_every_certificate_that_the_operator_writes_is_put_in_words(solved: types.SolveStatus) -> None:
    written = decision.certificate_json(types.Certificate(solved, "exact", bound=12, gap=0.015, seconds=0.2))
    assert parts.proof({"certificate": written}).startswith(PROOFS[solved])


def test_slices_are_part_of_what_a_job_asks_for() -> None:
    level = {"level": "rack", "mode": "Required"}
    whole = parts.asks_for(model.Job(samples.job(topology=level)))
    sliced = parts.asks_for(model.Job(samples.job(topology={**level, "sliceSize": 2})))
    assert whole.endswith("; all in one rack (required)")
    assert sliced.endswith("; each 2 pods in one rack (required)")


SIZES: dict[str, tuple[dict[str, Any], str]] = {
    "none of a job of one size": ({}, ""),
    "the bounds": ({"elastic": {"maxNodes": 8}}, "1 to 8 pods, 2 preferred; now 2, 8 GPUs"),
    "the list": ({"elastic": {"allowedNodes": [1, 2, 4]}}, "1, 2, 4 pods, 2 preferred; now 2, 8 GPUs"),
    "what cannot be read is left out": ({"elastic": {"allowedNodes": "x"}}, "1 to 2 pods, 2 preferred; now 2, 8 GPUs"),
}


@pytest.mark.parametrize(("spec", "want"), SIZES.values(), ids=SIZES)
def test_sizes_of_an_elastic_job(spec: dict[str, Any], want: str) -> None:
    body = samples.job(**spec)
    body["status"] = {"ready": "1/2", "gpus": 8, "phase": "Running", "placement": samples.PLACEMENT}
    assert parts.sizes(model.Job(body)) == want
