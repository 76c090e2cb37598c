"""Exit codes and the message of a failure, as the operator and people read them."""

import pytest

from stowplan_trainer import run


@pytest.mark.parametrize(
    ("worker", "want"),
    [
        pytest.param(42, 42, id="the script's own code"),
        pytest.param(1, 1, id="an exception"),
        pytest.param(143, 143, id="told to stop"),
        pytest.param(-9, 137, id="killed"),
        pytest.param(-6, 134, id="aborted"),
        pytest.param(0, 1, id="a failure is never 0"),
    ],
)
def test_exit_code(worker, want):
    assert run.exit_code_of(worker) == want


def recorded(callstack):
    return {"message": {"message": "ValueError: no", "extraInfo": {"py_callstack": callstack, "timestamp": "1"}}}


@pytest.mark.parametrize(
    ("error", "want_start", "want_end"),
    [
        pytest.param(
            recorded("Traceback\n  x\n"), "rank 3 failed with exit code 1: ValueError: no\nTraceback", "x", id="whole"
        ),
        pytest.param(
            recorded("a" * 9000 + "the end"),
            "rank 3 failed with exit code 1: ValueError: no\n...aa",
            "the end",
            id="cut",
        ),
        pytest.param(recorded(""), "rank 3 failed with exit code 1: ValueError: no", "no", id="no traceback"),
        pytest.param({"message": "text"}, "rank 3 failed with exit code 1: text", "text", id="an older torch's form"),
        pytest.param({}, "rank 3 failed with exit code 1: ", ": ", id="nothing known"),
    ],
)
def test_message_of_a_failure(error, want_start, want_end):
    text = run.describe(error, rank=3, exit_code=1)
    assert text.startswith(want_start)
    assert text.endswith(want_end)
    assert len(text.encode()) <= 4096
