"""The operator: watches TrainingJobs, plans with stowplan_allocator, runs gangs of torchrun pods."""
