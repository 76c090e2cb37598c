"""The commit protocol by itself. What it is worth when things go wrong, test_trials.py tries."""

import json
import pathlib

import pytest
from lossy import LossyDisk

from stowplan_trainer import commit, disk

FILES = {"shared.pt": b"weights " * 40, "rank-00000.pt": b"random state 0", "rank-00001.pt": b"random state 1"}


def make(root, *, attempt=1, uid="job-a", before=None, keep=2):
    store = commit.Store(
        root,
        writer=commit.Writer(uid, attempt),
        keep=keep,
        clock=lambda: 1000.0,
        **({"before": before} if before else {}),
    )
    store.take_fence()
    return store


def save(store, step):
    path = store.begin(step)
    if path is None:
        return None
    digests = {}
    for name, data in FILES.items():
        digests[name] = store.write(path / name, lambda file, data=data: file.write(data + str(step).encode()))
    manifest = store.commit(step, files=digests, world_size=2)
    store.prune()
    return manifest


def newest(root):
    """What a loader would take: the step of the newest whole checkpoint."""
    store = commit.Store(root, writer=commit.Writer("job-a", 99))
    for path in store.committed():
        try:
            manifest = store.verify(path)
        except disk.DamagedError:
            continue
        for name, data in FILES.items():
            assert disk.read_part(path / name, manifest.files[name]) == data + str(manifest.step).encode()
        return manifest.step
    return None


def steps(root):
    return [int(path.name.split("-")[1]) for path in commit.Store(root, writer=commit.Writer("x", 1)).folders()]


def test_the_order_of_a_save(tmp_path):
    log = LossyDisk()
    store = make(tmp_path, before=log)
    save(store, 10)
    save(store, 20)
    del log.changes[:]
    save(store, 30)
    names = [name for operation, name in log.changes if operation in ("mkdir", "sync", "rename", "rmdir")]
    assert [name.split(".")[0] for name in names] == [
        "step-00000030-attempt-1-joba",
        "shared",
        "rank-00000",
        "rank-00001",
        "manifest",
        "manifest",
        "COMMITTED",
        "COMMITTED",
        "latest",
        "latest",
        "step-00000010-attempt-1-joba",
    ]
    marker = log.changes.index(("rename", "COMMITTED"))
    assert log.changes[marker - 1][0] == log.changes[marker + 1][0] == "sync-folder"
    removal = log.changes[-7:]
    assert removal[:2] == [("unlink", "COMMITTED"), ("sync-folder", "step-00000010-attempt-1-joba")]
    assert {operation for operation, _ in removal[2:-1]} == {"unlink"}


def damaged(data, how):
    if how == "empty":
        return b""
    if how == "cut":
        return data[:-1]
    if how == "longer":
        return data + b"\0"
    if how == "zeros":
        return bytes(len(data))
    bit = {"first bit": 0, "middle bit": len(data) * 4, "last bit": len(data) * 8 - 1}[how]
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@pytest.mark.parametrize("name", [*FILES, commit.MANIFEST, commit.MARKER])
@pytest.mark.parametrize("how", ["empty", "cut", "longer", "zeros", "first bit", "middle bit", "last bit", "missing"])
def test_a_damaged_file_is_found_and_the_older_checkpoint_taken(tmp_path, name, how):
    store = make(tmp_path)
    save(store, 10)
    save(store, 20)
    path = store.folder(20) / name
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(damaged(path.read_bytes(), how))
    with pytest.raises(disk.DamagedError, match=str(path.parent)):
        store.verify(store.folder(20))
    assert newest(tmp_path) == 10


@pytest.mark.parametrize("content", ["{}", "[1]", '{"step": 1, "files": {}}', "null"])
def test_a_manifest_of_another_kind_is_damaged_not_a_crash(tmp_path, content):
    store = make(tmp_path)
    save(store, 10)
    (store.folder(10) / commit.MANIFEST).write_text(content)
    digest = commit.hashlib.sha256(content.encode()).hexdigest()
    (store.folder(10) / commit.MARKER).write_text(digest)
    with pytest.raises(disk.DamagedError, match="not a manifest"):
        store.verify(store.folder(10))


def test_latest_is_for_people_and_need_not_be_right(tmp_path):
    store = make(tmp_path)
    save(store, 10)
    save(store, 20)
    assert (tmp_path / commit.LATEST).read_text() == store.folder(20).name
    (tmp_path / commit.LATEST).write_text("nonsense")
    assert newest(tmp_path) == 20


def test_two_verified_checkpoints_stay(tmp_path):
    store = make(tmp_path)
    for step in (10, 20, 30, 40):
        save(store, step)
    assert steps(tmp_path) == [40, 30]


def test_a_damaged_checkpoint_does_not_count_among_those_that_stay(tmp_path):
    store = make(tmp_path)
    save(store, 10)
    save(store, 20)
    (store.folder(20) / "shared.pt").write_bytes(b"?")
    fresh = make(tmp_path, attempt=2)
    save(fresh, 30)
    assert steps(tmp_path) == [30, 20, 10], "20 is damaged: 10 is still needed"
    assert fresh.prune() == [store.folder(20).name]
    save(fresh, 40)
    assert steps(tmp_path) == [40, 30]


