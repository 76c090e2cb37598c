"""Hundreds of saves gone wrong, each followed by the same questions.

After every trial the next attempt resumes. What it loads must be a state that was saved, bit for bit, and no older than
the last checkpoint that was durable before the fault, so that at most one interval is lost; it then saves twice more,
and nothing but those two may be left. The faults are real where they can be: processes are killed with SIGKILL, disks
are full because they are small. Only the loss of power is played, by taking back what was not synced.
"""

import collections
import contextlib
import errno
import functools
import os
import random
import resource
import shutil
import signal
import subprocess
import threading

import pytest
import tiny
from attempts import UID, Attempt, folders, in_a_process, judge
from lossy import WAYS, LossyDisk

from stowplan_trainer import checkpoint, commit, loop

COUNTS = collections.Counter()
CLASSES = 9


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder in which attempt 1 has committed steps 10 and 20."""
    root = tmp_path_factory.mktemp("prepared") / "ckpt"
    Attempt(root, 1).save(10, 20)
    assert folders(root) == [(20, True), (10, True)]
    return root


@pytest.fixture
def fresh(prepared, tmp_path):
    """Copies of it."""

    def copy():
        root = tmp_path / "ckpt"
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(prepared, root)
        return root

    return copy


def whole_attempt(root, before):
    """Attempt 2 from its start on: it takes the fence, resumes and saves step 30, which makes step 10 needless."""
    attempt = Attempt(root, 2, before=before)
    assert attempt.resume() == 20
    attempt.save(30)


@pytest.fixture
def changes(fresh):
    log = LossyDisk()
    whole_attempt(fresh(), log)
    placed = log.changes.index(("rename", commit.MARKER))
    assert {operation for operation, _ in log.changes} == {
        *("mkdir", "create", "write", "sync", "sync-folder", "rename", "unlink", "rmdir")
    }
    return log.changes, placed


def some_of(log, *, every):
    """The places of all changes in a log, but of the writes into files only every so many-th."""
    writes = [i for i, (operation, _) in enumerate(log) if operation == "write"]
    return sorted({*range(len(log))} - {*writes} | {*writes[::every]})


def die():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
@pytest.mark.parametrize("way", WAYS)
def test_killed_at_every_change_of_an_attempt(fresh, changes, way):
    log, placed = changes
    for change in some_of(log, every=1 if way == "process dies" else 4):
        root = fresh()
        disk = LossyDisk(fail_at=change, way=way, fail=die)
        status = in_a_process(functools.partial(whole_attempt, root, disk))
        assert os.WIFSIGNALED(status), f"{log[change]} was not reached"
        if change <= placed:
            want = {20}
        elif change == placed + 1 and "names" in way:  # the marker is there, its folder not synced yet
            want = {20, 30}
        else:
            want = {30}
        judge(root, want)
        COUNTS[way] += 1


def test_two_attempts_at_once_whenever_the_older_one_falls_asleep(fresh, changes):
    """The older one stops ahead of a change, its successor resumes and saves, then the older one wakes up."""
    log, placed = changes
    first = next(i for i, (operation, _) in enumerate(log) if operation == "mkdir")  # the fence is taken by then
    for change in some_of(log, every=4):
        if change < first:
            continue
        root = fresh()
        asleep, wake = threading.Event(), threading.Event()

        def sleep(asleep=asleep, wake=wake):
            asleep.set()
            assert wake.wait(30)

        older = Attempt(root, 2, before=LossyDisk(fail_at=change, fail=sleep))
        older.resume()
        older.start(30)
        assert asleep.wait(30)
        newer = Attempt(root, 3)
        assert newer.resume() == (30 if change > placed else 20)
        newer.save(40)
        wake.set()
        with contextlib.suppress(commit.StaleWriterError, checkpoint.CheckpointError):
            older.checkpoints.wait()
            assert change > placed, "an older attempt has saved behind its successor's back"
        newer.save(50)
        assert judge(root, {50}) == 50
        COUNTS["two attempts at once"] += 1


@pytest.fixture
def victims(fresh, capsys):
    """Damage one file of the newer checkpoint after another; each time the older one must be loaded, and loudly."""
    root = fresh()
    newest = commit.Store(root, writer=commit.Writer(UID, 1)).folder(20)
    Attempt(root, 2)

    def damage(ways_of_file):
        for path in sorted(newest.iterdir()):
            data = path.read_bytes()
            for changed in ways_of_file(path, data):
                assert changed != data
                path.write_bytes(changed)
                assert Attempt(root, 2).resume() == 10
                assert f"{newest.name} is passed over" in capsys.readouterr().err
                yield
            path.write_bytes(data)
            assert Attempt(root, 2).resume() == 20
        path.write_bytes(b"")
        older = newest.with_name(newest.name.replace("20", "10"))
        (older / path.name).write_bytes(b"")
        with pytest.raises(checkpoint.CheckpointError, match="none of the 2 checkpoints"):
            Attempt(root, 2).resume()

    return damage


def test_truncated_at_many_offsets(victims):
    def cut(path, data):
        return (data[: len(data) * part // 40] for part in range(min(40, len(data))))

    COUNTS["truncated"] += sum(1 for _ in victims(cut))


def test_bits_flipped(victims):
    choose = random.Random(4)

    def flip(path, data):
        for bit in {0, len(data) * 8 - 1, *choose.sample(range(len(data) * 8), 60)}:
            changed = bytearray(data)
            changed[bit // 8] ^= 1 << bit % 8
            yield bytes(changed)

    COUNTS["bits flipped"] += sum(1 for _ in victims(flip))


def test_files_of_another_checkpoint_and_bytes_too_many(victims):
    def mix(path, data):
        other = path.parent.with_name(path.parent.name.replace("20", "10")) / path.name
        if path.name != ".metadata":  # which is the same in both
            yield other.read_bytes()
        yield data + b"\0"
        yield bytes(len(data))

    COUNTS["mixed up"] += sum(1 for _ in victims(mix))


def full(root, size, errors):
    """Attempt 2 saves step 30 onto a disk that has too little room, or just enough; its exit code tells which."""
    attempt = Attempt(root, 2, size=size)
    attempt.state.set(30, 2)
    attempt.checkpoints.save(30)
    try:
        attempt.checkpoints.wait()
    except checkpoint.CheckpointError as error:
        os._exit(7 if any(os.strerror(number) in str(error) for number in errors) else 8)


def after_a_full_disk(root, status):
    assert os.WIFEXITED(status)
    code = os.WEXITSTATUS(status)
    assert code in (0, 7)
    assert folders(root) == ([(20, True), (10, True)] if code else [(30, True), (20, True)]), "its space is given back"
    return code


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_files_may_not_grow(fresh):
    """A real limit of the system on each file's size; EFBIG instead of ENOSPC, in the same places."""
    failed = []
    for limit in range(0, 30_000, 750):
        root = fresh()
        Attempt(root, 2)

        def limited(root=root, limit=limit):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            full(root, 40, [errno.EFBIG])

        failed.append(after_a_full_disk(root, in_a_process(limited)))
        judge(root, {20} if failed[-1] else {30})
        COUNTS["full disk"] += 1
    assert set(failed) == {0, 7}


