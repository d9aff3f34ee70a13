"""Model, sampler and judge of an audit, and the limits of each, for the first screen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath

from audit.config.fields import GENERATED_HERE, UNCONDITIONAL, WIDE, ZERO_SHOT
from audit.planning.plan import NO_PROMPT
from audit.records.estimates import percent
from reports.index.lookups import primary_attribute, unclassified
from reports.index.settings import setting
from reports.index.story import Story, label
from reports.words.closed_models import audited, how_read, is_closed
from reports.words.closed_models import limits as closed_limits
from reports.words.sampling import published_words, scheduler_name


@dataclass(frozen=True)
class Instrument:
    """A part of the measurement that the figures depend on.

    Attributes:
        name: ``Model``, ``Sampler`` or ``Judge``.
        used: Which one was used.
        limits: What the figures cannot show because of it.
    """

    name: str
    used: str
    limits: str


_BUNDLED: Mapping[str, str] = {
    "calibration": "calibration model",
    WIDE: "wide calibration model",
    UNCONDITIONAL: "unconditional calibration model",
    "rendered": "renderer of the calibration model",
}


_JUDGES: Mapping[str, str] = {"bundled": "Bundled classifier", ZERO_SHOT: "Zero-shot CLIP"}


def instruments(story: Story) -> tuple[Instrument, ...]:
    """Return model, sampler and judge of an audit, each with its limits."""
    return (_model(story), _sampler(story), _judge(story))


def _model(story: Story) -> Instrument:
    config = story.result.config
    source, model = setting(config, "model", "source"), config.get("model") or {}
    if source in GENERATED_HERE:
        kind = _BUNDLED[source]
        own = ", another world" if model.get("world") else ""
        limits = "Its bias was planted on purpose. The figures show that the audit works. They say nothing about any "
        return Instrument("Model", f"Bundled {kind}{own}", f"{limits}published model.")
    if is_closed(config):
        return Instrument("Model", audited(story), closed_limits(story))
    revision = f", revision {model['revision']}" if model.get("revision") else ""
    return Instrument(
        "Model",
        f"{source}{revision}",
        "The figures hold for these weights and prompts, not for other versions or other wording.",
    )


def _sampler(story: Story) -> Instrument:
    config = story.result.config
    if is_closed(config):
        return Instrument("Sampler", *how_read(story))
    sampling = story.result.provenance.get("sampling")
    settings = f"{setting(config, 'sampling', 'steps')} steps"
    if story.prompts != (NO_PROMPT.id,):
        settings += f", guidance {setting(config, 'sampling', 'guidance')}"
    if setting(config, "model", "source") == "rendered":
        return Instrument("Sampler", "None; images are drawn by a program", "No denoising takes place.")
    if not isinstance(sampling, Mapping):
        return Instrument("Sampler", settings, "The run does not record which sampler was used.")
    limits = f"{published_words(sampling)} Other steps or guidance change the shares."
    return Instrument("Sampler", f"{scheduler_name(sampling)}, {settings}", limits)


def _judge(story: Story) -> Instrument:
    config = story.result.config
    source = setting(config, "judge", "source")
    used = _JUDGES.get(source, PurePath(source).name)
    confidence = setting(config, "judge", "min_confidence")
    return Instrument("Judge", f"{used}, confidence at least {confidence}", " ".join(_judge_limits(story)))


def _judge_limits(story: Story) -> Iterator[str]:
    """Yield sentences about the judge's accuracy, if known, and about the images that it leaves unclassified."""
    yield "It reads perceived presentation, never identity."
    baseline = [row for row in story.result.overall if row.arm == story.arms[0] and row.shares]
    known = [f"{label(row.attribute)} {percent(row.corrected.accuracy.value)}" for row in baseline if row.corrected]
    if known:
        yield f"Accuracy on labelled images: {', '.join(known)}."
    unknown = [label(row.attribute) for row in baseline if row.corrected is None and not row.uncorrectable]
    if unknown:
        yield f"Errors in {', '.join(unknown)} are not corrected."
    confused = [label(row.attribute) for row in baseline if row.uncorrectable]
    if confused:
        yield f"It confuses groups of {', '.join(confused)} too often to correct."
    attribute = primary_attribute(story).name
    missing = unclassified(story, attribute, story.arms[0])
    yield f"{percent(missing.value)} of the baseline's images have no {label(attribute)} label."
