"""Plans an audit: prompts, shards, arms and steps. Pure functions; no model is loaded."""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from audit.config.mitigations.arms import ArmConfig, keeping_blocks, kept_attributes, parts_of
from audit.config.mitigations.if_needed import IfNeededConfig
from audit.config.mitigations.registry import MitigationConfig
from audit.config.mitigations.section import EditSection
from audit.planning.pictures import picture_groups
from audit.records.attributes import Attribute, SecondOpinion
from audit.records.work import BASELINE, Prompt, Shard

if TYPE_CHECKING:
    from audit.config.sections import ModelConfig, PromptsConfig, SecondOpinionConfig

# Vowel letters that sound like consonants ("a university lecturer", "a urologist", "a one-man band"), and the reverse.
_SOUNDS_CONSONANT = re.compile(r"(?i)(eu|ewe|uni(?!n|m)|u[fk]|ub[io]|us[aeiu]|ut[eio]|ur[aeiou]|one\b|once\b)")
_SOUNDS_VOWEL = re.compile(r"(?i)([aeiou]|hour|honest|hono|heir)")
_SPELLED_OUT = re.compile(r"([A-Z]{2,4}|[A-Z])\b")  # "an MRI technician", "an X-ray technician", "a UX designer"
_VOWEL_LETTER_NAMES = "AEFHILMNORSX"

PHRASES = {"skin_tone": "{group} skinned"}
"""How a group is put into a prompt, where its bare name is not how one says it."""

WORD_ORDER = ("age", "gender", "skin_tone")
"""Order of the groups in a prompt; attributes that are not listed come after these."""


NO_PROMPT = Prompt(id="no-prompt", text="", occupation="")
"""What a model without text is asked: all of its images belong to it."""


def group_phrase(attribute: str, group: str) -> str:
    """Return how a prompt names a group: ``old``, but ``tan skinned``."""
    return PHRASES.get(attribute, "{group}").format(group=group)


def article(following: str) -> str:
    """Return ``an`` before a vowel sound, ``a`` otherwise, judged by the text that follows."""
    if _SPELLED_OUT.match(following):
        return "an" if following[0] in _VOWEL_LETTER_NAMES else "a"
    if _SOUNDS_CONSONANT.match(following):
        return "a"
    return "an" if _SOUNDS_VOWEL.match(following) else "a"


def prompt_text(template: str, occupation: str) -> str:
    """Fill ``{occupation}`` and then each ``{a}``, which agrees with the word after it."""
    *before, text = template.replace("{occupation}", occupation).split("{a}")
    for part in reversed(before):
        text = f"{part}{article(text.lstrip())}{text}"
    return text


def pair_text(template: str, first: str, second: str) -> str:
    """Fill a template that names two occupations: ``{first}`` and ``{second}``, or with articles ``{a_first}``."""
    named = {"first": first, "second": second}
    texts = named | {f"a_{place}": f"{article(name)} {name}" for place, name in named.items()}
    return template.format(**texts)


def named_text(template: str, occupation: str, phrase: str) -> str:
    """Return a prompt with a group named before the occupation: ``… of an old doctor``."""
    return prompt_text(template, f"{phrase} {occupation}")


def text_with(template: str, prompt: Prompt, phrases: Mapping[str, str]) -> str:
    """Return a prompt's text with phrases before the occupation, in the order of ``WORD_ORDER``.

    Args:
        template: Template of the prompts.
        prompt: The prompt; its own text is returned if there is no phrase.
        phrases: Attribute → the phrase for one of its groups.
    """
    if not phrases:
        return prompt.text
    order = sorted(phrases, key=lambda name: WORD_ORDER.index(name) if name in WORD_ORDER else len(WORD_ORDER))
    return named_text(template, prompt.occupation, " ".join(phrases[name] for name in order))


def name_groups(template: str, prompt: Prompt, groups: Mapping[str, str]) -> str:
    """Return a prompt's text with groups named before the occupation: ``… of an old female tan skinned doctor``."""
    return text_with(template, prompt, {name: group_phrase(name, group) for name, group in groups.items()})


def kept_phrase(section: IfNeededConfig, attribute: str, group: str) -> str:
    """Return how captions name a group that must stay."""
    return section.words.get(attribute, {}).get(group) or group_phrase(attribute, group)


