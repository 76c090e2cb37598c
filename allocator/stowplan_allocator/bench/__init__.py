"""Benchmarks of the allocator that anyone can run on other data: ``python -m stowplan_allocator.bench``.

What must stay true: a figure comes out of a run and is never typed in; inputs and seeds
stand beside every result, so that the same command gives the same figures again.
"""
