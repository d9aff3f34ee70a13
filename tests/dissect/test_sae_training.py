"""Training finds a planted dictionary, revives dead latents, and reports its quality on held-out trajectories."""

import copy
import dataclasses

import pytest
import torch
import torch.nn.functional as F

from audit.dissect.sae import SaeShape, SparseAutoencoder
from audit.dissect.sae_training import (
    ActivationBatch,
    SaeCheckpoint,
    SaeTraining,
    ShuffleBuffer,
    learning_rate_factor,
    measure_sae,
    train_sae,
)
from tests.pretended_gpu import pretended_gpu

STEPS, POSITIONS, WIDTH, PLANTED, ACTIVE = 3, 8, 16, 24, 2
SETTINGS = SaeTraining(steps=400, batch=256, k=ACTIVE, expansion=2, learning_rate=5e-3, buffer=4096, held_out_every=5)


def planted_dictionary(planted=PLANTED, width=WIDTH):
    return F.normalize(torch.randn(planted, width, generator=torch.Generator().manual_seed(7)), dim=1)


def planted_stream(trajectories, dictionary=None, active=ACTIVE, per_batch=10):
    """Return sums of a few planted directions."""
    generator = torch.Generator().manual_seed(0)
    dictionary = planted_dictionary() if dictionary is None else dictionary
    for first in range(0, trajectories, per_batch):
        rows = per_batch * STEPS * POSITIONS
        chosen = torch.rand(rows, len(dictionary), generator=generator).topk(active).indices
        amounts = 1 + torch.rand(rows, active, generator=generator)
        steps = torch.arange(STEPS).repeat_interleave(POSITIONS).repeat(per_batch)
        vectors = (dictionary[chosen] * amounts[..., None]).sum(1) * 10
        trajectory = first + torch.arange(per_batch).repeat_interleave(STEPS * POSITIONS)
        yield ActivationBatch(vectors, steps, trajectory)


@pytest.fixture(scope="module")
def trained():
    return train_sae(planted_stream(200), SETTINGS, torch.Generator().manual_seed(0))


def test_recovers_a_planted_dictionary(trained):
    sae, quality = trained
    cosines = planted_dictionary() @ sae.decoder.T
    assert cosines.max(1).values.mean() > 0.95
    assert len(quality.unexplained_variance) == STEPS
    assert max(quality.unexplained_variance) < 0.05


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_recovers_it_too_from_a_stream_on_the_cpu(trained):
    sae, quality = train_sae(planted_stream(200), SETTINGS, torch.Generator().manual_seed(0), device="cuda")
    assert sae.decoder.device.type == "cuda"
    assert (planted_dictionary() @ sae.decoder.cpu().T).max(1).values.mean() > 0.95
    assert quality.unexplained_variance == pytest.approx(trained[1].unexplained_variance, abs=0.01)


def test_an_autoencoder_on_a_gpu_is_measured_from_a_stream_on_the_cpu(trained):
    batch = next(planted_stream(20))
    with pretended_gpu():
        found = measure_sae(copy.deepcopy(trained[0]).to("cuda"), batch)
    assert found == measure_sae(trained[0], batch)


def test_quality_uses_the_held_out_vectors(trained):
    sae, quality = trained
    assert quality.held_out == 200 // 5 * STEPS * POSITIONS
    assert quality.latents == sae.shape.n_latents == 2 * WIDTH
    assert 0 <= quality.decoder_cosine_mean <= quality.decoder_cosine_max <= 1


def test_dictionary_stays_unit_norm(trained):
    torch.testing.assert_close(trained[0].decoder.norm(dim=1), torch.ones(2 * WIDTH))


