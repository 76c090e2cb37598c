"""FSDP2: each rank writes its own shards, and any number of ranks can read them."""

import pathlib
import shutil

import pytest
import tiny
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed import checkpoint as dcp
from torch.distributed.checkpoint import format_utils
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from stowplan_trainer import checkpoint, commit, loop


def whole(value):
    return value.full_tensor() if isinstance(value, DTensor) else value


def train(rank, *, root, steps, shard=True):
    """Steps that depend on nothing but the state; what this rank's weights and moments are then."""
    with loop.session():
        torch.manual_seed(5)
        model = nn.Sequential(nn.Linear(7, 5), nn.Tanh(), nn.Linear(5, 3))  # 5 and 3 rows: shards of unequal size
        if shard:
            fully_shard(model, mesh=dist.init_device_mesh("cpu", (dist.get_world_size(),)))
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 3)
        state = {"model": model, "optimizer": optimizer, "schedule": schedule}
        checkpoints = checkpoint.Checkpointer(state, folder=pathlib.Path(root))
        first = step = checkpoints.resume()
        while step < steps:
            optimizer.zero_grad()
            model(torch.linspace(-1, 1, 14).reshape(2, 7)).square().sum().backward()
            optimizer.step()
            schedule.step()
            step += 1
            checkpoints.save(step)
        checkpoints.wait()
        moments = [whole(state["exp_avg"]) for state in optimizer.state.values()]
        values = [whole(weight.detach()) for weight in model.parameters()] + moments
        return {"first": first, "rate": schedule.get_last_lr(), "values": [value.tolist() for value in values]}


def run(tmp_path, world_size, root, steps, **more):
    outcome = tiny.ranks(train, world_size=world_size, folder=tmp_path, root=str(tmp_path / root), steps=steps, **more)
    assert outcome.exit_codes == [0] * world_size
    return outcome.written[0]


def flat(values):
    return [number for value in values for number in torch.tensor(value).flatten().tolist()]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A sharded run of two ranks, undisturbed and saved at its 4th step."""
    folder = tmp_path_factory.mktemp("sharded")
    return folder, run(folder, 2, "undisturbed", 8), run(folder, 2, "ckpt", 4)


def test_each_rank_writes_its_own_shards_and_only_those(saved):
    folder, _, _ = saved
    path = commit.Store(folder / "ckpt", writer=commit.Writer("local", 1)).committed()[0]
    places = dcp.FileSystemReader(path).read_metadata().storage_data
    shards = [(index.fqn, place.relative_path) for index, place in places.items() if "weight" in index.fqn]
    assert sorted(shards) == sorted((name, f"rank-0000{rank}.distcp") for name, _ in shards[:2] for rank in (0, 1))


@pytest.mark.parametrize("world_size", [2, 3, 1])
def test_a_resumed_sharded_run_goes_on_as_undisturbed_with_any_number_of_ranks(saved, tmp_path, world_size):
    folder, want, _ = saved
    shutil.copytree(folder / "ckpt", tmp_path / "ckpt")
    got = run(tmp_path, world_size, "ckpt", 8)
    assert got["first"] == 4
    assert got["rate"] == want["rate"]
    if world_size == 2:
        assert got["values"] == want["values"], "bit for bit"
    assert flat(got["values"]) == pytest.approx(flat(want["values"]), rel=1e-5, abs=1e-7)


def test_a_sharded_checkpoint_loads_into_a_plain_model(saved, tmp_path):
    folder, want, _ = saved
    shutil.copytree(folder / "ckpt", tmp_path / "ckpt")
    got = run(tmp_path, 1, "ckpt", 8, shard=False)
    assert got["first"] == 4
    assert flat(got["values"]) == pytest.approx(flat(want["values"]), rel=1e-5, abs=1e-7)


def test_torchs_own_tools_read_the_folder(saved, tmp_path):
    folder, _, saved_state = saved
    path = commit.Store(folder / "ckpt", writer=commit.Writer("local", 1)).committed()[0]
    format_utils.dcp_to_torch_save(path, tmp_path / "plain.pt")
    plain = torch.load(tmp_path / "plain.pt", weights_only=True)
    assert plain["model.0.weight"].tolist() == saved_state["values"][0]


def test_a_model_of_another_shape_is_named_on_every_rank(saved, tmp_path):
    folder, _, _ = saved
    outcome = tiny.ranks(load_into_another_shape, world_size=2, folder=tmp_path, root=str(folder / "ckpt"))
    for result in outcome.written:
        assert "Size mismatch" in result["error"]
        assert "model.0.weight" in result["error"]


def load_into_another_shape(rank, *, root):
    with loop.session():
        model = nn.Sequential(nn.Linear(7, 6), nn.Tanh(), nn.Linear(6, 3))
        fully_shard(model, mesh=dist.init_device_mesh("cpu", (2,)))
        checkpoint.Checkpointer({"model": model}, folder=pathlib.Path(root)).resume()
        return {}
