"""The kinds of dictionaries: BatchTopK spends latents where a vector needs them, Matryoshka nests dictionaries."""

import dataclasses
import json

import pytest
import torch

from audit.config.settings import AuditConfig
from audit.config.slices import DissectionRequest
from audit.dissect.sae import SHAPE_FILE, SaeShape, SparseAutoencoder
from audit.dissect.sae_training import ActivationBatch, first_latents, nested_prefixes, train_sae
from audit.dissect.settings import lens_settings
from tests.dissect.test_sae_training import SETTINGS, WIDTH, planted_dictionary, planted_stream

MEAN = 3
"""Mean number of planted directions in a vector of the uneven stream: one in half of them, five in the others."""


def uneven_stream(trajectories):
    for one, many in zip(planted_stream(trajectories, active=1), planted_stream(trajectories, active=5), strict=True):
        odd = torch.arange(len(one)) % 2 == 1
        yield ActivationBatch(torch.where(odd[:, None], many.vectors, one.vectors), one.steps, one.trajectories)


def trained(kind, stream, **changes):
    settings = dataclasses.replace(SETTINGS, dictionary=kind, **changes)
    return train_sae(stream, settings, torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def batch_top_k():
    return trained("batch_top_k", uneven_stream(200), k=MEAN)


def test_latents_go_where_a_vector_needs_them(batch_top_k):
    _, plain = trained("top_k", uneven_stream(200), k=MEAN)
    sae, quality = batch_top_k
    assert max(quality.unexplained_variance) < 0.8 * max(plain.unexplained_variance)
    codes = sae.encode_sparse(next(iter(uneven_stream(10))).vectors)
    active = (codes.values > 0).sum(1).float()
    assert active.mean() == pytest.approx(MEAN, rel=0.25)
    assert active[1::2].mean() > 2 * active[::2].mean()


def test_the_code_of_a_vector_does_not_depend_on_its_batch(batch_top_k):
    sae, _ = batch_top_k
    vectors = next(iter(uneven_stream(10))).vectors[:7]
    together, alone = sae.encode(vectors), torch.cat([sae.encode(one[None]) for one in vectors])
    torch.testing.assert_close(together, alone)


def test_a_stored_dictionary_is_read_back_with_its_threshold(batch_top_k, tmp_path):
    sae, _ = batch_top_k
    sae.save(tmp_path, torch.float16)
    back = SparseAutoencoder.load(tmp_path)
    assert back.shape == sae.shape
    assert torch.equal(back.threshold, sae.threshold)
    assert back.threshold > 0


def test_training_keeps_k_latents_on_average_and_never_more_than_its_width():
    sae = SparseAutoencoder(SaeShape(WIDTH, 64, 2, dictionary="batch_top_k"), torch.Generator().manual_seed(0))
    codes = sae.encode_in_training(torch.randn(50, WIDTH, generator=torch.Generator().manual_seed(1)))
    assert codes.values.shape == (50, 8)
    assert int((codes.values > 0).sum()) == 50 * 2


def test_a_small_dictionary_has_no_wider_code_than_itself():
    assert SaeShape(4, 6, 3, dictionary="batch_top_k").width == 6
    assert SaeShape(4, 6, 3).width == 3


def test_the_first_part_of_a_nested_dictionary_reconstructs_more_than_that_of_a_plain_one():
    vectors = next(iter(planted_stream(10))).vectors
    unexplained = {}
    for kind in ("top_k", "matryoshka"):
        sae, _ = trained(kind, planted_stream(200), expansion=4)
        codes = first_latents(sae.encode_sparse(vectors), sae.shape.n_latents // 8)
        unexplained[kind] = float((vectors - sae.decode_sparse(codes)).square().sum() / vectors.square().sum())
    assert unexplained["matryoshka"] < 0.8 * unexplained["top_k"]


def test_nested_parts_end_with_the_whole_and_a_plain_dictionary_has_one():
    assert nested_prefixes(SaeShape(4, 64, 2, dictionary="matryoshka")) == (8, 16, 32, 64)
    assert nested_prefixes(SaeShape(4, 3, 2, dictionary="matryoshka")) == (1, 3)
    assert nested_prefixes(SaeShape(4, 64, 2)) == (64,)


def test_the_first_latents_of_a_code_keep_their_values():
    sae = SparseAutoencoder(SaeShape(WIDTH, 64, 4), torch.Generator().manual_seed(0))
    codes = sae.encode_sparse(planted_dictionary())
    kept = first_latents(codes, 10)
    assert torch.equal(kept.values[codes.indices < 10], codes.values[codes.indices < 10])
    assert not kept.values[codes.indices >= 10].any()
    assert torch.equal(first_latents(codes, 64).values, codes.values)


def test_a_plain_dictionary_is_stored_as_older_releases_did(tmp_path):
    SparseAutoencoder(SaeShape(WIDTH, 64, 4), torch.Generator().manual_seed(0)).save(tmp_path)
    assert "dictionary" not in json.loads((tmp_path / SHAPE_FILE).read_text())
    assert SparseAutoencoder.load(tmp_path).shape.dictionary == "top_k"


def test_only_another_dictionary_changes_the_name_of_a_lens():
    def settings(**lens):
        return lens_settings(DissectionRequest.of(AuditConfig(name="a", lens=lens)))

    assert settings() == settings(dictionary="top_k")
    assert "dictionary" not in settings()
    assert settings(dictionary="matryoshka")["dictionary"] == "matryoshka"


def test_channels_reconstruct_exactly_and_nothing_is_trained():
    sae, quality = trained("channels", planted_stream(50), steps=10**9)
    vectors = next(iter(planted_stream(10))).vectors
    torch.testing.assert_close(sae.decode_sparse(sae.encode_sparse(vectors)), vectors, rtol=1e-4, atol=1e-4)
    assert max(quality.unexplained_variance) < 1e-8
    above = sae.encode(vectors)[:, :WIDTH] - sae.encode(vectors)[:, WIDTH:]
    torch.testing.assert_close(above, sae.normalise(vectors) - sae.pre_bias)


def test_a_kind_of_a_later_release_is_not_read_as_another_one(tmp_path):
    SparseAutoencoder(SaeShape(WIDTH, 64, 4), torch.Generator().manual_seed(0)).save(tmp_path)
    card = json.loads((tmp_path / SHAPE_FILE).read_text())
    (tmp_path / SHAPE_FILE).write_text(json.dumps(card | {"dictionary": "gated"}))
    with pytest.raises(ValueError, match="found 'gated'; use the release"):
        SparseAutoencoder.load(tmp_path)


def test_channels_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="expected k = n_latents = 8 for channels, found 4, 8"):
        SaeShape(4, 8, 4, dictionary="channels")
