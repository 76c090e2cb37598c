"""Test doubles: builders of Kubernetes objects, an API server in memory, and the cluster's other machinery."""
