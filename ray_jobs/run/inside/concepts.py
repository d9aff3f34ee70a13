"""Concepts over time on the workers: a recording, dictionaries made from it, and edits by stage."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from audit.analyses.concepts.blocks import check_blocks, default_blocks
from audit.analyses.concepts.dictionaries import DictionariesRequest
from audit.analyses.concepts.recorded import (
    CONDITIONAL,
    UNCONDITIONAL,
    ConceptRecording,
    RecordingRequest,
    recorded_steps,
)
from audit.analyses.concepts.stored_recording import STAGES, StoredRecording, stage_window
from audit.analyses.stages.request import (
    ALL_STEPS,
    BY_TEXT,
    Arm,
    Asked,
    AskedGroup,
    AskedStyle,
    Kind,
    TrialsRequest,
    neutral_prompt,
)
from audit.analyses.stages.trials import distance_name
from audit.config.optional.concepts import ConceptsConfig, StagesConfig
from audit.config.problems import listing
from audit.config.sections import QualityConfig
from audit.config.slices import Attributes, DissectionRequest
from audit.models.families.registry import steps_here
from audit.models.files.untrusted_model import UnfitModelError
from audit.models.source import model_fingerprint
from audit.perception.judges.registry import judge_name
from audit.perception.segmenters.registry import segmenter_name
from audit.planning.plan import group_phrase
from audit.preflight.prompt_lengths import clip_reader_of, model_reader
from audit.records.inside.concepts import Concepts, Stages
from audit.records.work import Prompt
from audit.results.concepts.by_stage import chosen_strengths, stage_figures
from audit.results.concepts.over_time import OverTime
from audit.results.concepts.pictures import pictures_of
from ray_jobs.run.inside.analyse import PARTS, AnalysisSettings, Request, place_of_parts, run_analysis
from ray_jobs.run.inside.open_set import networks_name
from ray_jobs.run.network import NetworkSettings
from ray_jobs.run.parts import WorkerPool

LOG = logging.getLogger(__name__)

_NEUTRAL = "person"
_STYLE: Final = "style"


@dataclass(frozen=True)
class ConceptsRequest:
    """What is measured.

    Attributes:
        name: Name of the audit.
        concepts: The section of the config.
        dissection: Model, sampling, prompts, attributes and judge.
        quality: Networks that compare pictures.
        prompts: The prompts of the audit.
        blocks: Blocks whose updates are read.
        parts: Parts of the segmenter.
        seed: Seed of the audit.
    """

    name: str
    concepts: ConceptsConfig
    dissection: DissectionRequest
    quality: QualityConfig
    prompts: tuple[Prompt, ...]
    blocks: tuple[str, ...]
    parts: tuple[str, ...]
    seed: int

    @property
    def edited(self) -> tuple[Prompt, ...]:
        """Prompts whose images are edited."""
        return () if self.concepts.stages is None else self.prompts[: self.concepts.stages.prompts]

    @property
    def halves(self) -> tuple[str, ...]:
        """Guidance halves: both, if the model is sampled with guidance."""
        return (CONDITIONAL, UNCONDITIONAL) if self.dissection.sampling.guidance > 1 else (CONDITIONAL,)

    @property
    def recording(self) -> RecordingRequest:
        """What is recorded."""
        section, model = self.concepts, self.dissection.model
        return RecordingRequest(
            model=model,
            segmenter=section.segmenter,
            segmenter_name=segmenter_name(section.segmenter, model),
            blocks=self.blocks,
            halves=self.halves,
            steps=section.steps,
            prompts=self.prompts[: section.prompts],
            images=section.images,
            batch=self.dissection.sampling.batch,
            seed=self.seed,
        )

    def dictionaries(self, directory: str, name: str) -> DictionariesRequest:
        """Return what is made from the recording in a directory, whose name is ``name``."""
        section, recording = self.concepts, self.recording
        tasks = ConceptRecording().tasks(recording)
        numbers = {prompt.id: number for number, prompt in enumerate(recording.prompts)}
        keys = [(numbers[task.prompt.id], task.first + index) for task in tasks for index in range(task.count)]
        return DictionariesRequest(
            recording=StoredRecording(
                directory=directory,
                files=tuple(f"{task.id}.safetensors" for task in tasks),
                prompts=tuple(prompt for prompt, _ in keys),
                indices=tuple(index for _, index in keys),
            ),
            recording_name=name,
            model=self.dissection.model,
            segmenter=section.segmenter,
            blocks=self.blocks,
            halves=self.halves,
            expansion=section.expansion,
            k=section.k,
            sae_steps=section.sae_steps,
            named_above=section.named_above,
            seed=self.seed,
        )

    def as_data(self) -> dict[str, Any]:
        """Return what names its result besides the model, as plain data."""
        return {
            "concepts": self.concepts.model_dump(mode="json"),
            "recording": self.recording.as_data(),
            "sampling": self.dissection.sampling.model_dump(mode="json"),
            "networks": networks_name(self.quality, self.dissection.model),
            "judge": judge_name(self.dissection.judge, self.dissection.model),
            "template": self.dissection.prompts.template,
            "edited": [[prompt.id, prompt.text] for prompt in self.edited],
            "attributes": {name: list(groups) for name, groups in self.dissection.attributes.items()},
        }


def unknown_attributes(section: ConceptsConfig, attributes: Attributes) -> str | None:
    """Return a message if edits are asked for an attribute that is not audited; None if all are."""
    asked = section.stages.attributes if section.stages is not None else None
    unknown = [name for name in asked or () if name not in attributes]
    if not unknown:
        return None
    return (
        f"concepts.stages.attributes: expected audited attributes ({listing(tuple(attributes))}), found "
        f"{listing(unknown)}; remove it, or audit it too"
    )


def cut_text(request: ConceptsRequest) -> str | None:
    """Return a message if the model or CLIP would cut off a prompt that names a group or a style; None otherwise."""
    section, dissection = request.concepts.stages, request.dissection
    if section is None:
        return None
    template, model = dissection.prompts.template, dissection.model
    neutral = neutral_prompt(template, _NEUTRAL)
    asked = _asked(section, dissection.attributes)
    texts = [of.text(template, prompt) for of in asked.values() for prompt in (*request.edited, neutral)]
    for reader in (model_reader(model), clip_reader_of(request.quality, model)):
        refused = None if reader is None else next(filter(None, map(reader.refusal, texts)), None)
        if refused is not None:
            return f"concepts.stages: {refused}"
    return None


def unrecognised_styles(section: ConceptsConfig, attributes: Attributes, quality: QualityConfig) -> str | None:
    """Return a message if styles cannot be told from groups, or no CLIP can recognise them; None otherwise."""
    if section.stages is None or not section.stages.styles:
        return None
    if _STYLE in attributes:
        return (
            f"concepts.stages.styles: expected no attribute with the name {_STYLE!r} beside styles, found one; give "
            "the attribute another name, or remove the styles"
        )
    if quality.clip != "none":
        return None
    return (
        "concepts.stages.styles: expected CLIP, which says whether a picture shows a style, found quality.clip: none; "
        "name a CLIP there, or remove the styles"
    )


def too_few_steps(section: ConceptsConfig, total: int) -> str | None:
    """Return a message if a window has no step, or no recorded one; None if each has.

    Args:
        section: The section of the config.
        total: Steps of the sampler.
    """
    if not all(stage_window(stage, total) for stage in STAGES):
        return (
            f"sampling.steps: expected at least {len(STAGES) + 2} steps, so that the early, middle and final windows "
            f"have one each, found {total}; raise it"
        )
    recorded = recorded_steps(section.steps, total)
    empty = [stage for stage in STAGES if not set(recorded) & set(stage_window(stage, total))]
    if not empty:
        return None
    return (
        f"concepts.steps: expected a recorded step in each window, found none in {listing(empty)} with "
        f"{len(recorded)} of {total} steps; raise it"
    )


def blocks_of(section: ConceptsConfig, shapes: Mapping[str, tuple[int, int, int]]) -> tuple[str, ...]:
    """Return the blocks whose updates are read.

    Args:
        section: The section of the config.
        shapes: Address → (C, H, W) of each module that returns a map.

    Raises:
        UnfitModelError: There are none, one returns no map with height and width, or one has too few channels.
    """
    edited = section.stages.block if section.stages is not None else None
    blocks = tuple(dict.fromkeys((*(section.blocks or default_blocks(shapes)), *([edited] if edited else []))))
    check_blocks(blocks, shapes)
    for block in blocks:
        latents = section.expansion * shapes[block][0]
        if section.k > latents:
            raise UnfitModelError(
                f"concepts.k: expected at most {latents} active latents, the size of the dictionary of {block!r}, "
                f"found {section.k}; lower it, or raise concepts.expansion"
            )
    return blocks


def concepts(request: ConceptsRequest, output: str, pool: WorkerPool) -> Concepts:
    """Measure concepts over time, or resume with the parts that are missing.

    Args:
        request: What is measured.
        output: Path or address of the directory that holds parts.
        pool: Where the tasks run.

    Raises:
        AnalysisError: If a task failed.
    """
    recording = request.recording
    LOG.info("Recording: %d images of %d prompts", recording.images, len(recording.prompts))
    recorded = _settings(request, "concept-recording", recording)
    run_analysis(recorded, output, pool)
    place = place_of_parts(recorded, output)
    asked = request.dictionaries(str(place / PARTS), place.name)
    LOG.info("Dictionaries: %d blocks, %d guidance halves", len(asked.blocks), len(asked.halves))
    dictionaries = _settings(request, "concept-dictionaries", asked)
    over_time = OverTime(request.blocks, request.parts).add_all(run_analysis(dictionaries, output, pool))
    return Concepts(
        name=request.name,
        model=model_fingerprint(request.dissection.model),
        segmenter=recording.segmenter_name,
        parts=request.parts,
        blocks=request.blocks,
        steps=over_time.steps,
        total_steps=steps_here(request.dissection.model, request.dissection.sampling),
        prompts=len(recording.prompts),
        images=len(asked.recording.indices),
        measured=over_time.layout[0].mean.n,
        dictionaries=tuple(over_time.dictionaries),
        layout=tuple(over_time.layout),
        followed=over_time.followed(),
        pictures=pictures_of(over_time.reference, over_time.shown),
        stages=_stages(request, dictionaries, output, pool),
        seed=request.seed,
    )


def _stages(request: ConceptsRequest, dictionaries: AnalysisSettings, output: str, pool: WorkerPool) -> Stages | None:
    """Choose strengths on images of their own, then edit others; None if no edits are asked for."""
    section = request.concepts.stages
    if section is None:
        return None
    place = place_of_parts(dictionaries, output)
    trials = _trials(request, section, str(place / PARTS), place.name)
    LOG.info("Edits by stage: strengths on %d images", trials.images * len(trials.prompts))
    tried = run_analysis(_settings(request, "stage-trials", trials), output, pool)
    chosen = chosen_strengths(tried, section.least_similarity)
    arms = tuple(dict.fromkeys(replace(arm, strength=chosen[arm.kind, arm.stage]) for arm in trials.arms))
    named = [Arm(BY_TEXT[kind], of, ALL_STEPS, 1.0) for kind, of in _kinds(trials.asked)]
    measured = replace(trials, role="measured", arms=(*arms, *named), images=section.images)
    LOG.info("Edits by stage: %d images, %d edits each", section.images * len(trials.prompts), len(measured.arms))
    found = run_analysis(_settings(request, "stage-trials", measured), output, pool)
    figures = stage_figures(found)
    counted = {one.concept for one in figures}
    return Stages(
        block=trials.block[1],
        figures=figures,
        distance=distance_name(request.quality),
        images=section.images * len(trials.prompts),
        tried=section.strengths,
        shown=tuple(concept for concept in trials.asked if concept not in counted),
    )


def _trials(request: ConceptsRequest, section: StagesConfig, directory: str, name: str) -> TrialsRequest:
    """Return the trials of all strengths."""
    blocks = request.blocks
    block = blocks.index(section.block) if section.block is not None else len(blocks) // 2
    asked = _asked(section, request.dissection.attributes)
    kinds: list[tuple[Kind, str]] = [*(("spatial", part) for part in request.parts), *_kinds(asked)]
    arms = [Arm(kind, of, stage, beta) for beta in section.strengths for kind, of in kinds for stage in STAGES]
    return TrialsRequest(
        role="calibration",
        dictionaries=directory,
        dictionaries_name=name,
        block=(block, blocks[block]),
        model=request.dissection.model,
        segmenter=request.concepts.segmenter,
        quality=request.quality,
        quality_name=networks_name(request.quality, request.dissection.model),
        arms=tuple(arms),
        asked=asked,
        template=request.dissection.prompts.template,
        neutral=_NEUTRAL,
        prompts=request.edited,
        images=section.calibration_images,
        batch=request.dissection.sampling.batch,
        features=section.features,
        seed=request.seed,
    )


def _asked(section: StagesConfig, attributes: Attributes) -> dict[str, Asked]:
    """Return what is asked for in the whole picture, by concept."""
    groups: dict[str, Asked] = {
        f"{attribute}: {group}": AskedGroup(attribute, code, group_phrase(attribute, group))
        for attribute, names in attributes.items()
        if section.attributes is None or attribute in section.attributes
        for code, group in enumerate(names)
    }
    return groups | {f"{_STYLE}: {words}": AskedStyle(words) for words in section.styles}


def _kinds(asked: Mapping[str, Asked]) -> list[tuple[Kind, str]]:
    """Return the kind of the edit for each concept of the whole picture."""
    return [(_STYLE if isinstance(of, AskedStyle) else "global", concept) for concept, of in asked.items()]


def _settings(request: ConceptsRequest, name: str, asked: Request) -> AnalysisSettings:
    dissection = request.dissection
    network = NetworkSettings(dissection.model, dissection.sampling, dissection.lens.hookpoint)
    return AnalysisSettings(name, asked, network, dissection.judge, dissection.attributes)