def text_naming(
    mitigation: MitigationConfig, group: str, template: str, prompt: Prompt, kept: Mapping[str, str] | None = None
) -> str:
    """Return the text of a prompt in which a mitigation names a group of its attribute.

    Args:
        mitigation: The mitigation.
        group: The group.
        template: Template of the prompts.
        prompt: The prompt.
        kept: Further attribute → phrase that the text has too.
    """
    phrase = mitigation.word_of(group) or group_phrase(mitigation.attribute, group)
    return text_with(template, prompt, {**(kept or {}), mitigation.attribute: phrase})


def group_text(mitigation: MitigationConfig, group: str, template: str, prompt: Prompt) -> str:
    """Return the text that names a group by itself for a mitigation: ``a face photo of a female person``."""
    phrase = group_phrase(mitigation.attribute, group)
    if mitigation.group_template is not None:
        return prompt_text(mitigation.group_template.replace("{group}", phrase), prompt.occupation)
    return prompt_text(template, (mitigation.group_words or "{group}").format(group=phrase))


def prompts_of(section: PromptsConfig, world_occupations: Sequence[str]) -> tuple[Prompt, ...]:
    """Return the prompts of an audit, in the order of the config or of the world.

    Args:
        section: Section ``prompts`` of the config.
        world_occupations: Occupations that ``occupations: all`` selects.

    Raises:
        ValueError: If there is no occupation.
    """
    named = section.occupations
    if named == "none":
        return (NO_PROMPT,)
    occupations = tuple(world_occupations) if named == "all" else tuple(named)
    if not occupations:
        raise ValueError("expected at least one occupation, found none; name some under prompts.occupations")
    return tuple(
        Prompt(id=prompt_id, text=prompt_text(section.template, occupation), occupation=occupation)
        for prompt_id, occupation in zip(prompt_ids(occupations), occupations, strict=True)
    )


def plan_shards(prompts: Sequence[Prompt], images_per_prompt: int, batch: int) -> tuple[Shard, ...]:
    """Cut each prompt's images into shards of ``batch`` indices; a prompt's last shard may be shorter.

    The composition of a shard depends on nothing but these arguments, so that every number of workers makes the same
    batches.

    Raises:
        ValueError: If ``images_per_prompt`` or ``batch`` is below 1.
    """
    if images_per_prompt < 1 or batch < 1:
        raise ValueError(f"expected at least 1 image and a batch of 1, found {images_per_prompt} images, batch {batch}")
    return tuple(
        Shard(prompt=prompt, number=number, indices=tuple(range(start, min(start + batch, images_per_prompt))))
        for prompt in prompts
        for number, start in enumerate(range(0, images_per_prompt, batch))
    )


def further_shards(made: Sequence[Shard], images: int, batch: int) -> tuple[Shard, ...]:
    """Return the shards that bring a prompt to ``images`` images; those already made stay as they are.

    Args:
        made: The prompt's shards, at least one, whose indices run from 0 without a gap.
        images: The prompt's images in all.
        batch: Images per shard; the last may have fewer.

    Raises:
        ValueError: If there is no shard yet, or the batch is below 1.
    """
    if not made or batch < 1:
        raise ValueError(f"expected at least 1 shard and a batch of 1, found {len(made)} shards, batch {batch}")
    first = sum(len(shard.indices) for shard in made)
    return tuple(
        Shard(prompt=made[0].prompt, number=number, indices=tuple(range(start, min(start + batch, images))))
        for number, start in enumerate(range(first, images, batch), start=len(made))
    )


def arms_of(mitigations: Sequence[ArmConfig]) -> tuple[str, ...]:
    """Return the arms: the baseline, then each mitigation by name."""
    return (BASELINE, *(mitigation.name for mitigation in mitigations))


def opinions_of(
    second_opinions: Sequence[SecondOpinionConfig], attributes: Mapping[str, Sequence[str]]
) -> tuple[SecondOpinion, ...]:
    """Return the further judges, each with the attributes that it judges, in the order of the audit."""
    return tuple(
        SecondOpinion(
            opinion.name,
            tuple(
                Attribute(name, tuple(groups))
                for name, groups in attributes.items()
                if opinion.attributes is None or name in opinion.attributes
            ),
        )
        for opinion in second_opinions
    )


def window_of(window: tuple[float, float], steps: int) -> range:
    """Return the steps inside a window given as fractions of the run; (0, 1) selects all."""
    return range(math.floor(window[0] * steps), math.ceil(window[1] * steps))


