"""Prompts of compositions: each pair of occupations together, and each occupation of a pair alone."""

from __future__ import annotations

from audit.config.optional.compositions import CompositionsConfig
from audit.config.slices import Attributes
from audit.planning.plan import group_phrase, named_text, pair_text, prompt_ids, prompt_text
from audit.records.work import PairPrompt, Prompt


def pair_prompts(section: CompositionsConfig) -> tuple[PairPrompt, ...]:
    """Return a prompt for each pair, in the order of the config."""
    return tuple(
        PairPrompt(name_id, pair_text(section.template, first, second), f"{first} and {second}", first, second)
        for name_id, (first, second) in zip(_pair_ids(section), section.pairs, strict=True)
    )


def _pair_ids(section: CompositionsConfig) -> tuple[str, ...]:
    """Name each pair; ``a and b`` with ``c``, and ``a`` with ``b and c``, get a hash of what they are made of."""
    names = [f"{first} and {second}" for first, second in section.pairs]
    made_of = [f"{first} and \n{second}" if names.count(name) > 1 else name
               for name, (first, second) in zip(names, section.pairs, strict=True)]  # fmt: skip
    return prompt_ids(made_of)


def alone_prompts(section: CompositionsConfig) -> tuple[Prompt, ...]:
    """Return a prompt for each occupation that is in a pair, each once."""
    names = tuple(dict.fromkeys(name for pair in section.pairs for name in pair))
    return tuple(
        Prompt(name_id, prompt_text(section.alone, name), name)
        for name_id, name in zip(prompt_ids(names), names, strict=True)
    )


def matching_texts(section: CompositionsConfig, occupation: str, attributes: Attributes) -> tuple[str, ...]:
    """Return the texts whose mean stands for an occupation when persons are matched with occupations.

    Each names one group: ``a photo of a female nurse``, ``a photo of a male nurse``. All groups are named equally
    often, so that the mean says little about groups. The text "a nurse" by itself is nearer to pictures of women, by
    what CLIP has learned, and would match women with nurses.
    """
    phrases = [group_phrase(name, group) for name, groups in attributes.items() for group in groups]
    return tuple(named_text(section.alone, occupation, phrase) for phrase in phrases)
