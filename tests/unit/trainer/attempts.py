"""Attempts of one job in this process, whose state tells its step, and the questions that follow each of them."""

import contextlib
import functools
import os
import pathlib

import torch

from stowplan_trainer import checkpoint, commit

UID = "job"


class State:
    """Values that tell their step and attempt; what was loaded must be all of one kind."""

    def __init__(self, size=40):
        self.size = size
        self.set(0, 0)

    def set(self, step, attempt):
        self.step, self.attempt = step, attempt
        self.weight = torch.full((self.size,), step + attempt / 16)

    def state_dict(self):
        return {"weight": self.weight, "moments": {0: self.weight * 2}, "step": self.step, "attempt": self.attempt}

    def load_state_dict(self, state):
        self.step, self.attempt = state["step"], state["attempt"]
        want = torch.full((self.size,), self.step + self.attempt / 16)
        assert torch.equal(state["weight"], want)
        assert torch.equal(state["moments"][0], want * 2)
        self.weight = state["weight"]


class Attempt:
    """One attempt of the job, in this process."""

    def __init__(self, root, attempt, *, before=None, size=40):
        os.environ.update(STOWPLAN_UID=UID, STOWPLAN_ATTEMPT=str(attempt))
        self.attempt, self.state, real = attempt, State(size), commit.Store
        if before:
            commit.Store = functools.partial(real, before=before)
        try:
            self.checkpoints = checkpoint.Checkpointer({"state": self.state}, folder=pathlib.Path(root))
        finally:
            commit.Store = real

    def resume(self):
        step = self.checkpoints.resume()
        assert step == self.state.step
        return step

    def start(self, step):
        self.state.set(step, self.attempt)
        self.checkpoints.save(step)

    def save(self, *steps):
        for step in steps:
            self.start(step)
            self.checkpoints.wait()


def folders(root):
    store = commit.Store(root, writer=commit.Writer(UID, 99))
    return [(int(path.name.split("-")[1]), (path / commit.MARKER).exists()) for path in store.folders()]


def judge(root, want, *, size=40):
    """The questions. `want`: the steps of which one must be loaded."""
    after = Attempt(root, 9, size=size)
    got = after.resume()
    assert got in want
    after.save(90, 100)
    assert folders(root) == [(100, True), (90, True)]
    return got


def in_a_process(work):
    """Run it in a forked process; its exit status as os.waitpid has it."""
    pid = os.fork()
    if pid == 0:
        code = 1
        with contextlib.suppress(BaseException):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            work()
            code = 0
        os._exit(code)
    return os.waitpid(pid, 0)[1]
