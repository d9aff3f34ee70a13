"""Texts that a model would not read to their end: prompts, the lens's prompts that name groups, and CLIP's texts.

A tokenizer cuts what is too long without a word. A template of many words then loses the occupation, and every picture
is of the same text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from audit.calibration.bundle import bundle_of
from audit.config.fields import ZERO_SHOT, names_clip_weights
from audit.config.mitigations import MitigationConfig
from audit.config.problems import MODEL_KEYS, Location, Problem
from audit.config.sections import ModelConfig
from audit.config.settings import AuditConfig
from audit.dissect.settings import dissected_groups, name_groups, needs_lens
from audit.models.files.text_reader import CLIP, TextReader, bundled_reader, clip_reader
from audit.models.files.untrusted_model import UnfitModelError
from audit.perception.judges.answers import group_captions
from audit.planning.plan import group_phrase, opinions_of, text_naming
from audit.records.work import Prompt

_TEMPLATE: Location = ("prompts", "template")
_OCCUPATIONS: Location = ("prompts", "occupations")
_CLIP: Location = ("quality", "clip")


def cut_texts(config: AuditConfig, prompts: Sequence[Prompt]) -> Iterator[Problem]:
    """Find texts that the model or CLIP would not read to their end.

    Args:
        config: The audit.
        prompts: Its prompts.

    Yields:
        Problems, each with its place; nothing where a tokenizer is not on this machine, which the worker looks at.
    """
    model = model_reader(config.model)
    if model is not None:
        yield from _cut_prompts(config, prompts, model)
        if needs_lens(config) and config.lens.path is None:
            yield from _first(
                lens_texts(config, prompts, model), model, ("lens", "attributes"), (_TEMPLATE, *MODEL_KEYS)
            )
        for index, mitigation in enumerate(config.mitigations):
            texts = mitigation_texts(config, mitigation, prompts)
            yield from _first(texts, model, ("mitigations", index, "name"), (_TEMPLATE, *MODEL_KEYS))
    clip = _clip_reader(config)
    if clip is not None:
        yield from _first(clip_texts(config, prompts), clip, _CLIP, (_TEMPLATE, *MODEL_KEYS))


def model_reader(model: ModelConfig) -> TextReader | None:
    """Return what reads a model's prompts; None where it is not on this machine, cannot be used, or reads anything."""
    bundle = bundle_of(model)
    try:
        if bundle is not None:
            return None if model.source == "rendered" else bundled_reader(bundle.pipeline / "tokenizer")
        if not Path(model.source).is_dir():
            return None
        from audit.models.files.tokens import reader_of_directory

        return reader_of_directory(Path(model.source))
    except UnfitModelError:  # a problem of the model, which its own check reports
        return None


def lens_texts(config: AuditConfig, prompts: Sequence[Prompt], reader: TextReader) -> Iterator[str]:
    """Return, for each prompt, the longest text by which a lens is made: it names a group of each attribute."""
    longest = {
        attribute: max(groups, key=lambda group: reader.count(group_phrase(attribute, group)))
        for attribute, groups in dissected_groups(config).items()
    }
    return (name_groups(config.prompts.template, prompt, longest) for prompt in prompts)


def mitigation_texts(config: AuditConfig, mitigation: MitigationConfig, prompts: Sequence[Prompt]) -> Iterator[str]:
    """Return the texts that a mitigation gives the model beside the prompts, each naming a group."""
    for group in config.attributes[mitigation.attribute] if mitigation.names_groups else ():
        for prompt in prompts:
            yield text_naming(mitigation, group, config.prompts.template, prompt)


def clip_texts(config: AuditConfig, prompts: Sequence[Prompt]) -> Iterator[str]:
    """Return what an audit's CLIP model is asked: the prompts, and a zero-shot judge's captions."""
    yield from (prompt.text for prompt in prompts)
    zero_shot = {opinion.name for opinion in config.second_opinions if opinion.source == ZERO_SHOT}
    for opinion in opinions_of(config):
        if opinion.judge in zero_shot:
            for attribute in opinion.attributes:
                yield from group_captions(attribute.name, attribute.groups)


def _cut_prompts(config: AuditConfig, prompts: Sequence[Prompt], reader: TextReader) -> Iterator[Problem]:
    """Report a template that is too long for every occupation once, and single occupations at their own place."""
    refused = [(place, refusal) for place, prompt in enumerate(prompts) if (refusal := reader.refusal(prompt.text))]
    if not refused:
        return
    if len(refused) == len(prompts) or config.prompts.occupations == "all":
        yield Problem(_TEMPLATE, refused[0][1] + _and_more(len(refused)), reads=(_OCCUPATIONS, *MODEL_KEYS))
        return
    for place, refusal in refused:
        yield Problem((*_OCCUPATIONS, place), refusal, reads=(_TEMPLATE, *MODEL_KEYS))


def _first(texts: Iterable[str], reader: TextReader, place: Location, reads: tuple[Location, ...]) -> Iterator[Problem]:
    refused = [refusal for text in texts if (refusal := reader.refusal(text))]
    if refused:
        yield Problem(place, refused[0] + _and_more(len(refused)), reads=reads)


def _and_more(count: int) -> str:
    return f"; {count - 1} more text{'s' * (count > 2)} would be cut too" if count > 1 else ""


def _clip_reader(config: AuditConfig) -> TextReader | None:
    """Return what reads the texts of ``quality.clip``; None where there is none on this machine."""
    source, bundle = config.quality.clip, bundle_of(config.model)
    try:
        if source == "bundled":
            return None if bundle is None else bundled_reader(bundle.clip, CLIP)
        if Path(source).is_dir():
            name = f"local-dir:{source}"
        elif names_clip_weights(source) and not source.startswith("hf-hub:"):
            name = source.partition(":")[0]
        else:
            return None
        import open_clip  # takes seconds, which are spent where its weights are named and nowhere else

        return clip_reader(open_clip.get_tokenizer(name))
    except Exception:  # noqa: BLE001 - a directory or name that the check of quality.clip reports
        return None
