"""Training takes Adam's steps, and an interrupted one takes the same steps as one without a break."""

import pytest
import torch

from audit.mitigate.training import Schedule, StoredCheckpoint, gradients_of, optimise, tenths
from audit.planning.fits import LOSSES
from audit.storage.files import storage_of

RATE = 0.05
STATE = "training.safetensors"


def parameters():
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(3, 2, generator=generator).requires_grad_() for name in ("a", "b")}


def loss_of(values, step):
    noise = torch.randn(3, 2, generator=torch.Generator().manual_seed(step))
    return (values["a"] - noise).square().sum() + (values["a"] * values["b"]).square().sum()


@pytest.fixture
def checkpoint(tmp_path):
    return StoredCheckpoint(storage_of(tmp_path), STATE)


def trained(values, steps, checkpoint, stop=None):
    def step_of(step):
        if step == stop:
            raise KeyboardInterrupt
        return gradients_of(loss_of(values, step), values)

    return optimise(values, step_of, Schedule("test", steps, RATE, save_every=5), checkpoint)


def test_steps_are_those_of_torchs_adam(checkpoint):
    ours, theirs = parameters(), parameters()
    optimizer = torch.optim.Adam(theirs.values(), lr=RATE)
    losses = []
    for step in range(20):
        optimizer.zero_grad()
        loss = loss_of(theirs, step)
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert trained(ours, 20, checkpoint) == pytest.approx(losses, rel=1e-5)
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name])


def test_an_interrupted_training_ends_bit_for_bit_like_one_without_a_break(checkpoint, tmp_path):
    whole, resumed = parameters(), parameters()
    losses = trained(whole, 20, StoredCheckpoint(storage_of(tmp_path / "whole"), STATE))
    with pytest.raises(KeyboardInterrupt):
        trained(resumed, 20, checkpoint, stop=13)
    resumed = parameters()
    assert trained(resumed, 20, checkpoint) == losses
    assert len(checkpoint.read()[LOSSES]) == 20
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())


def test_half_a_checkpoint_starts_again(checkpoint, tmp_path):
    trained(parameters(), 20, checkpoint)
    file = tmp_path / STATE
    file.write_bytes(file.read_bytes()[:100])
    assert checkpoint.read() == {}
    assert len(trained(parameters(), 20, checkpoint)) == 20


def test_a_checkpoint_of_other_parameters_is_not_used(checkpoint):
    trained(parameters(), 20, checkpoint)
    other = {"a": torch.zeros(4, 4, requires_grad=True)}
    losses = optimise(other, lambda _step: gradients_of(other["a"].sum(), other), Schedule("test", 2, RATE), checkpoint)
    assert len(losses) == 2


def test_a_loss_that_is_not_finite_ends_the_training_in_words(checkpoint):
    values = parameters()
    with pytest.raises(ValueError, match=r"expected a finite loss in step 1 of 3, found nan; set a smaller learning"):
        optimise(
            values,
            lambda _step: (float("nan"), tuple(torch.zeros_like(value) for value in values.values())),
            Schedule("test", 3, RATE),
            checkpoint,
        )


def test_a_card_states_the_first_and_the_last_tenth():
    assert tenths(tuple(map(float, range(30)))) == {"first_loss": 1.0, "last_loss": 28.0}
