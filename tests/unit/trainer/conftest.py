"""What needs torch runs in the trainer's own environment (make test-trainer); the rest runs everywhere."""

import importlib.util
import pathlib
import sys

HERE = pathlib.Path(__file__).parent
NEED_TORCH = ("checkpoint", "data", "loop", "sharded", "torchrun", "tree", "trials")
sys.path.insert(0, str(HERE))  # for the helpers that lie here
collect_ignore = [] if importlib.util.find_spec("torch") else [f"test_{name}.py" for name in NEED_TORCH]
