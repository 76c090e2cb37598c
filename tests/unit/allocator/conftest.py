"""Random snapshots are the same in every run; HYPOTHESIS_EXPLORE=1 looks at new ones."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("reproducible", derandomize=True, database=None)
if not os.environ.get("HYPOTHESIS_EXPLORE"):
    settings.load_profile("reproducible")
