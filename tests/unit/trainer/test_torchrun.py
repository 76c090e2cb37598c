"""The real torchrun, with gloo on loopback: the example trains, and failures are told as they were."""

import contextlib
import dataclasses
import http.client
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import urllib.request

import pytest
import tiny

from stowplan_trainer import data

REPOSITORY = pathlib.Path(__file__).parents[3]
DIGITS = ["-m", "stowplan_trainer.examples.digits"]


@dataclasses.dataclass
class Pod:
    """One torchrun agent with a pod's environment."""

    process: subprocess.Popen
    folder: pathlib.Path

    def kill(self):
        """As when a node is lost: the agent and its workers end at once."""
        pid = self.process.pid
        workers = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        self.process.kill()
        for worker in workers:
            os.kill(int(worker), signal.SIGKILL)

    def finish(self, timeout_seconds=100):
        try:
            output, _ = self.process.communicate(timeout=timeout_seconds)
        finally:
            self.process.kill()
        return self.process.returncode, output

    @property
    def message(self):
        return (self.folder / "termination-log").read_text()

    def wait_for_line(self, text):
        deadline, seen = time.monotonic() + 60, ""
        while time.monotonic() < deadline:
            line = self.process.stdout.readline()
            seen += line
            if text in line:
                return
            if not line:
                break
        raise AssertionError(f"{text!r} not in {seen}")


