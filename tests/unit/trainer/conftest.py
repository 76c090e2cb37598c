"""What needs torch runs in the trainer's own environment (make test-trainer); the rest runs everywhere."""

import importlib.util
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))  # for the helpers that lie here

collect_ignore = (
    ["test_checkpoint.py", "test_data.py", "test_loop.py", "test_sharded.py", "test_torchrun.py", "test_tree.py"]
    if importlib.util.find_spec("torch") is None
    else []
)
