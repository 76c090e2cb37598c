"""The operator's process as the fork server starts it: everything is imported, nothing has happened yet.

Importing takes a second of CPU, and so does the start of the planner's worker: together most of each of thousands of
restarts. The fork server has imported the modules and done nothing else, so a child begins where
`python -m stowplan_operator` begins after its imports; and it plans in a thread instead of in the worker, which has
tests of its own.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pathlib
import sys
from collections.abc import Mapping
from multiprocessing import forkserver

from kubernetes.aio.config import kube_config

from faults import variants
from stowplan_allocator import exact, types  # noqa: F401 - what the first plan would import
from stowplan_allocator.planner import plan
from stowplan_operator import __main__, app

_FORKS = multiprocessing.get_context("forkserver")


def start(environ: Mapping[str, str], log: pathlib.Path, variant: str) -> multiprocessing.process.BaseProcess:
    """A new operator process, of the operator as it is or of a variant of it."""
    _ensure_fork_server()
    started = _FORKS.Process(target=_run, args=(environ, str(log), variant))
    started.start()
    return started


def _ensure_fork_server() -> None:
    """Python 3.13's fork server looks for the modules to import on the environment's path alone."""
    _FORKS.set_forkserver_preload([__name__])
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    try:
        forkserver.ensure_running()
    finally:
        os.environ.pop("PYTHONPATH")
        if before is not None:
            os.environ["PYTHONPATH"] = before


class _Solver:
    """`PlannerWorker` without its process."""

    async def plan(self, snapshot: types.Snapshot, settings: types.Settings) -> types.Plan:
        return await asyncio.to_thread(plan, snapshot, settings)

    def close(self) -> None:
        pass


def _run(environ: Mapping[str, str], log: str, variant: str) -> None:
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.close(file)
    os.environ.update(environ)
    kube_config.KUBE_CONFIG_DEFAULT_LOCATION = environ["KUBECONFIG"]  # it was read when the module was imported
    app.PlannerWorker = _Solver
    if variant:
        variants.apply(variant)
    sys.exit(__main__.main())
