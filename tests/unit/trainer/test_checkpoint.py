"""Save and resume: all ranks load the same whole checkpoint, or say why not."""

import functools
import os
import pathlib

import pytest
import tiny
import torch
import torch.distributed as dist
from torch import nn

from stowplan_trainer import checkpoint, commit, loop


class Part:
    """The least that a checkpoint can hold."""

    def __init__(self, value=0.0):
        self.tensor = torch.full((4,), float(value))

    def state_dict(self):
        return {"tensor": self.tensor, "note": "text", "list": [1, 2.5]}

    def load_state_dict(self, state):
        self.tensor = state["tensor"]


@pytest.fixture
def checkpoints(monkeypatch, tmp_path):
    monkeypatch.setenv("STOWPLAN_CHECKPOINT_DIR", str(tmp_path))
    for name in ("STOWPLAN_UID", "STOWPLAN_ATTEMPT"):
        monkeypatch.delenv(name, raising=False)
    return lambda part, **more: checkpoint.Checkpointer({"part": part}, **more)


def folder(root, step):
    return commit.Store(root, writer=commit.Writer("local", 1)).folder(step)


def test_three_lines_save_and_resume_model_and_optimizer(monkeypatch, tmp_path):
    monkeypatch.setenv("STOWPLAN_CHECKPOINT_DIR", str(tmp_path))

    def run(steps):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5))
        optimizer = torch.optim.Adam(model.parameters())
        checkpoints = checkpoint.Checkpointer({"model": model, "optimizer": optimizer})
        step = checkpoints.resume()
        while step < steps:
            optimizer.zero_grad()
            model(torch.ones(2, 3)).sum().backward()
            optimizer.step()
            step += 1
            checkpoints.save(step)
        return [weight.tolist() for weight in model.parameters()]

    interrupted = [run(3), run(6)][1]
    for path in commit.Store(tmp_path, writer=commit.Writer("local", 1)).folders():
        commit.shutil.rmtree(path)
    assert interrupted == run(6)


def test_without_a_folder_nothing_is_saved_and_the_run_starts_at_0(monkeypatch):
    monkeypatch.delenv("STOWPLAN_CHECKPOINT_DIR", raising=False)
    checkpoints = checkpoint.Checkpointer({"part": Part()})
    assert checkpoints.resume() == 0
    assert checkpoints.save(5) is False


def test_an_empty_folder_starts_at_0(checkpoints):
    assert checkpoints(Part()).resume() == 0


def test_commits_and_loads_are_reported_with_their_time(checkpoints):
    seen = []
    note = lambda step, unix_seconds: seen.append((step, unix_seconds))  # noqa: E731
    checkpoints(Part(), on_commit=note).save(7)
    checkpoints(Part(), on_commit=note).resume()
    assert [step for step, _ in seen] == [7, 7]
    assert seen[0][1] == seen[1][1], "a resumed run reports when its checkpoint was made"


@pytest.mark.parametrize("name", ["shared.pt", "rank-00000.pt", "manifest.json", "COMMITTED"])
def test_a_damaged_checkpoint_is_passed_over_loudly(checkpoints, tmp_path, capsys, name):
    part = Part(1)
    saved = checkpoints(part)
    saved.save(1)
    part.tensor = part.tensor * 2
    saved.save(2)
    path = folder(tmp_path, 2) / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    loaded = Part()
    assert checkpoints(loaded).resume() == 1
    assert loaded.tensor.tolist() == [1, 1, 1, 1]
    assert f"{folder(tmp_path, 2).name} is passed over" in capsys.readouterr().err


def test_when_all_are_damaged_the_run_does_not_start_over_in_silence(checkpoints, tmp_path):
    saved = checkpoints(Part())
    for step in (1, 2):
        saved.save(step)
        (folder(tmp_path, step) / "shared.pt").write_bytes(b"")
    with pytest.raises(checkpoint.CheckpointError, match=r"none of the 2 checkpoints .* move them away to start from"):
        checkpoints(Part()).resume()


class Attack:
    def __reduce__(self):
        return os.mkdir, ("attacked",)