@pytest.fixture
def small_disk(tmp_path):
    """A tmpfs whose size is set by calling it with the free bytes and files to leave."""
    mount = tmp_path / "disk"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "trial", str(mount)]
    if os.geteuid() or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small disk takes root")

    def resize(free_bytes, free_files=1000):
        usage = os.statvfs(mount)
        size = (usage.f_blocks - usage.f_bfree) * usage.f_frsize + free_bytes
        files = usage.f_files - usage.f_ffree + free_files
        subprocess.run(["mount", "-o", f"remount,size={size},nr_inodes={files}", str(mount)], check=True)

    yield mount, resize
    subprocess.run(["umount", str(mount)], check=True)


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_full_disk(small_disk, tmp_path):
    mount, resize = small_disk
    size = 15_000  # a checkpoint of 30 pages
    source = tmp_path / "source"
    Attempt(source, 1, size=size).save(10, 20)
    failed = []
    room = [(pages * 4096, 1000) for pages in range(44)] + [(1 << 22, files) for files in range(10)]
    for free_bytes, free_files in room:
        resize(1 << 22)
        root = mount / "ckpt"
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(source, root)
        Attempt(root, 2, size=size)
        resize(free_bytes, free_files)
        status = in_a_process(functools.partial(full, root, size, [errno.ENOSPC]))
        failed.append(after_a_full_disk(root, status))
        resize(1 << 22)
        judge(root, {20} if failed[-1] else {30}, size=size)
        COUNTS["full disk"] += 1
    assert set(failed) == {0, 7}


