"""What torch.distributed.checkpoint does for a checkpoint: who writes what, the files' format, and resharding on load.

Its planners, metadata and file format are used as they are (its FileSystemReader reads our folders); its storage
classes are not, as they overwrite in place, check nothing, and unpickle whatever lies there.

What must stay true:
- Tensors that ranks share are rank 0's (under DDP the buffers differ between ranks, and rank 0's count); DTensors
  (FSDP2) are written by those who hold them, each shard once.
- `Stager.stage` returns when the state may change again. It copies only what this rank writes, into buffers that it
  keeps, so a rank's host memory holds one copy of its share.
- No bytes are unpickled before they were compared with the manifest, and then only with weights_only, or for DCP's own
  metadata with the classes named here: a checkpoint cannot run code.
"""

import dataclasses
import io
import pickle
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch.distributed.checkpoint import default_planner, filesystem, metadata, planner
from torch.distributed.tensor import DTensor

from stowplan_trainer import commit, disk, ranks, tree

METADATA = ".metadata"
STRUCTURE = "structure"
RANDOM = "random.rank-{:05d}"
_AS_IT_IS = {"flatten_state_dict": False, "flatten_sharded_tensors": False}  # either would turn keys into text

type Staged = list[tuple[planner.WriteItem, torch.Tensor | io.BytesIO]]
type Places = dict[metadata.MetadataIndex, filesystem._StorageInfo]
type Reader = Callable[[str, int], bytes]
"""The checked bytes of the part of a file (by name) that starts at an offset."""


class Stager:
    """Copies what this rank writes. Who writes what is planned once, and again when the state's shape changes."""

    def __init__(self, among: ranks.Ranks):
        """All ranks make theirs together."""
        self._ranks = among
        self._local: planner.SavePlan | None = None
        self._plan: planner.SavePlan | None = None
        self._buffers: dict[metadata.MetadataIndex, torch.Tensor] = {}
        self.metadata: metadata.Metadata | None = None
        """Of the whole checkpoint, on rank 0, without the places of its items."""

    def stage(self, step: int, states: Callable[[], Any], random: Callable[[], Any]) -> Staged:
        """Copy this rank's share. `states` gives the state of all ranks, `random` this rank's own.

        CheckpointError on all ranks where one cannot give its state, or where they are not at the same step; any other
        error is this rank's alone, after the last exchange.
        """
        work, local, problem = default_planner.DefaultSavePlanner(**_AS_IT_IS), None, None
        try:
            work.set_up_planner(self._flat(states(), random()), is_coordinator=self._ranks.rank == 0)
            local = work.create_local_plan()
        except Exception as error:  # whatever it is, the other ranks must hear of it
            problem = f"rank {self._ranks.rank}: {type(error).__name__}: {error}"
        same = local == self._local
        said = self._ranks.gather((step, same, problem))
        if found := [text for _, _, text in said if text]:
            raise commit.CheckpointError(f"the state after step {step} cannot be saved: {'; '.join(found)}")
        if len({step for step, _, _ in said}) > 1:
            steps = ", ".join(str(step) for step, _, _ in said)
            raise commit.CheckpointError(f"the ranks save different steps ({steps}): call save after the same step")
        assert local is not None
        if not all(same for _, same, _ in said):
            self._make_plan(work, local)
        assert self._plan is not None
        return self._copy(work, self._plan)

    def _flat(self, states: Any, random: Any) -> dict[str, Any]:
        structure, tensors = tree.split(states)
        flat: dict[str, Any] = {
            name: tensor for name, tensor in tensors.items() if self._ranks.rank == 0 or isinstance(tensor, DTensor)
        }
        flat[RANDOM.format(self._ranks.rank)] = random
        if self._ranks.rank == 0:
            flat[STRUCTURE] = structure
        return flat

    def _make_plan(self, work: default_planner.DefaultSavePlanner, local: planner.SavePlan) -> None:
        plans = self._ranks.collect(local)

        def whole() -> list[planner.SavePlan]:
            finished, self.metadata = work.create_global_plan(plans)
            return finished

        self._plan = work.finish_plan(self._ranks.hand_out(whole))
        self._local = local
        self._buffers.clear()

    def _copy(self, work: planner.SavePlanner, plan: planner.SavePlan) -> Staged:
        staged: Staged = []
        for item in plan.items:
            data = work.resolve_data(item)
            staged.append((item, data if isinstance(data, io.BytesIO) else self._copied(item.index, data.detach())))
        if torch.cuda.is_available():
            torch.cuda.current_stream().synchronize()
        return staged

    def _copied(self, index: metadata.MetadataIndex, tensor: torch.Tensor) -> torch.Tensor:
        buffer = self._buffers.get(index)
        if buffer is None:
            buffer = torch.empty(tensor.size(), dtype=tensor.dtype, pin_memory=tensor.is_cuda)
            self._buffers[index] = buffer
        return buffer.copy_(tensor, non_blocking=True)


