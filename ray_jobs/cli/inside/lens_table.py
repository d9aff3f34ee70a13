"""Prints the lenses that a dissection made, side by side: how well each reads the model at its hookpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from rich.console import Console
from rich.table import Table

from audit.dissect.settings import TOP_K
from ray_jobs.run.prepare.lens import Dissected

_OF_AUTOENCODER = ("hookpoint", "whole_map", "dictionary", "expansion", "k", "sae_steps", "trajectories", "seed")
"""Settings that decide what the latents of a lens are."""


def lenses_as_data(lenses: Sequence[Dissected]) -> dict[str, Any]:
    """Return the lenses as plain data: the directory of the first, then each with its settings and quality."""
    return {
        "lens": str(lenses[0].place),
        "lenses": [
            {
                "place": str(one.place),
                "searched": one.searched,
                "settings": card["settings"],
                "quality": card["quality"],
            }
            for one in lenses
            for card in [one.card]
        ],
    }


def show_lenses(lenses: Sequence[Dissected], console: Console) -> None:
    """Print the directory of a lens, or a table of several lenses with their quality on held-out images."""
    if len(lenses) > 1:
        console.print(_table([one.card for one in lenses]))
        console.print(
            "Unexplained variance and accuracy are of held-out images, means over the sampler steps. In common: "
            "features that the first lens has for the same group, if the autoencoders are equal. Strengths are "
            "searched for the first lens; those of another are searched when an edit first takes them from it."
        )
    for one in lenses:
        console.print(f"Lens: {one.place}", soft_wrap=True, highlight=False)


def _table(cards: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(
        *("hookpoint", "dictionary", "k", "latents", "attribution", "features per group"),
        *("in common", "unexplained variance", "dead latents", "accuracy"),
    )
    for card in cards:
        settings, quality = card["settings"], card["quality"]
        accuracy = (f"{attribute} {mean(per_step):.2f}" for attribute, per_step in quality["head_accuracy"].items())
        table.add_row(
            settings["hookpoint"] + " (whole map)" * settings["whole_map"],
            str(settings.get("dictionary", TOP_K)).replace("_", " "),
            str(settings["k"]),
            str(quality["latents"]),
            _attribution(settings),
            str(settings["features_per_group"]),
            _in_common(card, cards[0]),
            f"{mean(quality['unexplained_variance']):.3f}",
            str(quality["dead_latents"]),
            ", ".join(accuracy),
        )
    return table


def _attribution(settings: Mapping[str, Any]) -> str:
    """Name baseline and temperature, and whether groups share features."""
    temperature, shared = settings.get("temperature", 1.0), settings.get("shared_features", False)
    return f"{settings['baseline']}, T = {temperature:g}{', shared' if shared else ''}"


def _in_common(card: Mapping[str, Any], first: Mapping[str, Any]) -> str:
    """Count the features that the first lens has for the same group; empty if the latents are others."""
    if any(card["settings"].get(name) != first["settings"].get(name) for name in _OF_AUTOENCODER):
        return ""
    own, others = (_features(one) for one in (card, first))
    return f"{len(own & others)} of {len(own)}"


def _features(card: Mapping[str, Any]) -> set[tuple[str, str, int]]:
    return {
        (attribute, group, feature["latent"])
        for attribute, of_groups in card["features"].items()
        for group, features in of_groups.items()
        for feature in features
    }
