"""torchrun that leaves the cause of a failure in the pod's status, and exits with the failed worker's own code.

usage: stowplan-torchrun [torchrun's arguments]      (python -m stowplan_trainer.run)

torchrun by itself exits with 1 whatever happened. This runs it in the same process (as PID 1, so that signals reach it)
and adds three things:
- TORCHELASTIC_ERROR_FILE names a plain file in STOWPLAN_RUN_DIR; never /dev/termination-log, which torch would remove,
  which fails on a mount and hides the cause;
- where a worker's script has torch's @record, its error and traceback become the container's termination message;
  where it has not, nothing is written, so that the kubelet takes the end of the log (FallbackToLogsOnError);
- the exit code is the first failed worker's: 143 for a run that was told to stop, 128 + n for a worker killed by signal
  n (137 where memory ran out), else what the script returned.
"""

import atexit
import gc
import json
import os
import signal
import sys
import types
from typing import NoReturn

from stowplan_trainer import environment, progress


def _stopped_early(signum: int, frame: types.FrameType | None) -> NoReturn:
    """As PID 1 a process ignores SIGTERM unless it handles it; torchrun does only once it has workers."""
    sys.exit(128 + signum)


def exit_code_of(worker: int) -> int:
    """The exit code to pass on for a worker's own, which is negative for a signal."""
    return 128 - worker if worker < 0 else worker or 1


def describe(error: dict[str, object], *, rank: int, exit_code: int) -> str:
    """The termination message for an error file's contents; the end of the traceback stays when it is cut."""
    message = error.get("message", "")
    callstack = ""
    if isinstance(message, dict):
        callstack = str(message.get("extraInfo", {}).get("py_callstack", "")).strip()
        message = message.get("message", "")
    text = f"rank {rank} failed with exit code {exit_code}: {message}"
    room = progress.TERMINATION_MESSAGE_BYTES - len(text.encode()) - 16
    if not callstack or room < 100:
        return text
    tail = callstack.encode()[-room:].decode(errors="ignore")
    return f"{text}\n{'' if tail == callstack else '...'}{tail}"


def main(args: list[str] | None = None) -> int:
    """Run torchrun with these arguments and return the exit code."""
    signal.signal(signal.SIGTERM, _stopped_early)
    atexit.register(gc.freeze)  # half a second less at the end
    run_dir = environment.Environment.read().run_dir
    if run_dir is not None and run_dir.is_dir() and os.access(run_dir, os.W_OK):
        os.environ.setdefault("TORCHELASTIC_ERROR_FILE", str(run_dir / "error.json"))
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    try:
        torchrun.main(args)
    except SignalException as stopped:
        return 128 + int(stopped.sigval)
    except ChildFailedError as failed:
        print(failed, file=sys.stderr)
        rank, failure = failed.get_first_failure()
        code = exit_code_of(failure.exitcode)
        try:
            with open(failure.error_file) as file:
                error = json.load(file)
        except (OSError, ValueError):
            return code
        progress.write_termination_message(describe(error, rank=rank, exit_code=code))
        return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
