"""A k-sparse autoencoder: at most k active latents, a linear write-back, exact gradients, and a stored shape."""

import pytest
import torch
import torch.nn.functional as F

from audit.dissect.sae import SaeShape, SparseAutoencoder

SHAPE = SaeShape(d_in=8, n_latents=40, k=3, hookpoint="mid_block")


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def sae(generator):
    made = SparseAutoencoder(SHAPE, generator)
    made.fit_inputs(5 * torch.randn(500, 8, generator=generator) + 1)
    return made.requires_grad_(False)


@pytest.fixture
def maps(generator):
    return 5 * torch.randn(2, 8, 4, 3, generator=generator) + 1


def test_encoder_and_decoder_start_with_the_same_unit_norm_dictionary(sae):
    assert torch.equal(sae.encoder, sae.decoder)
    torch.testing.assert_close(sae.decoder.norm(dim=1), torch.ones(40))


def test_inputs_are_scaled_to_mean_norm_sqrt_d(generator):
    sample = 7 * torch.randn(300, 8, generator=generator)
    sae = SparseAutoencoder(SHAPE, generator)
    sae.fit_inputs(sample)
    torch.testing.assert_close(sae.normalise(sample).norm(dim=1).mean().item(), 8**0.5)
    torch.testing.assert_close(sae.pre_bias.detach(), sae.normalise(sample).mean(0))


def test_at_most_k_latents_are_active_and_they_are_the_largest(sae, maps):
    x = sae.vectors_of_map(maps)
    latents = sae.encode(x)
    full = F.relu(F.linear(sae.normalise(x) - sae.pre_bias, sae.encoder, sae.encoder_bias))
    assert ((latents > 0).sum(-1) <= 3).all()
    torch.testing.assert_close(latents, torch.where(full >= full.topk(3).values[..., -1:], full, 0))


def test_sparse_and_dense_decoding_agree(sae, maps):
    x = sae.vectors_of_map(maps)
    torch.testing.assert_close(sae.decode_sparse(sae.encode_sparse(x)), sae.decode(sae.encode(x)))


def test_gradients_equal_those_of_a_dense_topk(generator):
    sae = SparseAutoencoder(SHAPE, generator)
    x, goal = torch.randn(2, 50, 8, generator=generator).unbind()

    def dense_decode():
        full = F.linear(sae.normalise(x) - sae.pre_bias, sae.encoder, sae.encoder_bias)
        values, indices = full.topk(3, dim=-1)
        return sae.decode(torch.zeros_like(full).scatter(1, indices, F.relu(values)))

    def gradients(decoded):
        return torch.autograd.grad((decoded - goal).square().sum(), list(sae.parameters()))

    ours, oracle = gradients(sae.decode_sparse(sae.encode_sparse(x))), gradients(dense_decode())
    for mine, true in zip(ours, oracle, strict=True):
        torch.testing.assert_close(mine, true)


def test_map_delta_is_the_change_of_the_decoded_map(sae, maps):
    latents = sae.latents_of_map(maps)
    edited = latents.clone()
    edited[..., 7] += 2
    expected = (sae.decode(edited) - sae.decode(latents)).transpose(1, 2).reshape(maps.shape)
    torch.testing.assert_close(sae.map_delta(edited - latents, maps.shape), expected, atol=1e-5, rtol=1e-4)


def test_null_edit_changes_nothing(sae, maps):
    delta = sae.map_delta(torch.zeros_like(sae.latents_of_map(maps)), maps.shape)
    assert torch.equal(delta, torch.zeros_like(maps))
    assert torch.equal(maps + delta, maps)


def test_whole_map_has_one_code_for_all_positions(generator):
    sae = SparseAutoencoder(SaeShape(8 * 12, 50, 4, whole_map=True), generator).requires_grad_(False)
    maps = torch.randn(2, 8, 4, 3, generator=generator)
    latents = sae.latents_of_map(maps)
    assert latents.shape == (2, 1, 50)
    assert torch.equal(latents[:, 0], sae.encode(maps.flatten(1)))
    delta = torch.zeros_like(latents)
    delta[1, 0, 5] = 2
    expected = torch.stack((torch.zeros(8, 4, 3), 2 * sae.decoder[5].reshape(8, 4, 3)))
    torch.testing.assert_close(sae.map_delta(delta, maps.shape), expected)


def test_half_precision_maps_are_encoded_in_the_autoencoders_precision(sae, maps):
    assert sae.latents_of_map(maps.half()).dtype == torch.float32


def test_a_saved_autoencoder_can_be_loaded(sae, maps, tmp_path):
    sae.save(tmp_path)
    loaded = SparseAutoencoder.load(tmp_path)
    assert loaded.shape == SHAPE
    assert torch.equal(loaded.latents_of_map(maps), sae.latents_of_map(maps))


def test_half_precision_file_keeps_the_reconstruction(sae, maps, tmp_path):
    sae.save(tmp_path, torch.float16)
    loaded = SparseAutoencoder.load(tmp_path).requires_grad_(False)
    assert torch.equal(loaded.input_scale, sae.input_scale)
    latents = sae.latents_of_map(maps)
    torch.testing.assert_close(loaded.decode(latents), sae.decode(latents), atol=2e-2, rtol=1e-2)


def test_weights_and_shape_of_different_lenses_are_refused(sae, generator, tmp_path):
    sae.save(tmp_path / "a")
    SparseAutoencoder(SaeShape(8, 24, 3), generator).save(tmp_path / "b")
    (tmp_path / "b" / "sae.safetensors").replace(tmp_path / "a" / "sae.safetensors")
    with pytest.raises(ValueError, match="build the lens again"):
        SparseAutoencoder.load(tmp_path / "a")


def test_maps_of_another_model_are_refused(sae):
    with pytest.raises(ValueError, match="width 8, found 9"):
        sae.latents_of_map(torch.zeros(1, 9, 2, 2))


@pytest.mark.parametrize("k", [0, 41])
def test_impossible_shapes_are_refused(k):
    with pytest.raises(ValueError, match="k <= n_latents"):
        SaeShape(8, 40, k)