def test_what_a_dead_attempt_left_uncommitted_is_cleared_away_by_the_next_save(tmp_path):
    dead = make(tmp_path, attempt=1)
    save(dead, 10)
    dead.begin(30)
    store = make(tmp_path, attempt=2)
    save(store, 20)
    assert steps(tmp_path) == [20, 10]
    assert store.prune() == []


def test_keeping_one_is_refused(tmp_path):
    with pytest.raises(ValueError, match="keep at least 2"):
        commit.Store(tmp_path, writer=commit.Writer("a", 1), keep=1)


def test_saving_a_step_twice_keeps_the_first(tmp_path):
    store = make(tmp_path)
    assert save(store, 10) is not None
    assert save(store, 10) is None
    assert newest(tmp_path) == 10


def test_a_damaged_save_of_the_same_step_is_made_anew(tmp_path):
    store = make(tmp_path)
    save(store, 10)
    (store.folder(10) / "shared.pt").write_bytes(b"?")
    assert save(store, 10) is not None
    assert newest(tmp_path) == 10


def test_an_older_attempt_cannot_take_the_fence(tmp_path):
    make(tmp_path, attempt=2)
    with pytest.raises(commit.StaleWriterError, match="held by attempt 2 of job job-a, this is attempt 1"):
        make(tmp_path, attempt=1)


def test_an_older_attempt_that_lives_on_saves_nothing_more(tmp_path):
    old = make(tmp_path, attempt=1)
    save(old, 10)
    old.begin(15)
    new = make(tmp_path, attempt=2)
    with pytest.raises(commit.StaleWriterError):
        old.begin(20)
    with pytest.raises(commit.StaleWriterError):
        old.prune()
    assert save(new, 20) is not None
    assert steps(tmp_path) == [20, 10]


def test_an_older_attempt_that_wakes_up_while_it_prunes_removes_nothing_of_its_successors(tmp_path):
    def sleep(operation, path):
        if operation == "unlink" and path.parent.name.startswith("step-00000015") and not opened:  # past the fence
            opened.append(make(tmp_path, attempt=2).begin(40))

    opened = []
    old = make(tmp_path, before=sleep)
    for step in (10, 20):
        save(old, step)
    old.begin(15)
    with pytest.raises(commit.StaleWriterError):
        save(old, 30)
    assert opened[0].exists()
    assert newest(tmp_path) == 30
    blind = make(tmp_path / "other")
    (tmp_path / "other" / opened[0].name.replace("attempt-2", "attempt-7")).mkdir()
    blind.prune()
    assert steps(tmp_path / "other") == [40], "a folder of a newer attempt is not an older one's to remove"


@pytest.mark.parametrize("change", ["create", "rename"])
def test_a_writer_that_loses_the_fence_in_mid_commit_commits_nothing(tmp_path, change):
    def lose(operation, path):
        if operation == change and path.name.startswith(commit.MARKER) and path.parent == old.folder(20):
            make(tmp_path, attempt=2)

    old = make(tmp_path, attempt=1, before=lose)
    save(old, 10)
    with pytest.raises(commit.StaleWriterError):
        save(old, 20)
    assert newest(tmp_path) == 10


def test_another_job_takes_the_folder_over_and_goes_on_from_its_checkpoints(tmp_path):
    first = make(tmp_path, uid="job-a", attempt=7)
    save(first, 10)
    second = make(tmp_path, uid="job-b", attempt=1)
    assert newest(tmp_path) == 10
    save(second, 20)
    with pytest.raises(commit.StaleWriterError, match="give each job a checkpoint folder of its own"):
        first.begin(20)


@pytest.mark.parametrize("content", ["", "{", '{"uid": 1}', "null", "[]"])
def test_a_damaged_fence_stops_its_writer_and_can_be_taken_anew(tmp_path, content):
    store = make(tmp_path)
    (tmp_path / commit.FENCE).write_text(content)
    with pytest.raises(commit.StaleWriterError, match="held by nobody"):
        store.begin(10)
    assert save(make(tmp_path, attempt=2), 10) is not None


def test_a_full_disk_leaves_the_earlier_checkpoint_and_gives_its_space_back(tmp_path):
    store = make(tmp_path)
    save(store, 10)
    path = store.begin(20)

    def full(file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        store.write(path / "shared.pt", full)
    store.abandon(20)
    assert steps(tmp_path) == [10]
    assert newest(tmp_path) == 10


def test_files_of_other_people_are_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "step-by-step").mkdir()
    store = make(tmp_path)
    for step in (10, 20, 30):
        save(store, step)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert (tmp_path / "step-by-step").is_dir()


def test_the_layout_is_documented_and_frozen(tmp_path):
    store = make(tmp_path, uid="1f3c9d2e-77aa-4b0e-9d0c-2f1a", attempt=2)
    save(store, 120)
    folder = tmp_path / "step-00000120-attempt-2-1f3c9d2e"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fence.json", "latest", folder.name]
    assert sorted(path.name for path in folder.iterdir()) == sorted([*FILES, "manifest.json", "COMMITTED"])
    manifest = json.loads((folder / "manifest.json").read_text())
    assert sorted(manifest) == ["created_unix_seconds", "files", "step", "world_size", "writer"]
    assert isinstance(store.root, pathlib.Path)
