"""The environment variables that the operator and torchrun set, read in one place.

Without them (a script started by hand) the defaults describe one process, attempt 1, no metrics and no checkpoints.
"""

import dataclasses
import os
import pathlib
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True, kw_only=True)
class Environment:
    """Who this process is, and where its metrics, checkpoints and last words go."""

    rank: int
    world_size: int
    local_rank: int
    uid: str
    attempt: int
    checkpoint_dir: pathlib.Path | None
    metrics_port: int | None
    run_dir: pathlib.Path | None
    termination_log: pathlib.Path
    shutdown_timeout_seconds: int | None
    """What a SIGTERM leaves to the workers: torchrun's --shutdown-timeout as the operator sets it."""

    @classmethod
    def read(cls, values: Mapping[str, str] | None = None) -> "Environment":
        """The process's own environment, or the given values; an unusable value is named in the error."""
        env = os.environ if values is None else values
        checkpoint_dir = env.get("STOWPLAN_CHECKPOINT_DIR", "")
        run_dir = env.get("STOWPLAN_RUN_DIR", "")
        shutdown_timeout = env.get("PET_SHUTDOWN_TIMEOUT", "")
        return cls(
            rank=_number(env, "RANK", 0),
            world_size=_number(env, "WORLD_SIZE", 1),
            local_rank=_number(env, "LOCAL_RANK", 0),
            uid=env.get("STOWPLAN_UID", "") or "local",
            attempt=_number(env, "STOWPLAN_ATTEMPT", 1),
            checkpoint_dir=pathlib.Path(checkpoint_dir) if checkpoint_dir else None,
            metrics_port=_number(env, "STOWPLAN_METRICS_PORT", 0) if env.get("STOWPLAN_METRICS_PORT") else None,
            run_dir=pathlib.Path(run_dir) if run_dir else None,
            termination_log=pathlib.Path(env.get("TERMINATION_LOG", "") or "/dev/termination-log"),
            shutdown_timeout_seconds=_number(env, "PET_SHUTDOWN_TIMEOUT", 0) if shutdown_timeout else None,
        )


def _number(env: Mapping[str, str], name: str, default: int) -> int:
    text = env.get(name, "")
    if not text:
        return default
    try:
        value = int(text)
    except ValueError:
        raise ValueError(f"{name}={text!r} is not a whole number; unset it or set a number") from None
    if value < 0:
        raise ValueError(f"{name}={value} is negative; unset it or set a number from 0")
    return value
