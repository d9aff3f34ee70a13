"""The card of a lens in Markdown: its model, quality, features, strengths and limits.

It is created from plain data, so that a driver without the networks can write it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import fmean
from typing import Any

from audit.dissect.prediction import is_trusted, prediction_of_data
from audit.dissect.strengths import CONTROLLED_FROM, SUFFICIENT, GroupStrength, strengths_of_data
from audit.records.estimates import percent
from audit.records.inside.honesty import LensHonesty

CONTROL_WORDS = {"full": "", "partial": " in part", "none": " no"}
"""Control → mark of a strength in the table; the legend explains it."""


HONESTY = "honesty"
"""Key of the summary of the features' figures in the quality of a lens."""


def with_honesty(plain: Mapping[str, Any], honesty: LensHonesty) -> dict[str, Any]:
    """Return the content of a ``lens.json`` with a summary of the features' figures in its quality."""
    return {**plain, "quality": {**plain["quality"], HONESTY: honesty.summary()}}


def card(name: str, plain: Mapping[str, Any], shape: Mapping[str, Any]) -> str:
    """Return the card of a lens.

    Args:
        name: Name of the lens.
        plain: The content of its ``lens.json``.
        shape: Shape of its autoencoder.
    """
    lines = [
        f"# {name}",
        "",
        f"Made from model `{plain['model_fingerprint']}` at `{plain['hookpoint']}`, {plain['steps']} sampler steps.",
        f"Autoencoder per {'whole map' if shape['whole_map'] else 'position'}: {shape['d_in']} inputs, "
        f"{shape['n_latents']} latents, {shape['k']} active.",
        *_quality(plain),
        *_honesty(plain["quality"].get(HONESTY, {})),
        *_strengths(plain),
        *_predictions(plain),
        *_steps(plain),
        "",
        "Groups are perceived presentation, as a named classifier sees it, never identity.",
    ]
    return "\n".join(lines) + "\n"


def _quality(plain: Mapping[str, Any]) -> Iterator[str]:
    quality, unexplained = plain["quality"], plain["quality"]["unexplained_variance"]
    yield from ("", "| quality, on held-out trajectories | |", "| --- | --- |")
    yield f"| unexplained variance, mean over steps | {fmean(unexplained):.3f} |"
    yield f"| unexplained variance, worst step | {max(unexplained):.3f} |"
    yield f"| dead latents | {quality['dead_latents']} of {quality['latents']} |"
    cosines = f"{quality['decoder_cosine_mean']:.3f} / {quality['decoder_cosine_max']:.3f}"
    yield f"| decoder cosine, mean / max | {cosines} |"
    yield f"| completeness gap of the attribution, largest | {quality['completeness_gap']:.1e} |"
    yield from ("", "| attribute | head accuracy, mean | first step | worst step | features |")
    yield "| --- | --- | --- | --- | --- |"
    for attribute in plain["groups"]:
        accuracy = quality["head_accuracy"][attribute]
        features = plain["features"].get(attribute, {})
        chosen = ", ".join(f"{group} {len(rows)}" for group, rows in features.items()) or "none"
        yield f"| {attribute} | {fmean(accuracy):.3f} | {accuracy[0]:.3f} | {min(accuracy):.3f} | {chosen} |"


def _honesty(summary: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    if not summary:
        return
    yield from ("", "## Features", "")
    yield (
        "AUC: for the own group, on halves of the images that did not choose the feature. Kept: features of a group "
        "that both halves choose. Shared: also features of another attribute. Failing: by the rules in the report."
    )
    yield from ("", "| attribute | features | AUC, mean | kept, per group | shared | failing |", "| --- " * 6 + "|")
    for attribute, found in summary.items():
        auc = "–" if found["auc"] is None else f"{found['auc']:.3f}"
        kept = f"{found['kept'][0]} to {found['kept'][1]}"
        yield f"| {attribute} | {found['features']} | {auc} | {kept} | {found['shared']} | {found['failing']} |"


def _strengths(plain: Mapping[str, Any]) -> Iterator[str]:
    for attribute, prompts in strengths_of_data(plain["strengths"]).items():
        groups = plain["groups"][attribute]
        every = [found for by_group in prompts.values() for found in by_group.values()]
        poor = [found for found in every if found.control == "none"]
        yield from ("", f"## Strengths for {attribute.replace('_', ' ')}", "")
        yield (
            "Strength: share that shows the group it is steered to / largest share that changed otherwise. *no*: not "
            f"controllable here, under {percent(CONTROLLED_FROM)} show the group. *in part*: under "
            f"{percent(SUFFICIENT)}. Not controllable: {len(poor)} of {len(every)}."
        )
        yield from ("", f"| prompt | {' | '.join(groups)} |", "| --- " * (1 + len(groups)) + "|")
        for prompt, by_group in prompts.items():
            yield f"| {prompt} | {' | '.join(_cell(by_group[group]) for group in groups)} |"


def _cell(found: GroupStrength) -> str:
    drawn = found.drawn
    if drawn is None or found.control is None:
        return f"{found.strength:g} {found.source}"
    return f"{found.strength:g}: {drawn.shown:.2f} / {drawn.side_effect:.2f}{CONTROL_WORDS[found.control]}"


def _predictions(plain: Mapping[str, Any]) -> Iterator[str]:
    lines = prediction_of_data(plain["prediction"])
    if not lines:
        return
    yield from ("", "## Prompts that the lens was not made from", "")
    yield "Root-mean-square error of the strength where each prompt is predicted from all others by one denoiser call:"
    yield from ("", "| attribute | group | error | error of the mean | used |", "| --- | --- | --- | --- | --- |")
    for attribute, by_group in lines.items():
        used = "predicted" if is_trusted(by_group, plain["groups"][attribute]) else "searched"
        for group, line in by_group.items():
            yield f"| {attribute} | {group} | {line.error:.2f} | {line.error_of_mean:.2f} | {used} |"


def _steps(plain: Mapping[str, Any]) -> Iterator[str]:
    yield from ("", "| step | unexplained variance |", "| --- | --- |")
    for step, value in enumerate(plain["quality"]["unexplained_variance"]):
        yield f"| {step} | {value:.3f} |"