@pytest.fixture
def pod(tmp_path):
    pods = []

    def start(args, *, program="stowplan_trainer.run", env=None, name="pod"):
        folder = tmp_path / name
        (folder / "run").mkdir(parents=True)
        (folder / "termination-log").touch()
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("PET_", "STOWPLAN_"))}
        process = subprocess.Popen(
            [sys.executable, "-m", program, *args],
            env={
                **clean,
                "OMP_NUM_THREADS": "1",
                "PYTHONPATH": str(REPOSITORY / "trainer-image"),
                "GLOO_SOCKET_IFNAME": "lo",
                "TERMINATION_LOG": str(folder / "termination-log"),
                "STOWPLAN_RUN_DIR": str(folder / "run"),
                "PET_MASTER_ADDR": "127.0.0.1",
                "PET_MASTER_PORT": str(tiny.free_port()),
                **(env or {}),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        pods.append(Pod(process, folder))
        return pods[-1]

    yield start
    for started in pods:
        started.process.kill()
        started.process.wait()
        started.process.stdout.close()


def gang(pod, args, *, num_nodes, num_procs, env=None, attempt=1):
    """The agents of a job, with the environment that the operator gives their pods."""
    port, metrics = tiny.free_port(), tiny.free_port()
    return metrics, [
        pod(
            args,
            name=f"job-{attempt}-{rank}",
            env={
                "PET_NNODES": str(num_nodes),
                "PET_NPROC_PER_NODE": str(num_procs),
                "PET_NODE_RANK": str(rank),
                "PET_RDZV_BACKEND": "c10d",
                "PET_RDZV_ENDPOINT": f"127.0.0.1:{port}",
                "PET_RDZV_ID": f"uid-a{attempt}",
                "PET_RDZV_CONF": f"is_host={int(rank == 0)},join_timeout=100",
                "PET_MAX_RESTARTS": "0",
                "PET_LOCAL_ADDR": "127.0.0.1",
                "STOWPLAN_UID": "uid",
                "STOWPLAN_ATTEMPT": str(attempt),
                "STOWPLAN_METRICS_PORT": str(metrics),
                **(env or {}),
            },
        )
        for rank in range(num_nodes)
    ]


def summaries(pods):
    return [json.loads(pod.message)["stowplan"] for pod in pods if pod.message]


def test_digits_on_two_agents_reach_their_accuracy_and_leave_it_in_the_pods_status(pod):
    metrics, pods = gang(pod, DIGITS, num_nodes=2, num_procs=1)
    served = ""
    while all(started.process.poll() is None for started in pods):
        with contextlib.suppress(OSError, http.client.HTTPException):
            served = urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics", timeout=2).read().decode() or served
        time.sleep(0.1)
    for code, output in [started.finish() for started in pods]:
        assert code == 0, output
    (summary,) = summaries(pods)
    assert summary["step"] == summary["stepsTotal"] == 220
    assert summary["accuracy"] >= 0.95
    assert "stowplan_train_steps_total 220\n" in served
    assert "stowplan_train_attempt 1\n" in served


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_digits_two_by_two_killed_in_mid_training_end_as_if_undisturbed(pod, tmp_path):
    _, pods = gang(pod, DIGITS, num_nodes=2, num_procs=2)
    assert [started.finish()[0] for started in pods] == [0, 0]
    (want,) = summaries(pods)
    env = {"STOWPLAN_CHECKPOINT_DIR": str(tmp_path / "ckpt")}
    _, pods = gang(pod, [*DIGITS, "--step-seconds", "0.05"], num_nodes=2, num_procs=2, env=env, attempt=2)
    pods[0].wait_for_line("step 110/220")
    pods[1].kill()
    code, output = pods[0].finish()
    assert code != 0, output
    _, pods = gang(pod, DIGITS, num_nodes=2, num_procs=2, env=env, attempt=3)
    pods[0].wait_for_line("from step 1")
    assert [started.finish()[0] for started in pods] == [0, 0]
    (got,) = summaries(pods)
    for name in ("step", "accuracy", "loss"):
        assert got[name] == want[name]


RESIZED = """
import os, pathlib, sys, torch
from stowplan_trainer import data, loop

folder = pathlib.Path(sys.argv[1])
inputs = torch.randn(96, 8, generator=torch.Generator().manual_seed(0))

class Noted(torch.utils.data.TensorDataset):
    def __getitem__(self, index):
        with open(folder / f"samples-{os.environ['STOWPLAN_ATTEMPT']}-{os.environ['RANK']}", "a") as file:
            file.write(f"{trainer.step} {index}\\n")
        return super().__getitem__(index)

with loop.session() as session:
    torch.manual_seed(0)
    train_set = Noted(inputs, inputs.sum(dim=1, keepdim=True))
    trainer = loop.Trainer(
        torch.nn.Linear(8, 1),
        optimizer=lambda weights: torch.optim.SGD(weights, lr=0.01),
        loss=torch.nn.functional.mse_loss,
        train_set=train_set,
        test_set=torch.utils.data.TensorDataset(inputs[:8], torch.zeros(8, dtype=torch.int64)),
        settings=loop.Settings(epochs=40, global_batch=16, checkpoint_every_steps=50, step_seconds=float(sys.argv[2])),
        session=session,
    )
    trainer.run()
"""


@pytest.mark.timeout(300)
def test_stopped_and_started_again_with_other_numbers_of_pods_every_step_has_its_samples_once(pod, tmp_path):
    """As the operator resizes an elastic job. Three pods do not divide the batch of 16 evenly."""
    text = script(tmp_path, RESIZED)
    env = {"STOWPLAN_CHECKPOINT_DIR": str(tmp_path / "ckpt")}
    begin, losses = 0, []
    for attempt, num_nodes in ((1, 2), (2, 1), (3, 3)):
        args = [text, str(tmp_path), "0.02" if attempt < 3 else "0"]
        _, pods = gang(pod, args, num_nodes=num_nodes, num_procs=1, env=env, attempt=attempt)
        pods[0].wait_for_line(f"attempt {attempt}: {num_nodes} ranks, from step {begin}\n")
        if attempt < 3:
            pods[0].wait_for_line(f"step {begin // 10 * 10 + 20}/240")
            for one in pods:
                one.process.send_signal(signal.SIGTERM)
        ended = [one.finish() for one in pods]
        assert {code for code, _ in ended} == ({143} if attempt < 3 else {0}), ended
        (summary,) = summaries(pods)
        losses.append(summary["loss"])
        assert summary["checkpointStep"] == summary["step"], "it stops only when that is saved"
        seen = {}
        for rank in range(num_nodes):
            for line in (tmp_path / f"samples-{attempt}-{rank}").read_text().splitlines():
                step, index = map(int, line.split())
                if step >= begin:  # before it resumes, it takes the first batch once: see Trainer._settle
                    seen.setdefault(step, set()).add(index)
        sampler = data.StepSampler(96, global_batch=16, total_steps=240)
        assert seen == {step: set(sampler.global_indices(step)) for step in range(begin, summary["step"])}
        begin = summary["step"]
    assert begin == 240
    assert losses == sorted(losses, reverse=True)


def script(tmp_path, text):
    path = tmp_path / "script.py"
    path.write_text(text)
    return str(path)


RECORDED = """
from torch.distributed.elastic.multiprocessing.errors import record

@record
def main():
    raise ValueError("the learning rate is negative")

main()
"""


@pytest.mark.parametrize(
    ("text", "want_code", "want_message"),
    [
        pytest.param(
            RECORDED,
            1,
            ["rank 0 failed with exit code 1: ValueError: the learning rate is negative\nTraceback", "in main\n"],
            id="an error with @record is in the pod's status",
        ),
        pytest.param("import os; os.kill(os.getpid(), 9)", 137, [], id="a killed worker is told from an error"),
    ],
)
def test_what_is_left_of_a_failure(pod, tmp_path, text, want_code, want_message):
    started = pod(["--nproc-per-node", "1", script(tmp_path, text)])
    code, output = started.finish()
    assert code == want_code, output
    assert bool(started.message) == bool(want_message)
    for part in want_message:
        assert part in started.message
    if want_code:
        assert "FAILED" in output, "torchrun's failure table belongs in the log"


STOPS_WHEN_TOLD = """
import signal, sys, time

signal.signal(signal.SIGTERM, lambda *_: sys.exit("saved and left"))
print("training", flush=True)
time.sleep(60)
"""


def test_sigterm_reaches_the_workers_and_has_its_own_exit_code(pod, tmp_path):
    started = pod(["--nproc-per-node", "1", script(tmp_path, STOPS_WHEN_TOLD)])
    started.wait_for_line("training")
    started.process.send_signal(signal.SIGTERM)
    code, output = started.finish()
    assert code == 143, output
    assert "saved and left" in output


PLAIN = """
import pathlib, sys, torch, torch.distributed as dist
from stowplan_trainer.checkpoint import Checkpointer

folder = pathlib.Path(sys.argv[1])
dist.init_process_group("gloo")
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(1000, 500))
optimizer = torch.optim.Adam(model.parameters())
checkpoints = Checkpointer({"model": model, "optimizer": optimizer}, folder=folder)
step = checkpoints.resume()
print(f"from step {step}\\n", end="", flush=True)  # in one piece, beside the other rank
for step in range(step + 1, step + 4):
    optimizer.zero_grad()
    model(torch.ones(2, 1000)).sum().backward()
    optimizer.step()
    if sys.argv[2:] and dist.get_rank() == 0:
        (folder / "fence.json").write_text("{}")  # so that this and every later save is refused
    if step % 3 == 0:
        checkpoints.save(step)
dist.destroy_process_group()  # while the last save is written
"""


def test_a_plain_script_under_plain_torchrun_saves_and_resumes_without_an_operator(pod, tmp_path):
    args = ["--nproc-per-node", "2", script(tmp_path, PLAIN), str(tmp_path / "ckpt")]
    for name, start in (("first", 0), ("second", 3)):
        code, output = pod(args, program="torch.distributed.run", name=name).finish()
        assert code == 0, output
        assert output.count(f"from step {start}") == 2
    assert len(list((tmp_path / "ckpt").glob("step-*/COMMITTED"))) == 2


def test_a_script_whose_last_save_fails_after_it_has_ended_does_not_look_complete(pod, tmp_path):
    args = ["--nproc-per-node", "2", script(tmp_path, PLAIN), str(tmp_path / "ckpt"), "spoil"]
    code, output = pod(args, program="torch.distributed.run").finish()
    assert code == 1, output
    assert "fence.json: the folder is held by nobody" in output
    assert "a checkpoint was not saved and nobody was told" in output
