"""``kubectl stowplan``: what a user asks of TrainingJobs, in words and with exit codes that scripts can use.

It reads what the operator wrote into status and nothing else: no allocator, no kopf, no solver is
imported, and ``--help`` imports no Kubernetes client either. Only ``simulate`` is the allocator's own command,
which asks no cluster. Whatever status lacks (a job may be
seconds old) is said to be unknown and never ends in a traceback.
"""

from stowplan_operator.cli.command_line import main

__all__ = ["main"]
