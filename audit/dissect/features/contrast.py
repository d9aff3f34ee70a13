"""What distinguishes the groups of an attribute in the latents, apart from the other attributes.

Images are drawn from prompts that name a group of every attribute, at random. The activation of a latent is modelled by
one effect of each attribute's group, added (effects coding, as in an analysis of variance):

    z_i = μ + Σ_a β_a(g_a(i)) + ε_i,    Σ_g β_a(g) = 0 for every attribute a.

The contrast of a group is β_a(g) minus the mean of the other groups' effects, G / (G − 1) · β_a(g). It is linear in the
activations, Σ_i w_i z_i, so the weights of the images are found once and used for every latent, step and position.

Shapes: n images, G groups of an attribute.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from audit.dissect.group_heads import UNLABELLED


def contrast_weights(labels: Mapping[str, Tensor], groups: Mapping[str, Sequence[str]], attribute: str) -> Tensor:
    """Return the weight of each image in the contrast of each group, ``(G, n)`` in float64.

    Images that lack a label of any attribute have weight 0.

    Args:
        labels: Attribute → perceived group of each image ``(n,)``, ``UNLABELLED`` for none.
        groups: Attribute → its groups.
        attribute: The attribute whose groups are contrasted.

    Raises:
        ValueError: A group of the attribute has no image.
    """
    labelled = torch.stack([labels[name] != UNLABELLED for name in groups]).all(0)
    shown = labels[attribute][labelled]
    empty = [name for row, name in enumerate(groups[attribute]) if not bool((shown == row).any())]
    if empty:
        raise ValueError(
            f"expected images of every group of {attribute}, found none that show {empty[0]!r}; raise "
            "lens.trajectories, or try the judge with `difflens-audit judge`"
        )
    columns = [torch.ones(int(labelled.sum()), 1, dtype=torch.float64)]
    place = 0
    for name, names in groups.items():
        if name == attribute:
            place = sum(column.shape[1] for column in columns)
        columns.append(_effects(labels[name][labelled], len(names)))
    effects = torch.linalg.pinv(torch.cat(columns, 1))[place : place + len(groups[attribute]) - 1]
    all_effects = torch.cat([effects, -effects.sum(0, keepdim=True)])
    count = len(groups[attribute])
    weights = torch.zeros(count, len(labelled), dtype=torch.float64)
    weights[:, labelled] = all_effects * count / (count - 1)
    return weights


def _effects(labels: Tensor, count: int) -> Tensor:
    """Return columns ``(n, G − 1)``: 1 for the own group, −1 in all of them for the last group."""
    members = torch.nn.functional.one_hot(labels.long(), count).double()
    return members[:, :-1] - members[:, -1:]
