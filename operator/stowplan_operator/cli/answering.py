"""What the commands on the operator's snapshot do: ask, plan, print; the exit code is the answer."""

from __future__ import annotations

import sys

from stowplan_operator import observation
from stowplan_operator.cli.asking import Asker
from stowplan_operator.cli.exits import Exit


async def print_snapshot(asker: Asker) -> Exit:
    """The document, one line of JSON."""
    sys.stdout.write(observation.write(await asker.ask()))
    return Exit.YES
