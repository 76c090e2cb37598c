"""What runs in a training pod: a DDP loop, checkpoints that cannot lie, and progress that an operator can read.

Every part works alone, from any script that torchrun starts:
- `stowplan_trainer.progress`    serves the stowplan_train_* metrics (standard library only);
- `stowplan_trainer.checkpoint`  saves in the background, replicated or sharded, and resumes, with a commit protocol;
- `stowplan_trainer.stop`        turns SIGTERM into a stop on which all ranks agree;
- `stowplan_trainer.loop`        puts them together in a training loop;
- `stowplan_trainer.run`         is torchrun that leaves the cause of a failure in the pod's status.

It imports torch and the standard library, nothing of the operator, and holds no credentials.
"""
