"""A state of nested dicts, lists and tuples, taken apart into its tensors and the structure around them.

torch.distributed.checkpoint saves tensors by name. It can flatten a state by itself, but turns whole-number keys into
text on the way, and an optimizer whose state is keyed "0" instead of 0 loads without an error and forgets its moments.
So the structure (every key, and every value that is no tensor) is kept as one object beside the tensors.

What must stay true: join(*split(tree)) gives the tree back, types and keys included.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch

Path = tuple[Any, ...]


def split(tree: Any) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The structure, and the tensors by dotted name; ValueError where two would have the same name."""
    tensors: dict[str, torch.Tensor] = {}
    paths: dict[str, Path] = {}

    def take(path: Path, value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        name = ".".join(str(key) for key in path)
        if name in tensors:
            raise ValueError(f"two tensors of the state have the name {name}; rename one")
        tensors[name], paths[name] = value, path
        return None

    return {"tree": _map(take, (), tree), "tensors": paths}, tensors


def join(structure: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Any:
    """The tree that `split` took apart."""
    by_path = {path: tensors[name] for name, path in structure["tensors"].items()}
    return _map(lambda path, value: by_path.get(path, value), (), structure["tree"])


def _map(change: Callable[[Path, Any], Any], path: Path, value: Any) -> Any:
    """A copy of the tree with `change` made to every leaf."""
    if isinstance(value, dict):
        copied = copy.copy(value)  # keeps the kind, and what nn.Module notes on its OrderedDict
        for key in value:
            copied[key] = _map(change, (*path, key), value[key])
        return copied
    if type(value) in (list, tuple):
        return type(value)(_map(change, (*path, i), item) for i, item in enumerate(value))
    return change(path, value)