def test_same_seed_gives_the_same_weights():
    short = dataclasses.replace(SETTINGS, steps=20)
    first, second = (train_sae(planted_stream(50), short, torch.Generator().manual_seed(3))[0] for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_auxk_revives_dead_latents():
    """A learning rate that is much too high makes useful latents inactive."""
    settings = dataclasses.replace(
        SETTINGS, batch=512, k=3, expansion=4, learning_rate=2e-2, dead_after=20, buffer=40_000
    )
    dictionary = planted_dictionary(128, 32)
    with_auxk, without = (
        train_sae(
            planted_stream(400, dictionary, 3),
            dataclasses.replace(settings, auxk_alpha=alpha),
            torch.Generator().manual_seed(0),
        )[1].dead_latents
        for alpha in (1 / 32, 0.0)
    )
    assert without >= 8
    assert with_auxk < without / 2


def test_unexplained_variance_follows_its_definition():
    sae = SparseAutoencoder(SaeShape(4, 8, 2), torch.Generator().manual_seed(0)).requires_grad_(False)
    x = torch.randn(40, 4, generator=torch.Generator().manual_seed(1))
    steps = torch.arange(40) % 2
    quality = measure_sae(sae, ActivationBatch(x, steps, torch.zeros(40, dtype=torch.long)), chunk=7)
    for step, value in enumerate(quality.unexplained_variance):
        own = x[steps == step]
        error = (own - sae.decode(sae.encode(own))).square().sum()
        assert value == pytest.approx((error / (own - own.mean(0)).square().sum()).item(), rel=1e-5)


def test_held_out_trajectories_are_never_drawn():
    seen = []

    def spoiled():
        """Held-out trajectories are NaN, so the loss would be NaN if one were used for training."""
        for batch in planted_stream(50):
            vectors = torch.where((batch.trajectories % 5 == 0)[:, None], torch.nan, batch.vectors)
            yield dataclasses.replace(batch, vectors=vectors)

    short = dataclasses.replace(SETTINGS, steps=5)
    train_sae(spoiled(), short, torch.Generator().manual_seed(0), lambda _, loss: seen.append(loss))
    assert len(seen) == 5
    assert all(loss == loss for loss in seen)


def test_the_buffer_has_a_limit_and_is_refreshed():
    buffer = ShuffleBuffer(SaeTraining(buffer=100), torch.Generator().manual_seed(0))
    source = planted_stream(20)
    buffer.fill(source)
    assert len(buffer.held) == 100
    before = buffer.held.vectors.clone()
    buffer.refresh(source, 1)
    replaced = (buffer.held.vectors != before).any(1).sum()
    assert len(buffer.held) == 100
    assert replaced > 50
    assert len(buffer.draw(300)) == 300


def test_a_stream_is_read_only_as_far_as_needed():
    read = []

    def endless():
        for number, batch in enumerate(planted_stream(10**9)):
            read.append(number)
            yield batch

    small = dataclasses.replace(SETTINGS, steps=10, buffer=500, reuse=8)
    train_sae(endless(), small, torch.Generator().manual_seed(0))
    assert len(read) < 20


def test_the_learning_rate_warms_up_and_decays_to_zero():
    factors = [learning_rate_factor(step, 100) for step in range(101)]
    assert factors[0] == pytest.approx(0.2)
    assert factors[50] == 1
    assert factors[100] == 0


def test_an_empty_stream_is_refused():
    with pytest.raises(ValueError, match="empty stream"):
        train_sae(iter(()), SETTINGS, torch.Generator())


def test_a_stream_without_held_out_trajectories_is_refused():
    def one_trajectory():
        for batch in planted_stream(10):
            yield dataclasses.replace(batch, trajectories=torch.ones_like(batch.trajectories))

    with pytest.raises(ValueError, match="held out"):
        train_sae(one_trajectory(), dataclasses.replace(SETTINGS, steps=1), torch.Generator())


def test_a_stream_that_lacks_a_step_is_refused():
    def gap():
        for batch in planted_stream(10):
            yield batch[batch.steps != 1]

    with pytest.raises(ValueError, match=r"steps \[1\]"):
        train_sae(gap(), SETTINGS, torch.Generator())


class Killed(Exception):
    pass


@pytest.mark.parametrize(("truncated", "kind"), [(False, "top_k"), (True, "top_k"), (False, "batch_top_k")])
def test_a_training_that_was_killed_continues_with_the_same_weights(tmp_path, truncated, kind):
    settings = dataclasses.replace(SETTINGS, steps=30, buffer=500, dead_after=5, dictionary=kind)
    path = tmp_path / "state.safetensors"

    def train(progress=None):
        draws, checkpoint = torch.Generator().manual_seed(3), SaeCheckpoint(path, seconds=0)
        return train_sae(planted_stream(100), settings, draws, progress, checkpoint=checkpoint)

    def die(step, _loss):
        if step == 17:
            raise Killed

    whole = train_sae(planted_stream(100), settings, torch.Generator().manual_seed(3))
    with pytest.raises(Killed):
        train(die)
    if truncated:
        path.write_bytes(path.read_bytes()[:-100])
    steps = []
    sae, quality = train(lambda step, _loss: steps.append(step))
    assert steps == list(range(1 if truncated else 17, 31))
    state, expected = sae.state_dict(), whole[0].state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in state)
    assert quality == whole[1]
