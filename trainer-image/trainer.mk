# The trainer's own environment: torch for CPU, made once per set of inputs and kept in the user's cache folder.
.PHONY: venv-trainer test-trainer lint-trainer trainer-lock
TRAINER_PY := .venv-trainer/bin/python

venv-trainer: ## the trainer's environment (torch without a GPU), linked as .venv-trainer
	@trainer-image/venv.sh

test-trainer: venv-trainer ## the trainer's tests: real torchrun on loopback (TRAINER_TESTS=slow for the long ones)
	@mkdir -p $(RESULTS)
	TMPDIR=$$([ -w /dev/shm ] && echo /dev/shm || echo $${TMPDIR:-/tmp}) $(TRAINER_PY) -m pytest \
	  -c trainer-image/pytest.ini --rootdir . -q -m "$(or $(TRAINER_TESTS),not slow)" \
	  --junitxml=$(RESULTS)/trainer.xml tests/unit/trainer

lint-trainer: venv venv-trainer ## mypy --strict for the trainer, with torch's own types
	$(VENV)/bin/mypy --python-executable $(TRAINER_PY) -p stowplan_trainer

trainer-lock: ## compile the trainer's hashed requirement files anew
	trainer-image/lock.sh
