"""``python -m stowplan_allocator.simulate``: the simulator without a cluster and without kubectl."""

from stowplan_allocator.simulate.command_line import main

main()
