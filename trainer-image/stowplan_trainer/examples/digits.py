"""Handwritten digits on any number of ranks: a small CNN, Adam, and a held-out accuracy that must be reached.

The data are scikit-learn's 1,797 images of 8 by 8 pixels, of which a fifth is held out. The samples of each step depend
on the seed alone. On as many ranks the result does, too, interrupted and resumed or not; on another number of ranks
dropout is drawn anew, for each rank draws its own.
"""

import argparse

import torch
from sklearn.datasets import load_digits  # type: ignore[import-untyped]  # it has no types
from torch import nn
from torch.distributed.elastic.multiprocessing.errors import record
from torch.utils.data import TensorDataset

from stowplan_trainer import loop


def data_sets(seed: int) -> tuple[TensorDataset, TensorDataset]:
    """Train and test images, split by the seed."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(digits.target)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    test, train = order[: len(order) // 5], order[len(order) // 5 :]
    return TensorDataset(images[train], labels[train]), TensorDataset(images[test], labels[test])


def small_cnn() -> nn.Module:
    """About 40,000 weights, with dropout so that the random state matters."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(512, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


@record
def main() -> None:
    """Train, evaluate, and fail where the accuracy is too low."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--global-batch", type=int, default=32, help="samples per step over all ranks")
    parser.add_argument("--checkpoint-every", type=int, default=20, metavar="STEPS")
    parser.add_argument("--step-seconds", type=float, default=0.0, help="make each step last at least this long")
    parser.add_argument("--min-accuracy", type=float, default=0.95)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with loop.session() as session:
        torch.manual_seed(args.seed)
        train_set, test_set = data_sets(args.seed)
        trainer = loop.Trainer(
            small_cnn(),
            optimizer=lambda weights: torch.optim.Adam(weights, lr=5e-3),
            loss=nn.functional.cross_entropy,
            train_set=train_set,
            test_set=test_set,
            settings=loop.Settings(
                epochs=args.epochs,
                global_batch=args.global_batch,
                seed=args.seed,
                checkpoint_every_steps=args.checkpoint_every,
                step_seconds=args.step_seconds,
            ),
            session=session,
        )
        trainer.run()
    if trainer.accuracy < args.min_accuracy:
        raise RuntimeError(f"held-out accuracy {trainer.accuracy:.4f} is below --min-accuracy {args.min_accuracy}")


if __name__ == "__main__":
    main()
