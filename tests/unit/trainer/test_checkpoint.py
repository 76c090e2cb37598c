"""Save and resume: all ranks load the same whole checkpoint, or say why not."""

import functools
import os
import pathlib
import pickle
import random
import shutil
import threading

import numpy as np
import pytest
import tiny
import torch
import torch.distributed as dist
from torch import nn

from stowplan_trainer import checkpoint, commit, disk, loop, shards


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
        checkpoints.wait()
        return [weight.tolist() for weight in model.parameters()]

    interrupted = [run(3), run(6)][1]
    for path in commit.Store(tmp_path, writer=commit.Writer("local", 1)).folders():
        shutil.rmtree(path)
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

    def note(*said):
        seen.append(said)

    saved = checkpoints(Part(), on_commit=note)
    saved.save(7)
    saved.wait()
    checkpoints(Part(), on_commit=note).resume()
    (step, made, save_seconds), resumed = seen
    assert resumed == (step, made, None) == (7, made, None), "a resumed run reports when its checkpoint was made"
    assert 0 < save_seconds < 60


FILES = ["rank-00000.distcp", ".metadata", "manifest.json", "COMMITTED"]


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_checkpoint_is_passed_over_loudly(checkpoints, tmp_path, capsys, name):
    part = Part(1)
    saved = checkpoints(part)
    saved.save(1)
    part.tensor = part.tensor * 2
    saved.save(2)
    saved.wait()
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
        saved.wait()
        (folder(tmp_path, step) / FILES[0]).write_bytes(b"")
    with pytest.raises(checkpoint.CheckpointError, match=r"none of the 2 checkpoints .* move them away to start from"):
        checkpoints(Part()).resume()


class Attack:
    def __reduce__(self):
        return os.mkdir, ("attacked",)


@pytest.mark.parametrize("name", FILES[:2])
def test_a_checkpoint_cannot_run_code(checkpoints, tmp_path, monkeypatch, name):
    """Even one whose every digest is right: whoever can write the folder can write those too."""
    monkeypatch.chdir(tmp_path)
    saved = checkpoints(Part())
    saved.save(3)
    saved.wait()
    store = commit.Store(tmp_path, writer=commit.Writer("local", 1))
    manifest = store.manifest(folder(tmp_path, 3))
    attack = pickle.dumps(Attack())
    if name == FILES[0]:
        path = folder(tmp_path, 3) / ".metadata"
        places = {index: (0, len(attack)) for index in pickle.loads(path.read_bytes()).storage_data}
        metadata = pickle.loads(path.read_bytes())
        for place in metadata.storage_data.values():
            place.offset, place.length = places[next(iter(places))]
        path.write_bytes(pickle.dumps(metadata))
    (folder(tmp_path, 3) / name).write_bytes(attack)
    files = {
        file: disk.Digest((disk.Part(len(data), commit.hashlib.sha256(data).hexdigest()),))
        for file in manifest.files
        for data in [(folder(tmp_path, 3) / file).read_bytes()]
    }
    store.commit(3, files=files, world_size=1)
    with pytest.raises(checkpoint.CheckpointError, match="cannot be used: rank 0"):
        checkpoints(Part()).resume()
    assert not (tmp_path / "attacked").exists()


def test_what_could_not_be_loaded_back_is_refused_when_it_is_saved(checkpoints, tmp_path):
    part = Part()
    part.state_dict = lambda: {"best": np.float64(0.5)}
    saved = checkpoints(part)
    saved.save(1)
    with pytest.raises(checkpoint.CheckpointError, match=r"not saved: rank 0.*only tensors, numbers, texts.*numpy"):
        saved.wait()
    assert not list(tmp_path.glob("step-*"))


def test_every_random_generator_goes_on_where_it_was(checkpoints):
    def draw():
        return random.random(), torch.rand(1).item(), np.random.rand()

    saved = checkpoints(Part())
    draw()
    saved.save(1)
    want = draw()
    saved.wait()
    draw()
    checkpoints(Part()).resume()
    assert draw() == want


def test_a_save_holds_the_state_as_it_was_at_the_call(checkpoints):
    part = Part(1)
    part.rates = [0.1]
    part.state_dict = lambda: {"tensor": part.tensor, "rates": part.rates}
    part.load_state_dict = lambda state: vars(part).update(state)
    saved = checkpoints(part)
    for value in (1, 2):
        part.tensor.fill_(value)
        part.rates[0] = value
        saved.save(value)
        part.tensor.fill_(-1)
        part.rates[0] = -1
    saved.wait()
    checkpoints(part).resume()
    assert (part.tensor.tolist(), part.rates) == ([2, 2, 2, 2], [2])


def slowly(monkeypatch):
    """Saves that wait for the returned event."""
    go, write = threading.Event(), shards.write

    def wait_and_write(*args, **kwargs):
        assert go.wait(30)
        write(*args, **kwargs)

    monkeypatch.setattr(shards, "write", wait_and_write)
    return go


def test_save_returns_before_the_checkpoint_is_durable_and_wait_after(checkpoints, tmp_path, monkeypatch):
    go = slowly(monkeypatch)
    saved = checkpoints(Part())
    saved.save(1)
    assert not (folder(tmp_path, 1) / "COMMITTED").exists()
    go.set()
    saved.wait()
    assert (folder(tmp_path, 1) / "COMMITTED").exists()


