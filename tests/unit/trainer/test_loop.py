"""A run that is killed, stopped or resized goes on as if nothing had happened."""

import json

import pytest
import tiny

from stowplan_trainer import commit


def store(folder):
    return commit.Store(folder, writer=commit.Writer("local", 1))


@pytest.fixture(scope="module", params=[2, 4], ids=["two ranks", "four ranks"])
def undisturbed(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    outcome = tiny.ranks(tiny.train, world_size=request.param, folder=folder)
    assert outcome.exit_codes == [0] * request.param
    return request.param, outcome


def test_a_killed_run_resumes_bit_for_bit(undisturbed, tmp_path):
    world_size, want = undisturbed
    env = {"STOWPLAN_CHECKPOINT_DIR": str(tmp_path / "ckpt"), "STOWPLAN_ATTEMPT": "1"}
    (tmp_path / "termination-log").touch()
    killed = tiny.ranks(tiny.train, world_size=world_size, folder=tmp_path, env=env, die_at=17)
    assert killed.exit_codes[1] == -9
    assert 0 not in killed.exit_codes, "a rank whose peer died must not look complete"
    assert store(tmp_path / "ckpt").committed()[0].name == "step-00000015-attempt-1-local"
    again = tiny.ranks(tiny.train, world_size=world_size, folder=tmp_path, env={**env, "STOWPLAN_ATTEMPT": "2"})
    assert again.exit_codes == [0] * world_size
    for rank in range(world_size):
        got, wanted = again.written[rank], want.written[rank]
        assert got["step"] == wanted["step"] == 30
        assert got["seen"] == wanted["seen"][15:], "other samples than the undisturbed run"
        assert got["weights"] == wanted["weights"], "other weights than the undisturbed run"
        assert got["accuracy"] == wanted["accuracy"]
    summary = json.loads((tmp_path / "termination-log").read_text())["stowplan"]
    assert summary["step"] == summary["stepsTotal"] == summary["checkpointStep"] == 30
    assert summary["attempt"] == 2
    assert summary["accuracy"] == pytest.approx(again.written[0]["accuracy"], abs=1e-6)


def test_sigterm_at_one_rank_stops_all_after_the_same_step_with_a_checkpoint(tmp_path):
    (tmp_path / "termination-log").touch()
    env = {"STOWPLAN_CHECKPOINT_DIR": str(tmp_path / "ckpt")}
    stopped = tiny.ranks(tiny.train, world_size=2, folder=tmp_path, env=env, term=(1, 11), every=100)
    assert stopped.exit_codes == [143, 143]
    assert [path.name for path in store(tmp_path / "ckpt").committed()] == ["step-00000012-attempt-1-local"]
    summary = json.loads((tmp_path / "termination-log").read_text())["stowplan"]
    assert (summary["stopped"], summary["step"], summary["checkpointStep"]) == (True, 12, 12)


def test_sigterm_in_the_last_step_leaves_a_complete_run(tmp_path):
    stopped = tiny.ranks(tiny.train, world_size=2, folder=tmp_path, term=(0, 29))
    assert stopped.exit_codes == [0, 0]


def test_another_number_of_ranks_trains_the_same_global_batches(undisturbed, tmp_path):
    world_size, want = undisturbed
    env = {"STOWPLAN_CHECKPOINT_DIR": str(tmp_path / "ckpt")}
    tiny.ranks(tiny.train, world_size=world_size, folder=tmp_path, env=env, die_at=12)
    resized = tiny.ranks(tiny.train, world_size=3, folder=tmp_path, env=env)
    assert resized.exit_codes == [0, 0, 0]
    assert [result["step"] for result in resized.written] == [30, 30, 30]

    def batches(results):
        steps = zip(*(result["seen"] for result in results), strict=True)
        return [sorted(number for share in shares for number in share) for shares in steps]

    assert batches(resized.written) == batches(want.written)[10:]


def test_the_number_of_ranks_does_not_change_what_is_learned(tmp_path):
    kinds = {"global_batch": 10, "dropout": 0.0}  # shares of 4, 3 and 3 samples
    alone, shared = (tiny.ranks(tiny.train, world_size=size, folder=tmp_path, **kinds) for size in (1, 3))
    weights = [[float.fromhex(value) for value in outcome.written[0]["weights"]] for outcome in (alone, shared)]
    assert weights[0] == pytest.approx(weights[1], rel=1e-3, abs=1e-4)


def test_a_complete_run_started_again_only_evaluates(tmp_path):
    env = {"STOWPLAN_CHECKPOINT_DIR": str(tmp_path / "ckpt")}
    first, second = (tiny.ranks(tiny.train, world_size=1, folder=tmp_path, env=env) for _ in range(2))
    assert second.exit_codes == [0]
    assert second.written[0]["seen"] == []
    assert second.written[0]["accuracy"] == first.written[0]["accuracy"]
    assert second.written[0]["weights"] == first.written[0]["weights"]


@pytest.mark.parametrize(
    ("change", "want"),
    [
        pytest.param({"global_batch": 10}, "made with global_batch 12, this run has 10", id="another global batch"),
        pytest.param({"count": 58}, "made with length 60, this run has 58", id="another data set"),
    ],
)
def test_a_run_that_would_see_other_samples_is_refused(change, want, tmp_path):
    env = {"STOWPLAN_CHECKPOINT_DIR": str(tmp_path / "ckpt")}
    assert tiny.ranks(tiny.train, world_size=1, folder=tmp_path, env=env, epochs=1).exit_codes == [0]
    refused = tiny.ranks(tiny.train, world_size=1, folder=tmp_path, env=env, **change)
    assert refused.exit_codes == [1]
    assert want in refused.written[0]["error"]
