#!/usr/bin/env python3
"""How much a checkpoint costs a training run: the time that save() blocks, and how much slower the steps beside it are.

usage: .venv-trainer/bin/python benchmarks/checkpoint_stall.py [--json FILE]

One process trains a transformer with AdamW on the CPU. Rounds of `checkpoint_every_steps` steps (the trainer's default)
that begin with a save alternate with rounds that save nothing, in one run, so that both see the same machine; the save
is written beside the steps of its round. Reported, as medians over the pairs of rounds with their range:

- blocked: the seconds inside save(), as a share of the step time of the round: what the issue calls the stall;
- slowdown: how much longer the steps of a round take while its save is written, the blocked seconds included.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import sys
import tempfile
import time

import torch
from torch import nn

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "trainer-image"))

from stowplan_trainer import checkpoint, loop


class Model(nn.Module):
    """A small language model: enough weights to be worth saving, enough work per step to be real."""

    def __init__(self, *, width: int, layers: int, vocabulary: int = 8192):
        """About 12 · layers · width² + vocabulary · width weights."""
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        layer = nn.TransformerEncoderLayer(width, 8, 4 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits for each next token."""
        logits: torch.Tensor = self.head(self.blocks(self.embedding(tokens)))
        return logits


def main() -> None:
    """Run, print a table, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=4, help="rounds with a save, and as many without")
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--batch", type=int, default=4, help="sequences of 64 tokens per step")
    parser.add_argument("--folder", type=pathlib.Path, help="where the checkpoints go (a temporary folder otherwise)")
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    every = loop.Settings.checkpoint_every_steps

    torch.manual_seed(0)
    model = Model(width=args.width, layers=args.layers)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    tokens = torch.randint(0, 8192, (args.batch, 65))

    def steps(count: int) -> float:
        started = time.perf_counter()
        for _ in range(count):
            optimizer.zero_grad(set_to_none=True)
            logits = model(tokens[:, :-1])
            nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()
            optimizer.step()
        return time.perf_counter() - started

    folder = pathlib.Path(tempfile.mkdtemp(dir=args.folder))
    written: list[float] = []
    blocked, plain, beside = [], [], []
    try:
        checkpoints = checkpoint.Checkpointer(
            {"model": model, "optimizer": optimizer},
            folder=folder,
            on_commit=lambda step, unix_seconds, seconds: written.append(seconds or 0.0),
        )
        steps(3)
        for pair in range(args.pairs + 1):
            plain.append(steps(every))
            started = time.perf_counter()
            checkpoints.save(pair + 1)
            blocked.append(time.perf_counter() - started)
            beside.append(steps(every))
            checkpoints.wait()
        size = sum(file.stat().st_size for file in next(folder.glob("step-*")).iterdir())
    finally:
        shutil.rmtree(folder)
    first = blocked[0]  # plans and takes its buffers; not counted below
    blocked, plain, beside, written = blocked[1:], plain[1:], beside[1:], written[1:]

    def spread(values: list[float]) -> dict[str, float]:
        return {"median": statistics.median(values), "least": min(values), "most": max(values)}

    result = {
        "checkpoint_every_steps": every,
        "pairs": args.pairs,
        "cpus": os.cpu_count(),
        "load": os.getloadavg()[0],
        "checkpoint_mb": size / 1e6,
        "step_seconds": spread([seconds / every for seconds in plain]),
        "blocked_seconds": {**spread(blocked), "first_save": first},
        "save_seconds": spread(written),
        "blocked_percent": spread([100 * b / p for b, p in zip(blocked, plain, strict=True)]),
        "slowdown_percent": spread([100 * (b + s - p) / p for b, s, p in zip(blocked, beside, plain, strict=True)]),
    }
    for name, value in result.items():
        text = {k: round(v, 4) for k, v in value.items()} if isinstance(value, dict) else value
        print(f"{name:24} {text}")
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    sys.exit(result["blocked_percent"]["median"] >= 2.0)


if __name__ == "__main__":
    main()
