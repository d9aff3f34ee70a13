"""A lens and a recording without a model: the values of the latents are planted, so what is found can be checked."""

import torch

from audit.dissect.build import attribute_latents
from audit.dissect.features.attribution import rank_features
from audit.dissect.group_heads import fit_group_heads
from audit.dissect.lens import BiasFeature, Lens
from audit.dissect.recording.joined_tensor import JoinedTensor
from audit.dissect.recording.layout import Layout
from audit.dissect.recording.recording import Recording
from audit.dissect.recording.stored_tensor import StoredTensor
from audit.dissect.sae import SaeShape, SparseAutoencoder
from audit.dissect.settings import Dissection

STEPS, IMAGES, SIDE, LATENTS, FEATURES = 3, 200, 2, 40, 3
GROUPS = {"tint": ("dark", "bright"), "size": ("small", "large")}
SETTINGS = Dissection(
    hookpoint="mid_block",
    whole_map=False,
    expansion=1,
    k=LATENTS,
    trajectories=IMAGES,
    recorded=IMAGES,
    sae_steps=1,
    features_per_group=FEATURES,
    baseline="zero",
    steps=STEPS,
    guidance=1.0,
    batch=50,
    seed=0,
)


def planted_labels(seed=0):
    """Half of the images are pairs with other groups of both attributes."""
    draws = torch.Generator().manual_seed(seed)
    labels = {name: torch.randint(2, (IMAGES,), generator=draws) for name in GROUPS}
    partners = torch.full((IMAGES,), -1)
    for row in range(0, IMAGES // 2, 2):
        partners[row], partners[row + 1] = row + 1, row
        for own in labels.values():
            own[row + 1] = 1 - own[row]
    return labels, partners


def planted_recording(directory, labels, partners, effect=2.0, seed=1):
    """Record maps: latent 0 is raised in dark images, 1 in bright ones, 2 and 3 by size; the others are noise."""
    draws = torch.Generator().manual_seed(seed)
    values = torch.rand(STEPS, IMAGES, LATENTS, SIDE * SIDE, generator=draws) + 0.5
    for attribute, first in (("tint", 0), ("size", 2)):
        for group in (0, 1):
            values[:, labels[attribute] == group, first + group] += effect
    layout = Layout(STEPS, (LATENTS, SIDE, SIDE), IMAGES, IMAGES, LATENTS, SIDE * SIDE, sampled=False)
    directory.mkdir(parents=True, exist_ok=True)
    maps = StoredTensor(directory / "maps", (STEPS, IMAGES, layout.numbers), torch.float16)
    pictures = StoredTensor(directory / "pictures", (IMAGES, 3, 8, 8), torch.uint8)
    for stored in (maps, pictures):
        stored.create()
    maps[:] = values.flatten(2)
    return Recording(layout, JoinedTensor([maps], 1), None, labels, partners, JoinedTensor([pictures], 0))


def identity_sae():
    """An autoencoder whose latents are the channels."""
    sae = SparseAutoencoder(SaeShape(LATENTS, LATENTS, LATENTS))
    with torch.no_grad():
        sae.decoder.copy_(torch.eye(LATENTS))
        sae.encoder.copy_(torch.eye(LATENTS))
    return sae.requires_grad_(False)


def planted_lens(recording):
    """Choose features as a dissection does."""
    sae = identity_sae()
    heads, _ = fit_group_heads(recording.maps, recording.labels, GROUPS)
    features, firing = {}, {}
    for attribute, names in GROUPS.items():
        scores = attribute_latents(sae, heads, recording, attribute, SETTINGS).mean()
        chosen = rank_features(scores, FEATURES)
        features[attribute] = {
            name: tuple(BiasFeature(latent, float(scores[row, latent]), (1.0,) * STEPS) for latent in chosen[row])
            for row, name in enumerate(names)
        }
        firing[attribute] = {}
        for row, name in enumerate(names):
            maps = recording.maps[:].float().view(STEPS, IMAGES, LATENTS, SIDE * SIDE)
            shown = maps[:, recording.labels[attribute] == row].mean(1)
            firing[attribute][name] = shown[:, chosen[row]].transpose(1, 2)
    return Lens(
        sae=sae,
        heads=heads,
        features=features,
        firing=firing,
        strengths={},
        settings=vars(SETTINGS),
        quality={},
        model_fingerprint="sha256:00",
        hookpoint="mid_block",
        steps=STEPS,
        groups=GROUPS,
    )