def die_among_two(rank, *, root, victim, change):
    """Step 20 is committed; while step 30 is saved the victim is killed ahead of one of its changes."""
    with loop.session():
        disk = LossyDisk(fail=die)
        attempt = Attempt(root, 1, before=disk)
        attempt.save(20)
        before = len(disk.changes)
        if rank == victim and change is not None:
            disk.fail_at = before + change
        attempt.save(30)
        return {"changes": disk.changes[before:]}


def resume_among_two(rank, *, root):
    with loop.session():
        attempt = Attempt(root, 2)
        got = attempt.resume()
        attempt.save(90, 100)
        return {"got": got}


def one_of_two_dies(tmp_path, victim, only):
    """At each of its changes that `only` chooses; how many there were."""
    dry = tiny.ranks(
        die_among_two, world_size=2, folder=tmp_path, root=str(tmp_path / "dry"), victim=victim, change=None
    )
    log = [tuple(change) for change in dry.written[victim]["changes"]]
    placed = log.index(("rename", commit.MARKER)) if victim == 0 else len(log)
    chosen = only(log)
    for change in chosen:
        root = tmp_path / f"{victim}-{change}"
        died = tiny.ranks(die_among_two, world_size=2, folder=tmp_path, root=str(root), victim=victim, change=change)
        assert died.exit_codes[victim] == -signal.SIGKILL
        assert died.exit_codes[1 - victim] == 1
        assert "step 30" in died.written[1 - victim]["error"]
        again = tiny.ranks(resume_among_two, world_size=2, folder=tmp_path, root=str(root))
        want = 30 if change > placed else 20
        assert [result["got"] for result in again.written] == [want, want]
        assert folders(root) == [(100, True), (90, True)]
    COUNTS["one rank of two dies"] += len(chosen)


@pytest.mark.parametrize("victim", [0, 1])
def test_one_rank_of_two_is_killed_in_mid_save(tmp_path, victim):
    decisive = {0: [("mkdir", None), ("rename", commit.MARKER), ("rename", commit.LATEST)], 1: [("sync", None)]}

    def choose(log):
        return [
            next(i for i, (op, name) in enumerate(log) if op == want_op and want_name in (None, name))
            for want_op, want_name in decisive[victim]
        ]

    one_of_two_dies(tmp_path, victim, choose)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("victim", [0, 1])
def test_one_rank_of_two_is_killed_at_every_change_of_a_save(tmp_path, victim):
    one_of_two_dies(tmp_path, victim, functools.partial(some_of, every=8))


def test_there_were_enough_trials():
    if len(COUNTS) < CLASSES:
        pytest.skip("counts only where all kinds of trials were run")
    print("\ntrials:", ", ".join(f"{name} {count}" for name, count in COUNTS.items()), "- together", COUNTS.total())
    assert COUNTS.total() >= 500
