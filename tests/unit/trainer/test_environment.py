"""The variables that the operator sets are read, and unusable ones named."""

import pathlib

import pytest

from stowplan_trainer import environment


def test_a_script_started_by_hand_is_one_process_without_metrics_and_checkpoints():
    env = environment.Environment.read({})
    assert (env.rank, env.world_size, env.local_rank, env.uid, env.attempt) == (0, 1, 0, "local", 1)
    assert (env.checkpoint_dir, env.metrics_port, env.run_dir) == (None, None, None)
    assert env.shutdown_timeout_seconds is None
    assert env.termination_log == pathlib.Path("/dev/termination-log")


def test_the_names_are_those_of_the_operator_and_torchrun():
    env = environment.Environment.read(
        {
            "RANK": "5",
            "WORLD_SIZE": "8",
            "LOCAL_RANK": "1",
            "STOWPLAN_UID": "6d1f",
            "STOWPLAN_ATTEMPT": "3",
            "STOWPLAN_CHECKPOINT_DIR": "/ckpt",
            "STOWPLAN_METRICS_PORT": "9400",
            "STOWPLAN_RUN_DIR": "/var/run/stowplan",
            "TERMINATION_LOG": "/tmp/log",
            "PET_SHUTDOWN_TIMEOUT": "300",
        }
    )
    assert env == environment.Environment(
        rank=5,
        world_size=8,
        local_rank=1,
        uid="6d1f",
        attempt=3,
        checkpoint_dir=pathlib.Path("/ckpt"),
        metrics_port=9400,
        run_dir=pathlib.Path("/var/run/stowplan"),
        termination_log=pathlib.Path("/tmp/log"),
        shutdown_timeout_seconds=300,
    )


@pytest.mark.parametrize(
    ("name", "value", "want"),
    [
        pytest.param("STOWPLAN_ATTEMPT", "two", "STOWPLAN_ATTEMPT='two' is not a whole number", id="a word"),
        pytest.param("STOWPLAN_METRICS_PORT", "-1", "STOWPLAN_METRICS_PORT=-1 is negative", id="a negative port"),
    ],
)
def test_an_unusable_value_is_named(name, value, want):
    with pytest.raises(ValueError, match=want):
        environment.Environment.read({name: value})