def write(file: disk.HashingFile, staged: Staged, places: Places, *, name: str) -> None:
    """Write this rank's share to its file, each item as a part of its own, and note where each one lies."""
    for item, data in staged:
        start = file.size
        if isinstance(data, io.BytesIO):
            _load(data.getvalue(), item.index.fqn)  # what could not be loaded back must not pass for a checkpoint
            file.write(data.getbuffer())
        else:
            torch.save(data, file)  # type: ignore[arg-type]  # it only writes and flushes
        file.end_part()
        places[item.index] = filesystem._StorageInfo(name, start, file.size - start)


def packed(whole: metadata.Metadata, places: Places) -> bytes:
    """The bytes of `.metadata`, as DCP's own reader expects them."""
    version = filesystem.CURRENT_DCP_VERSION
    return pickle.dumps(dataclasses.replace(whole, storage_data=places, version=version))


def load(read: Reader, current: Mapping[str, torch.Tensor], *, among: ranks.Ranks, world_size: int) -> tuple[Any, Any]:
    """The state of all ranks, and this rank's own random state (None where `world_size`, the checkpoint's, differs).

    Into a DTensor of `current` (by name) its own shard is read, however the checkpoint was sharded; any other tensor is
    read whole. All ranks together read every part, so that damage anywhere is found. ValueError where shapes differ.
    """
    whole = _unpack(read(METADATA, 0))

    def one(name: str) -> Any:
        place = whole.storage_data[metadata.MetadataIndex(name)]
        return _load(read(place.relative_path, place.offset), name)

    structure = one(STRUCTURE)
    random = [one(RANDOM.format(rank)) for rank in range(among.rank, world_size, among.size)]
    tensors = {name: _target(whole.state_dict_metadata[name], current.get(name)) for name in structure["tensors"]}
    work = default_planner.DefaultLoadPlanner(**_AS_IT_IS)
    work.set_up_planner(tensors, whole, is_coordinator=True)
    for item, tensor in _saved(work.create_local_plan(), whole.storage_data, read):
        saved = tensor
        for dimension, (start, length) in enumerate(zip(item.storage_offsets, item.lengths, strict=True)):
            saved = saved.narrow(dimension, start, length)
        work.resolve_tensor(item).detach().copy_(saved)
    return tree.join(structure, tensors), random[0] if world_size == among.size else None


def _target(saved: Any, current: torch.Tensor | None) -> torch.Tensor:
    if isinstance(current, DTensor):
        return current
    return torch.empty(saved.size, dtype=saved.properties.dtype)


def _saved(plan: planner.LoadPlan, places: Places, read: Reader) -> Iterator[tuple[planner.ReadItem, torch.Tensor]]:
    """Each item to read with the saved tensor that holds it; one that holds several is read once."""
    last, tensor = None, torch.empty(0)
    for item in sorted(
        plan.items, key=lambda item: (places[item.storage_index].relative_path, places[item.storage_index].offset)
    ):
        place = places[item.storage_index]
        if place is not last:
            last, tensor = place, _load(read(place.relative_path, place.offset), item.storage_index.fqn)
        yield item, tensor


def _load(data: bytes, name: str) -> Any:
    try:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).rpartition("WeightsUnpickler error: ")[2].partition("\n")[0]
        raise commit.CheckpointError(
            f"{name}: only tensors, numbers, texts, lists, tuples and dicts can be loaded from a checkpoint without "
            f"running its code: {reason}"
        ) from error


_CLASSES = {
    *((metadata.__name__, name) for name in ("Metadata", "MetadataIndex", "TensorProperties", "_MEM_FORMAT_ENCODING")),
    *((metadata.__name__, f"{name}StorageMetadata") for name in ("Tensor", "Bytes", "Chunk")),
    (filesystem.__name__, "_StorageInfo"),
    ("torch", "Size"),
    ("torch.serialization", "_get_layout"),
}


class _MetadataUnpickler(pickle.Unpickler):
    """Makes DCP's metadata and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _CLASSES:
            return super().find_class(module, name)
        if module == "torch" and isinstance(found := getattr(torch, name, None), torch.dtype):
            return found
        raise pickle.UnpicklingError(f"{module}.{name} is no part of a checkpoint's metadata")


def _unpack(data: bytes) -> metadata.Metadata:
    try:
        found = _MetadataUnpickler(io.BytesIO(data)).load()
    except pickle.UnpicklingError as error:
        raise commit.CheckpointError(f"{METADATA}: {error}") from error
    if not isinstance(found, metadata.Metadata):
        raise commit.CheckpointError(f"{METADATA}: holds a {type(found).__name__}, not DCP's metadata")
    return found
