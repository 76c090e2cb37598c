"""Examples that run in the image as they are: `torchrun -m stowplan_trainer.examples.NAME`."""
