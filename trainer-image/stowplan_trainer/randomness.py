"""Every random generator that a training script is likely to draw from, as one state that a checkpoint can hold."""

import random
import sys
from typing import Any

import torch


def state() -> dict[str, Any]:
    """Python's, torch's (CPU, and the current GPU where CUDA is in use) and, where it is imported, numpy's."""
    found: dict[str, Any] = {"python": random.getstate(), "torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        found["cuda"] = torch.cuda.get_rng_state()
    if numpy := sys.modules.get("numpy"):
        kind, keys, *rest = numpy.random.get_state()
        found["numpy"] = [kind, keys.tolist(), *rest]
    return found


def restore(found: dict[str, Any]) -> None:
    """The reverse of `state`; what this process does not have is left out."""
    random.setstate(found["python"])
    torch.set_rng_state(found["torch"])
    if "cuda" in found and torch.cuda.is_available():
        torch.cuda.set_rng_state(found["cuda"])
    if "numpy" in found and (numpy := sys.modules.get("numpy")):
        numpy.random.set_state(tuple(found["numpy"]))


def start_anew(*, step: int, rank: int) -> None:
    """For another number of ranks no saved state fits: start one of its own, the same each time."""
    seed = (torch.initial_seed() + step * 1_000_003 + rank) % 2**63
    torch.manual_seed(seed)
    random.seed(seed)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(seed % 2**32)
