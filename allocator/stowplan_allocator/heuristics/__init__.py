"""Strategies beside proof and greed: each in a module of its own, behind ``strategies.solve``.

What must stay true: every one of them keeps all hard constraints, never places a job on
room that one before it in the queue could have had, and claims no proof that it has not.
"""