def test_a_checkpoint_cannot_run_code(checkpoints, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = commit.Store(tmp_path, writer=commit.Writer("local", 1))
    store.take_fence()
    path = store.begin(3)
    files = {
        name: store.write(path / name, lambda file: torch.save({"part": Attack()}, file))
        for name in ("shared.pt", "rank-00000.pt")
    }
    store.commit(3, files=files, world_size=1)
    with pytest.raises(Exception, match="Weights only load failed"):
        checkpoints(Part()).resume()
    assert not (tmp_path / "attacked").exists()


def test_a_checkpoint_of_another_program_is_named(checkpoints, tmp_path):
    checkpoints(Part()).save(1)
    with pytest.raises(ValueError, match="differ in: model, part"):
        checkpoint.Checkpointer({"model": Part()}).resume()


def test_an_older_attempt_is_refused(checkpoints, monkeypatch):
    old = checkpoints(Part())
    monkeypatch.setenv("STOWPLAN_ATTEMPT", "2")
    checkpoints(Part())
    with pytest.raises(commit.StaleWriterError, match="held by attempt 2"):
        old.save(1)


def save_on_ranks(rank, *, root, spoil=None, blind_rank=None, fail_rank=None, steps=()):
    with loop.session() as session:
        part = Part(1)
        checkpoints = checkpoint.Checkpointer({"part": part}, folder=pathlib.Path(root), group=session.control)
        if spoil and blind_rank is None and rank == 0:
            pathlib.Path(spoil).write_bytes(b"spoiled")
        if rank == blind_rank:
            commit.read_file = functools.partial(blind_read_file, pathlib.Path(spoil), commit.read_file)
        dist.barrier()
        start = checkpoints.resume()
        for step in steps:
            if rank == fail_rank:
                checkpoint.random_state = broken_random_state
            try:
                checkpoints.save(step)
            except (checkpoint.CheckpointError, commit.StaleWriterError) as error:
                return {"start": start, "error": str(error)}
    return {"start": start}


def blind_read_file(unseen, read_file, path, want):
    if path == unseen:
        raise commit.DamagedError(f"{path}: not seen from here")
    return read_file(path, want)


def broken_random_state():
    raise OSError(28, "No space left on device")


def test_a_rank_that_cannot_write_makes_the_save_fail_on_every_rank(tmp_path):
    root = tmp_path / "ckpt"
    outcome = tiny.ranks(save_on_ranks, world_size=3, folder=tmp_path, root=str(root), fail_rank=2, steps=(10,))
    for result in outcome.written:
        assert "checkpoint of step 10" in result["error"]
        assert "rank 2: OSError: [Errno 28] No space left on device" in result["error"]
    assert not list(root.glob("step-*")), "its space is given back"


@pytest.mark.parametrize(
    ("name", "blind_rank"),
    [
        pytest.param("rank-00001.pt", None, id="its own file is damaged"),
        pytest.param("shared.pt", 1, id="it alone does not see the shared file"),
    ],
)
def test_when_one_rank_cannot_read_a_file_all_ranks_take_the_older_checkpoint(tmp_path, name, blind_rank):
    root = tmp_path / "ckpt"
    tiny.ranks(save_on_ranks, world_size=2, folder=tmp_path, root=str(root), steps=(10, 20))
    spoil = str(folder(root, 20) / name)
    outcome = tiny.ranks(
        save_on_ranks, world_size=2, folder=tmp_path, root=str(root), spoil=spoil, blind_rank=blind_rank
    )
    assert outcome.written == [{"start": 10}, {"start": 10}]


def test_a_stale_gang_is_refused_on_every_rank(tmp_path):
    root = tmp_path / "ckpt"
    root.mkdir()
    (root / commit.FENCE).write_text('{"uid": "local", "attempt": 9}')
    outcome = tiny.ranks(save_on_ranks, world_size=2, folder=tmp_path, root=str(root), steps=(10,))
    assert outcome.exit_codes == [1, 1]
    for result in outcome.written:
        assert "StaleWriterError" in result["error"]
        assert "held by attempt 9" in result["error"]
