"""Finds texts that a tokenizer would cut off: prompts, prompts that name groups, and the texts for CLIP.

A tokenizer cuts off long texts without a warning. A long template would lose the occupation, and all images would
have the same text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from audit.calibration.bundle import bundle_of
from audit.config.fields import WITHOUT_NETWORK, names_clip_weights
from audit.config.judges import JudgeKeys
from audit.config.mitigations.arms import ArmConfig, kept_attributes, located, parts_of
from audit.config.mitigations.registry import MitigationConfig
from audit.config.mitigations.texts import PromptConfig
from audit.config.problems import MODEL_KEYS, Location, Problem
from audit.config.sections import ModelConfig, PromptsConfig, QualityConfig, clip_of
from audit.config.slices import Attributes, MeasurementRequest
from audit.models.files.text_reader import CLIP, TextReader, bundled_reader, clip_reader
from audit.models.files.untrusted_model import UnfitModelError
from audit.models.source import pipeline_source
from audit.perception.judges.captions import captions_of
from audit.perception.judges.interface import Audited
from audit.perception.judges.registry import selected
from audit.planning.plan import group_phrase, group_text, kept_phrase, name_groups, text_naming, text_with
from audit.records.work import Prompt

_TEMPLATE: Location = ("prompts", "template")
_OCCUPATIONS: Location = ("prompts", "occupations")
_CLIP: Location = ("quality", "clip")


def cut_texts(request: MeasurementRequest, dissected: Attributes, prompts: Sequence[Prompt]) -> Iterator[Problem]:
    """Find texts that the model or CLIP would cut off.

    Args:
        request: How the images are made and measured.
        dissected: Attributes of the lens that has to be made; empty if none has to be made.
        prompts: Prompts of the audit.

    Yields:
        Problems, each with its place in the config. A tokenizer that is not on this machine is checked by the worker.
    """
    model = model_reader(request.model)
    if model is not None:
        yield from _cut_prompts(request.prompts, prompts, model)
        if dissected:
            texts = lens_texts(request.prompts.template, dissected, prompts, model)
            yield from _first(texts, model, ("lens", "attributes"), (_TEMPLATE, *MODEL_KEYS))
        for place, mitigation in located(request.mitigations):
            texts = mitigation_texts(request, mitigation, prompts)
            yield from _first(texts, model, (*place, "name"), (_TEMPLATE, *MODEL_KEYS))
        for index, arm in enumerate(request.mitigations):
            texts = keeping_texts(request, arm, prompts, model)
            yield from _first(texts, model, ("mitigations", index, "if_needed"), (_TEMPLATE, *MODEL_KEYS))
    clip = clip_reader_of(request.quality, request.model)
    if clip is not None:
        yield from _first(clip_texts(request, prompts), clip, _CLIP, (_TEMPLATE, *MODEL_KEYS))


def model_reader(model: ModelConfig) -> TextReader | None:
    """Return the tokenizer of a model; None if it is not on this machine, cannot be used, or has no limit."""
    bundle = bundle_of(model)
    try:
        if bundle is not None:
            return None if model.source in WITHOUT_NETWORK else bundled_reader(bundle.pipeline / "tokenizer")
        directory = Path(pipeline_source(model))
        if model.source in WITHOUT_NETWORK or not directory.is_dir():
            return None
        from audit.models.families.registry import family_here
        from audit.models.files.tokens import reader_of_directory

        family = family_here(model)
        if family is None or not family.reads_text:
            return None
        return reader_of_directory(directory, family.longest_text)
    except UnfitModelError:  # a problem of the model, which its own check reports
        return None


def lens_texts(template: str, dissected: Attributes, prompts: Sequence[Prompt], reader: TextReader) -> Iterator[str]:
    """Return, for each prompt, the longest text that a lens is made from: it names a group of each attribute."""
    longest = {
        attribute: max(groups, key=lambda group: reader.count(group_phrase(attribute, group)))
        for attribute, groups in dissected.items()
    }
    return (name_groups(template, prompt, longest) for prompt in prompts)


def mitigation_texts(
    request: MeasurementRequest, mitigation: MitigationConfig, prompts: Sequence[Prompt]
) -> Iterator[str]:
    """Return the texts besides the prompts that a mitigation gives to the model; each names a group."""
    groups = request.attributes[mitigation.attribute] if mitigation.names_groups else ()
    text_of = text_naming if mitigation.group_words is None else group_text
    for group in groups:
        for prompt in prompts:
            yield text_of(mitigation, group, request.prompts.template, prompt)


def keeping_texts(
    request: MeasurementRequest, arm: ArmConfig, prompts: Sequence[Prompt], reader: TextReader
) -> Iterator[str]:
    """Return, for each prompt, the longest captions of an arm that name groups which must stay."""
    kept = kept_attributes(arm, tuple(request.attributes))
    if arm.if_needed is None or not kept:
        return
    phrases = {
        name: max((kept_phrase(arm.if_needed, name, group) for group in request.attributes[name]), key=reader.count)
        for name in kept
    }
    template, captions = request.prompts.template, [part for part in parts_of(arm) if isinstance(part, PromptConfig)]
    for prompt in prompts:
        yield text_with(template, prompt, phrases)
        for part in captions:
            for group in request.attributes[part.attribute]:
                yield text_naming(part, group, template, prompt, phrases)


def clip_texts(request: MeasurementRequest, prompts: Sequence[Prompt]) -> Iterator[str]:
    """Return the texts that the CLIP model of ``quality.clip`` embeds.

    These are prompts, prompts that name a group if a method is trained with CLIP, and captions of zero-shot judges.
    """
    yield from (prompt.text for prompt in prompts)
    for mitigation in request.sections:
        yield from mitigation_texts(request, mitigation, prompts) if "clip" in mitigation.trained_with else ()
    yield from _captions(request, request.judge, request.attributes)
    for opinion in request.second_opinions:
        yield from _captions(request, opinion, selected(opinion, request.attributes))


def _captions(request: MeasurementRequest, judge: JudgeKeys, attributes: Audited) -> Iterator[str]:
    if clip_of(judge, request.quality) == request.quality.clip:
        for name, groups in attributes.items():
            for texts in captions_of(name, groups, judge.zero_shot).values():
                yield from texts


def _cut_prompts(section: PromptsConfig, prompts: Sequence[Prompt], reader: TextReader) -> Iterator[Problem]:
    """Report a template that is too long for every occupation once, otherwise each occupation at its own place."""
    refused = [(place, refusal) for place, prompt in enumerate(prompts) if (refusal := reader.refusal(prompt.text))]
    if not refused:
        return
    if len(refused) == len(prompts) or section.occupations == "all":
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


def clip_reader_of(quality: QualityConfig, model: ModelConfig) -> TextReader | None:
    """Return the tokenizer of ``quality.clip``; None if it is not on this machine."""
    source, bundle = quality.clip, bundle_of(model)
    try:
        if source == "bundled":
            return None if bundle is None else bundled_reader(bundle.clip, CLIP)
        if Path(source).is_dir():
            from audit.perception.embedders.clip_transformers import is_transformers_clip, transformers_clip_tokenizer

            if is_transformers_clip(Path(source)):
                return clip_reader(transformers_clip_tokenizer(Path(source)))
            name = f"local-dir:{source}"
        elif names_clip_weights(source) and not source.startswith("hf-hub:"):
            name = source.partition(":")[0]
        else:
            return None
        import open_clip  # takes seconds, which are spent where its weights are named and nowhere else

        return clip_reader(open_clip.get_tokenizer(name))
    except Exception:  # noqa: BLE001 - a directory or name that the check of quality.clip reports
        return None
