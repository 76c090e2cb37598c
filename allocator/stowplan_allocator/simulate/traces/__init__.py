"""Loaders of public traces, one module each: its rows as they are published, and what they mean to the simulator.

What must stay true: each trace has one loader, which benchmarks use as well; a row is never dropped in silence.
"""
