"""The planner and the pure modules load without kopf and without a client, and the pure ones without any I/O."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

PROBE = """
import importlib, json, sys
importlib.import_module(sys.argv[1])
print(json.dumps(sorted(name for name in sys.modules if name.partition(".")[0] in sys.argv[2:])))
"""

FORBIDDEN = {
    "stowplan_operator.planner": ["kopf", "click", "rich", "pulp", "highspy"],
    "stowplan_operator.lifecycle": ["kopf", "aiohttp", "asyncio", "prometheus_client", "pulp"],
    "stowplan_operator.podspec": ["kopf", "aiohttp", "asyncio", "prometheus_client", "pulp"],
    "stowplan_operator.api": ["kopf", "aiohttp", "kubernetes", "asyncio", "stowplan_allocator"],
}


@pytest.mark.parametrize(("module", "forbidden"), FORBIDDEN.items())
def test_what_a_module_loads(module: str, forbidden: list[str]) -> None:
    probe = [sys.executable, "-c", PROBE, module, *forbidden]
    loaded = json.loads(subprocess.run(probe, capture_output=True, text=True, check=True, timeout=60).stdout)
    assert loaded == []