def test_one_save_is_in_flight_at_most_and_waiting_for_it_is_told_once(checkpoints, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(checkpoint, "NOTICEABLE_SECONDS", 0.0)
    go = slowly(monkeypatch)
    saved = checkpoints(Part())
    saved.save(1)
    threading.Timer(0.1, go.set).start()
    for step in (2, 3):
        saved.save(step)
        assert (folder(tmp_path, step - 1) / "COMMITTED").exists()
    saved.wait()
    assert capsys.readouterr().err.count("waited") == 1


def test_the_error_of_a_background_save_is_raised_once_by_the_next_call(checkpoints, tmp_path, monkeypatch):
    part = Part(1)
    saved = checkpoints(part)
    saved.save(1)
    saved.wait()
    (tmp_path / "fence.json").write_text('{"uid": "local", "attempt": 9}')
    saved.save(2)
    saved._thread.join()
    assert saved.failed
    with pytest.raises(commit.StaleWriterError, match="held by attempt 9"):
        saved.save(3)
    assert not saved.failed
    saved.wait()


def test_a_log_that_takes_nothing_hides_no_error(checkpoints, tmp_path, monkeypatch):
    class FullDisk:
        def write(self, text):
            raise OSError(28, "No space left on device")

        flush = write

    saved = checkpoints(Part())
    (tmp_path / "fence.json").write_text('{"uid": "local", "attempt": 9}')
    monkeypatch.setattr("sys.stderr", FullDisk())
    saved.save(2)
    saved._thread.join()
    assert saved.failed
    with pytest.raises(commit.StaleWriterError, match="held by attempt 9"):
        saved.wait()


@pytest.mark.parametrize(("grace", "want"), [("0", 1), ("3600", 0), ("", 0)])
def test_a_grace_period_that_does_not_fit_a_save_is_told_once(checkpoints, monkeypatch, capsys, grace, want):
    monkeypatch.setenv("PET_SHUTDOWN_TIMEOUT", grace)
    saved = checkpoints(Part())
    for step in (1, 2):
        saved.save(step)
    saved.wait()
    assert capsys.readouterr().err.count("set spec.checkpoint.gracePeriodSeconds to 1 or more") == want


def test_a_checkpoint_of_another_program_is_named(checkpoints, tmp_path):
    saved = checkpoints(Part())
    saved.save(1)
    saved.wait()
    with pytest.raises(ValueError, match="differ in: model, part"):
        checkpoint.Checkpointer({"model": Part()}).resume()


def test_an_older_attempt_is_refused(checkpoints, monkeypatch):
    old = checkpoints(Part())
    monkeypatch.setenv("STOWPLAN_ATTEMPT", "2")
    checkpoints(Part())
    old.save(1)
    with pytest.raises(commit.StaleWriterError, match="held by attempt 2"):
        old.wait()


def save_on_ranks(rank, *, root, spoil=None, blind_rank=None, fail_rank=None, fail_where="", steps=()):
    with loop.session():
        part = Part(1)
        checkpoints = checkpoint.Checkpointer({"part": part}, folder=pathlib.Path(root))
        if spoil and blind_rank is None and rank == 0:
            pathlib.Path(spoil).write_bytes(b"spoiled")
        if rank == blind_rank:
            disk.read_part = functools.partial(blind_read_part, pathlib.Path(spoil), disk.read_part)
        dist.barrier()
        start = checkpoints.resume()
        for step in steps:
            if rank == fail_rank:
                break_one(fail_where)
            try:
                checkpoints.save(step)
                checkpoints.wait()
            except (checkpoint.CheckpointError, commit.StaleWriterError) as error:
                return {"start": start, "error": str(error)}
        checkpoints.wait()
    return {"start": start}


def blind_read_part(unseen, read_part, path, want, **where):
    if path == unseen:
        raise disk.DamagedError(f"{path}: not seen from here")
    return read_part(path, want, **where)


def break_one(where):
    def broken(*args, **kwargs):
        raise OSError(5, "Input/output error")

    owner, name = {
        "gives its state": (checkpoint.randomness, "state"),
        "writes": (disk.os, "fsync"),
        "reads back": (disk, "check_file"),
    }[where]
    setattr(owner, name, broken)


@pytest.mark.parametrize("where", ["gives its state", "writes", "reads back"])
def test_what_fails_on_one_rank_makes_the_save_fail_on_every_rank(tmp_path, where):
    root = tmp_path / "ckpt"
    outcome = tiny.ranks(
        save_on_ranks, world_size=3, folder=tmp_path, root=str(root), fail_rank=2, fail_where=where, steps=(10,)
    )
    for result in outcome.written:
        assert "step 10" in result["error"]
        assert "rank 2: OSError: [Errno 5] Input/output error" in result["error"]
    assert not list(root.glob("step-*")), "its space is given back"


@pytest.mark.parametrize(
    ("name", "blind_rank"),
    [
        pytest.param("rank-00001.distcp", None, id="its own file is damaged"),
        pytest.param("rank-00000.distcp", 1, id="it alone does not see what all share"),
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
