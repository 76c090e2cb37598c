"""``kubectl stowplan``: what a user asks of TrainingJobs, in words and with exit codes that scripts can use.

Commands about jobs read what the operator wrote into status and nothing else: no allocator, no kopf, no solver is
imported, and ``--help`` imports no Kubernetes client either. Questions (``questions``, ``answering``) get the
operator's snapshot and plan here, with the allocator. ``simulate`` is the allocator's own command, which asks no
cluster. Whatever status lacks (a job may be seconds old) is said to be unknown and never ends in a traceback.
"""

from stowplan_operator.cli.command_line import main

__all__ = ["main"]