def steps_of_arms(mitigations: Sequence[ArmConfig], steps: int, attributes: Mapping[str, Sequence[str]]) -> int:
    """Count the network calls of one image over all arms, without the unconditional half.

    An arm takes the steps before its window, or before the first window of its parts, from the baseline arm. An
    asymmetric arm calls the network twice at each step of its window: with the edit and without it
    (:class:`audit.models.intervention.Intervention`). The second call counts in full, although it computes only what
    lies behind the first edited module. Guidance by further texts has more calls in each step.

    Args:
        mitigations: All arms but the baseline.
        steps: Denoising steps.
        attributes: Attribute → groups.
    """
    return steps + sum(_steps_of_arm(arm, steps, attributes) for arm in mitigations)


def _steps_of_arm(arm: ArmConfig, steps: int, attributes: Mapping[str, Sequence[str]]) -> int:
    parts = parts_of(arm)
    edits = [part for part in parts if isinstance(part, EditSection)]
    reads_another_text = keeping_blocks(arm) == () and bool(kept_attributes(arm, tuple(attributes)))
    shared = 0 if reads_another_text else min(window_of(part.acting_window, steps).start for part in parts)
    twice = {step for edit in edits if edit.reverse_step == "asymmetric" for step in window_of(edit.window, steps)}
    extra = sum(part.extra_calls(len(attributes[part.attribute])) for part in parts)
    return steps * (1 + extra) - shared + len(twice)


def prompt_ids(occupations: Sequence[str]) -> tuple[str, ...]:
    """Name each occupation in ``[a-z0-9-]``; occupations with equal names get a hash, independent of their order."""
    slugs = [_slug(occupation) for occupation in occupations]
    counts = Counter(slugs)
    return tuple(
        slug if slug and counts[slug] == 1 else f"{slug or 'prompt'}-{_digest(occupation)}"
        for slug, occupation in zip(slugs, occupations, strict=True)
    )


def _slug(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:60].rstrip("-")


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


def known_occupations(model: ModelConfig) -> tuple[str, ...] | None:
    """Return the occupations of the calibration world of a model, or of existing pictures; None for any other model.

    Raises:
        ValueError: If the table of the world cannot be read or is invalid.
        PictureErrors: If the manifest or the folder of the pictures has errors.
    """
    from audit.config.fields import GENERATED_HERE, IMAGES

    if model.source == IMAGES:
        return tuple(group.occupation for group in picture_groups(model))
    if model.source not in GENERATED_HERE:
        return None
    from audit.calibration.bundle import world_table
    from audit.calibration.world import World

    try:
        return tuple(World.load(world_table(model)).occupations)
    except OSError as error:
        raise ValueError(f"expected a path that can be looked at, found {error.strerror}") from error


def prompts_of_model(model: ModelConfig, section: PromptsConfig) -> tuple[Prompt, ...]:
    """Return the prompts of an audit of ``model``; the text of a prompt with existing pictures is their own, if known.

    Raises:
        ValueError: If there is no occupation, or the world of the model cannot be read.
        PictureErrors: If the manifest or the folder of the pictures has errors.
    """
    from audit.config.fields import IMAGES

    prompts = prompts_of(section, known_occupations(model) or ())
    if model.source != IMAGES:
        return prompts
    texts = {group.occupation: group.text for group in picture_groups(model)}
    return tuple(replace(prompt, text=texts.get(prompt.occupation) or prompt.text) for prompt in prompts)


def images_of_prompts(model: ModelConfig, section: PromptsConfig, prompts: Sequence[Prompt]) -> dict[str, int]:
    """Return how many images each prompt has in each arm, by prompt id; existing pictures are all used.

    Raises:
        PictureErrors: If the manifest or the folder of the pictures has errors.
    """
    from audit.config.fields import IMAGES

    if model.source != IMAGES:
        return dict.fromkeys((prompt.id for prompt in prompts), section.images_per_prompt)
    counts = {group.occupation: len(group.pictures) for group in picture_groups(model)}
    return {prompt.id: counts[prompt.occupation] for prompt in prompts}


def shards_of_model(model: ModelConfig, section: PromptsConfig, batch: int) -> tuple[Shard, ...]:
    """Return all shards of an audit of ``model``; with two-stage sampling those of the pilot.

    Raises:
        ValueError: If there is no occupation, or the world of the model cannot be read.
        PictureErrors: If the manifest or the folder of the pictures has errors.
    """
    prompts = prompts_of_model(model, section)
    images = images_of_prompts(model, section, prompts)
    return tuple(shard for prompt in prompts for shard in plan_shards([prompt], images[prompt.id], batch))
