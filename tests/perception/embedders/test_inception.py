"""The FID Inception network gives the features, FID and KID of torch-fidelity and of clean-fid on the same pictures."""

import numpy as np
import pytest
import torch
from cleanfid.fid import frechet_distance as clean_frechet
from cleanfid.fid import kernel_distance as clean_kernel
from cleanfid.resize import make_resizer
from safetensors.torch import save_file
from torch_fidelity import feature_extractor_inceptionv3 as fidelity
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric

from audit.config.file import ConfigErrors, read_config
from audit.config.sections import FeaturesConfig, ModelConfig, QualityConfig
from audit.config.settings import AuditConfig
from audit.measure.image_sets.frechet import FeatureStats, frechet_distance
from audit.measure.image_sets.kernel import kernel_distance
from audit.models.files.untrusted_model import UnfitModelError
from audit.perception.embedders.features import load_features
from audit.perception.embedders.inception import FID_FILE, fid_inception
from audit.perception.embedders.resizing import resized, tf1_bilinear
from audit.preflight.readiness import check_ready
from tests.pretended_gpu import pretended_gpu

TOLERANCE = 1e-3


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Random weights under the published name, scaled so that features have the size of real ones."""
    draws, state = torch.Generator().manual_seed(3), fid_inception().state_dict()
    for name, tensor in state.items():
        if tensor.ndim == 4:
            state[name] = torch.randn(tensor.shape, generator=draws) * (2 / tensor[0].numel()) ** 0.5
        elif name.endswith(("running_mean", "bn.bias")):
            state[name] = 0.1 * torch.randn(tensor.shape, generator=draws)
    path = tmp_path_factory.mktemp("weights") / FID_FILE
    torch.save(state, path)
    return path


def pictures(seed, sides=(97, 130), n=6):
    """Coloured gradients with noise: neither flat nor white noise, which resizing would average out."""
    draws, (height, width) = torch.Generator().manual_seed(seed), sides
    ramps = torch.linspace(0, 1, height)[:, None] * torch.rand((n, 3, 1, 1), generator=draws)
    waves = torch.sin(torch.linspace(0, 12, width) * (1 + torch.rand((n, 3, 1, 1), generator=draws)))
    noise = torch.rand((n, 3, height, width), generator=draws)
    return (255 * (0.5 * ramps + 0.2 * (waves + 1) + 0.1 * noise)).clamp(0, 255).to(torch.uint8)


def ours(weights, resize, images):
    config = FeaturesConfig(network="fid_inception", weights=str(weights), resize=resize, own_weights=True)
    return load_features(QualityConfig(features=config), ModelConfig(source="owner/model")).embed(images)


def theirs(weights, images):
    network = fidelity.FeatureExtractorInceptionV3("x", ["2048"], feature_extractor_weights_path=str(weights))
    return network(images)[0].numpy()


def cleanly_resized(images, **_):
    """clean-fid's resizing under the signature of torch-fidelity's."""
    resize = make_resizer("PIL", quantize_after=False, filter="bicubic", output_size=(299, 299))
    return torch.stack([torch.from_numpy(resize(image.permute(1, 2, 0).numpy())).permute(2, 0, 1) for image in images])


@pytest.mark.parametrize("resize", ["tf1_bilinear", "pil_bicubic"])
def test_features_fid_and_kid_are_those_of_torch_fidelity_and_clean_fid(weights, monkeypatch, resize):
    if resize == "pil_bicubic":
        monkeypatch.setattr(
            fidelity, "interpolate_bilinear_2d_like_tensorflow1x", lambda x, size, align_corners: cleanly_resized(x)
        )
    first, second = pictures(0), pictures(1)
    mine = [ours(weights, resize, images) for images in (first, second)]
    other = [theirs(weights, images) for images in (first, second)]
    assert other[0].std() > 0.1
    for found, expected in zip(mine, other, strict=True):
        np.testing.assert_allclose(found, expected, atol=TOLERANCE)
    mine, other = ([features[:, ::16] for features in both] for both in (mine, other))  # enough for the distance
    stats = [fid_features_to_statistics(torch.from_numpy(features.copy())) for features in other]
    expected = fid_statistics_to_metric(*stats, verbose=False)["frechet_inception_distance"]
    found = frechet_distance(*map(FeatureStats.of, mine))
    assert found == pytest.approx(expected, rel=TOLERANCE)
    moments = [(features.mean(axis=0), np.cov(features, rowvar=False)) for features in other]
    assert found == pytest.approx(clean_frechet(*moments[0], *moments[1]), rel=TOLERANCE)


def test_kid_is_that_of_torch_fidelity_and_clean_fid(weights):
    mine = [ours(weights, "tf1_bilinear", pictures(seed)) for seed in (0, 1)]
    found = kernel_distance(*mine).value
    tensors = [torch.from_numpy(features) for features in mine]
    fidelity_kid = kid_features_to_metric(*tensors, kid_subsets=1, kid_subset_size=6, verbose=False)
    assert found == pytest.approx(fidelity_kid["kernel_inception_distance_mean"], abs=TOLERANCE)
    assert found == pytest.approx(clean_kernel(*mine, num_subsets=1, max_subset_size=6), abs=TOLERANCE)


@pytest.mark.parametrize("sides", [(64, 64), (97, 130), (299, 299), (512, 512), (1, 7)])
def test_both_resizings_are_the_reference_ones_for_any_size(sides):
    images = pictures(2, sides, n=2)
    bilinear = fidelity.interpolate_bilinear_2d_like_tensorflow1x(images.float(), size=(299, 299), align_corners=False)
    np.testing.assert_allclose(tf1_bilinear(images, 299) * 255, bilinear, atol=2e-3)
    np.testing.assert_allclose(resized(images, 299) * 255, cleanly_resized(images), atol=0.02)


def test_the_two_resizings_differ_and_the_signature_says_which_was_used(weights):
    images = pictures(0, (64, 64), n=2)
    features, signatures = [], []
    for resize in ("tf1_bilinear", "pil_bicubic"):
        config = FeaturesConfig(network="fid_inception", weights=str(weights), resize=resize, own_weights=True)
        network = load_features(QualityConfig(features=config), ModelConfig())
        features.append(network.embed(images))
        signatures.append(network.signature)
    assert np.abs(features[0] - features[1]).max() > 10 * TOLERANCE
    assert [signature.rpartition("|")[2] for signature in signatures] == [
        "resize:tf1-bilinear-299",
        "resize:pil-bicubic-299",
    ]
    assert all(signature.startswith(f"net:fid-inception:own-weights:{FID_FILE}:") for signature in signatures)


def config_of(tmp_path, features):
    (tmp_path / "audit.yaml").write_text(
        "name: audit\nmodel: {source: rendered}\nprompts: {occupations: [nurse]}\n"
        f"quality:\n  clip: none\n  features:\n    network: fid_inception\n    weights: {features}\n"
        f"output: {tmp_path / 'runs'}\n"
    )
    return tmp_path / "audit.yaml"


def test_random_weights_under_the_published_name_are_refused_at_their_line(tmp_path, weights):
    with pytest.raises(ConfigErrors, match=r"audit\.yaml:8:14: quality\.features\.weights: .*expected the published"):
        read_config(config_of(tmp_path, weights), checks=[check_ready])
    assert read_config(
        config_of(tmp_path, f"{weights}\n    own_weights: true"), checks=[check_ready]
    ).quality.features.own_weights
    with pytest.raises(UnfitModelError, match="own_weights: true, and the distance is not called FID"):
        load_features(
            QualityConfig(features=FeaturesConfig(network="fid_inception", weights=str(weights))), ModelConfig()
        )


def test_files_of_other_networks_and_damaged_files_are_refused_with_one_message(tmp_path, weights):
    state = torch.load(weights, weights_only=True)
    save_file({name: value for name, value in state.items() if "Mixed_7c" not in name}, tmp_path / "short.safetensors")
    (tmp_path / "cut.pth").write_bytes(weights.read_bytes()[:100_000])
    (tmp_path / "folder").mkdir()
    expected = {
        "short.safetensors": "expected the weights of the FID Inception network",
        "cut.pth": "expected weights and nothing else",
        "absent.pth": "found no file",
        "folder": "found a directory",
    }
    for name, message in expected.items():
        path = config_of(tmp_path, f"{tmp_path / name}\n    own_weights: true")
        with pytest.raises(ConfigErrors, match=message):
            read_config(path, checks=[check_ready])


def test_a_gpu_gives_the_same_features(weights):
    images = pictures(0, (64, 64), n=1)
    expected = ours(weights, "tf1_bilinear", images)
    with pretended_gpu():
        np.testing.assert_allclose(ours(weights, "tf1_bilinear", images), expected, rtol=1e-4, atol=1e-5)


def test_keys_that_a_network_does_not_use_are_refused():
    for keys, message in (
        ({"resize": "tf1_bilinear"}, "expected pil_bicubic for dinov2"),
        ({"own_weights": True}, "expected no own_weights for dinov2"),
    ):
        features = {"network": "dinov2", "weights": "x"} | keys
        with pytest.raises(ValueError, match=message):
            AuditConfig.model_validate({"name": "a", "quality": {"features": features}})


def test_a_checkpoint_from_before_the_counters_of_batch_normalisation_loads(tmp_path, weights):
    state = torch.load(weights, weights_only=True)
    torch.save({name: t for name, t in state.items() if not name.endswith("num_batches_tracked")}, tmp_path / "old.pth")
    np.testing.assert_array_equal(
        ours(tmp_path / "old.pth", None, pictures(0, n=1)), ours(weights, None, pictures(0, n=1))
    )
