# The development cluster; docs/cluster.md says what it consists of.
KWOK_NODES ?= 0

cluster: ## a kind cluster with mocked GPUs (KWOK_NODES=200 adds fake nodes)
	@KWOK_NODES=$(KWOK_NODES) cluster/up.sh

cluster-down: ## delete the cluster, and stop the Docker engine if it is our own
	@cluster/down.sh

images: ## build the operator's and the trainer's image, and load what has changed into the cluster
	@cluster/images.sh

cluster-tools: ## helm and the API server as programs, for tests that need no cluster
	@cluster/tools.sh helm kubeall

.PHONY: cluster cluster-down cluster-tools images
