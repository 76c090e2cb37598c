"""``python -m stowplan_operator``: run the operator, in the cluster or against any kubeconfig."""

from __future__ import annotations

import asyncio
import logging
import os
import sys

from stowplan_operator import app


def main() -> int:
    """0 after a signal, 1 when a part failed, 2 when the settings are wrong."""
    logging.basicConfig(
        level=os.environ.get("STOWPLAN_LOG_LEVEL", "INFO").upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    try:
        asyncio.run(app.main())
    except ValueError as error:
        print(f"stowplan-operator: {error}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        logging.getLogger("stowplan").error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
