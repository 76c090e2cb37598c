"""Which samples a step trains depends on seed and step alone."""

import pytest

from stowplan_trainer import data


def sampler(**changes):
    return data.StepSampler(50, **{"global_batch": 12, "total_steps": 12, "seed": 5, **changes})


@pytest.mark.parametrize("world_size", [1, 2, 3, 5, 12])
def test_all_ranks_together_train_the_same_global_batch_however_many_they_are(world_size):
    want = [sorted(batch) for batch in sampler()]
    shares = [list(sampler(rank=rank, world_size=world_size)) for rank in range(world_size)]
    for step, batch in enumerate(want):
        assert sorted(index for share in shares for index in share[step]) == batch
        assert max(len(share[step]) for share in shares) - min(len(share[step]) for share in shares) <= 1


@pytest.mark.parametrize("start", range(13))
def test_a_run_that_resumes_at_any_step_sees_what_the_undisturbed_one_sees(start):
    assert list(sampler(start_step=start, rank=1, world_size=2)) == list(sampler(rank=1, world_size=2))[start:]
    assert len(sampler(start_step=start)) == 12 - start


def test_an_epoch_repeats_no_sample_and_epochs_differ():
    batches = list(sampler())
    epochs = [[index for batch in batches[i : i + 4] for index in batch] for i in (0, 4, 8)]
    for epoch in epochs:
        assert len(set(epoch)) == 48
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_another_seed_gives_another_order():
    assert list(sampler(seed=5)) == list(sampler(seed=5)) != list(sampler(seed=6))


@pytest.mark.parametrize(
    ("changes", "want"),
    [
        pytest.param({"global_batch": 51}, "global_batch 51 is more than the data set's 50 samples", id="too large"),
        pytest.param({"world_size": 13}, "global_batch 12 leaves some of 13 ranks without samples", id="too small"),
    ],
)
def test_a_batch_that_cannot_be_is_refused(changes, want):
    with pytest.raises(ValueError, match=want):
        sampler(**changes)


def test_the_state_tells_where_the_run_is():
    assert sampler().state_dict(9) == {"length": 50, "global_batch": 12, "seed": 5, "epoch": 2, "offset": 1}
