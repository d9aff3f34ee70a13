"""Checks of a config that need more than one field: references between sections and conflicting settings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import urlsplit

from audit.config.fields import CLOSED, IMAGES, LOOPBACK, RESOURCES_OF_RAY, WITHOUT_NETWORK, Section
from audit.config.judges import SECTIONS, judge_problems
from audit.config.kinds.closed import closed_problems
from audit.config.mitigations.arms import (
    ArmConfig,
    keeping_blocks,
    kept_attributes,
    located,
    parts_of,
    steered_attributes,
)
from audit.config.mitigations.edits import DiffLensConfig, GatedCrossAttentionConfig
from audit.config.mitigations.if_needed import IfNeededConfig, if_needed_problems
from audit.config.mitigations.joint import JointConfig, joint_problems
from audit.config.mitigations.registry import MitigationConfig
from audit.config.mitigations.section import PROMPT_TEXT, ProjectableEdit
from audit.config.mitigations.texts import PromptConfig
from audit.config.mitigations.weights import FinetuningConfig
from audit.config.problems import Location, Problem, listing, suggestion
from audit.config.sections import (
    AlertsConfig,
    AuditSections,
    FeaturesConfig,
    GateConfig,
    SecondOpinionConfig,
    TargetFileConfig,
    WorkersConfig,
    clip_of,
    with_clip,
)
from audit.config.shares import category_problems, share_problems
from audit.records.work import BASELINE
from audit.storage.place import ObjectPath, PlaceError, place_of


def disagreements(config: AuditSections) -> Iterator[Problem]:
    """Find unknown references between sections, and settings that conflict with each other."""
    yield from closed_problems(config.model.source, _changed(config.model))
    yield from _impossible_without_network(config)
    yield from _two_stage_disagreements(config)
    yield from _mistaken_targets(config)
    yield from _unknown_lens_attributes(config)
    yield from _without_prompts(config)
    yield from _unusable_arm_names(config)
    for place, mitigation in located(config.mitigations):
        yield from _mitigation_disagreements(config, place, mitigation)
    for index, arm in enumerate(config.mitigations):
        if isinstance(arm, JointConfig):
            yield from joint_problems(("mitigations", index), arm, config.attributes)
        yield from _if_needed_disagreements(config, ("mitigations", index), arm)
    yield from _judge_disagreements(config)
    yield from _opinion_disagreements(config)
    yield from _resources_of_ray(config.workers)
    yield from _webhook(config.alerts)
    yield from _output(config)
    yield from _reference(config)
    yield from _features(config.quality.features)
    yield from _repeated_gate_names(config)
    for index, gate in enumerate(config.gates):
        at: Location = ("gates", index)
        yield from _gate_limit(at, gate)
        yield from _gate_attribute(config, at, gate)
        yield from _gate_place(config, at, gate)
        yield from _gate_correction(at, gate)
        if gate.measure == "face_found" and not config.judge.looks_for_faces:
            message = "expected a judge that looks for faces, found none for 'face_found'; set judge.faces"
            yield Problem((*at, "measure"), message, reads=(("judge", "source"), ("judge", "faces")))


def _two_stage_disagreements(config: AuditSections) -> Iterator[Problem]:
    stages, at = config.prompts.two_stage, ("prompts", "two_stage")
    if stages is None:
        return
    known, pilot = tuple(config.attributes), config.prompts.images_per_prompt
    reads: tuple[Location, ...] = (("attributes",), ("prompts", "images_per_prompt"))
    if stages.attribute not in known:
        hint = suggestion(stages.attribute, known)
        message = f"expected an audited attribute ({listing(known)}), found {stages.attribute!r}{hint}"
        yield Problem((*at, "attribute"), message, reads)
    elif stages.group is not None and stages.group not in config.attributes[stages.attribute]:
        groups = config.attributes[stages.attribute]
        message = f"expected a group of {stages.attribute} ({listing(groups)}), found {stages.group!r}"
        yield Problem((*at, "group"), message + suggestion(stages.group, groups), (*reads, (*at, "attribute")))
    if pilot < 2:
        message = f"expected a pilot of at least 2 images per prompt, found {pilot}; raise it"
        yield Problem(("prompts", "images_per_prompt"), message, (at,))
    elif stages.max is not None and stages.max < pilot:
        message = f"expected at least the {pilot} images of the pilot, found {stages.max}; raise it"
        yield Problem((*at, "max"), message, reads)


def _mistaken_targets(config: AuditSections) -> Iterator[Problem]:
    known = tuple(config.attributes)
    for name, choice in config.targets.items():
        at: Location = ("targets", name)
        if name not in known:
            message = f"expected an audited attribute ({listing(known)}), found {name!r}{suggestion(name, known)}"
            yield Problem(at, message, reads=(("attributes",),))
        elif isinstance(choice, dict):
            yield from _unless_inputs_have_errors(share_problems(at, choice, config.attributes[name]))
        elif isinstance(choice, TargetFileConfig) and choice.categories is not None:
            found = category_problems((*at, "categories"), choice.categories, config.attributes[name])
            yield from _unless_inputs_have_errors(found)


def _unless_inputs_have_errors(problems: Iterator[Problem]) -> Iterator[Problem]:
    """Record what each check read. The problem is not reported if the attributes or the value itself have an error."""
    return (replace(problem, reads=(("attributes",), problem.location)) for problem in problems)


def _unknown_lens_attributes(config: AuditSections) -> Iterator[Problem]:
    if "attributes" not in config.lens.model_fields_set:
        return
    known = tuple(config.attributes)
    for index, name in enumerate(config.lens.attributes):
        if name not in known:
            message = f"expected an audited attribute ({listing(known)}), found {name!r}{suggestion(name, known)}"
            yield Problem(("lens", "attributes", index), message, reads=(("attributes",),))


def _changed(section: Section) -> dict[str, object]:
    """Return the keys of a section whose values differ from the defaults."""
    fields = type(section).model_fields
    return {name: value for name, value in section if value != fields[name].get_default(call_default_factory=True)}


def _impossible_without_network(config: AuditSections) -> Iterator[Problem]:
    """Find settings that need a network, for a model that has none, and settings that a closed model ignores."""
    source, reads = config.model.source, (("model", "source"),)
    if config.prompts.attribution and source in WITHOUT_NETWORK:
        message = f"expected no attribution for {source!r}, which has no network to analyse, found true; remove it"
        yield Problem(("prompts", "attribution"), message, reads)
    if source not in CLOSED:
        return
    for key in _changed(config.lens).keys() - {"attributes"}:
        message = f"expected no lens for {source!r}, which has no network to observe or edit, found lens.{key}"
        yield Problem(("lens", key), f"{message}; remove it", reads)
    for key in _changed(config.sampling).keys() - {"batch"}:
        message = f"expected no sampling.{key} for {source!r}, which is not sampled here, found one; remove it"
        yield Problem(("sampling", key), message, reads)
    if config.prompts.occupations == "none":
        message = f"expected prompts for {source!r}, since pictures are compared by prompt, found 'none'; name them"
        yield Problem(("prompts", "occupations"), message, reads)
    if source == IMAGES:
        for key in _changed(config.prompts).keys() & {"images_per_prompt", "two_stage"}:
            message = f"expected no {key} for 'images', which uses all pictures of each prompt, found one; remove it"
            yield Problem(("prompts", key), message, reads)


def _without_prompts(config: AuditSections) -> Iterator[Problem]:
    """Find settings that need a prompt, in an audit of a model that reads none."""
    reads: tuple[Location, ...] = (("prompts", "occupations"),)
    if config.prompts.occupations != "none":
        return
    if config.sampling.guidance != 1:
        found = f"found {config.sampling.guidance:g}; set it to 1"
        message = f"expected 1 for prompts: none, since guidance compares a prompt with an empty one, {found}"
        yield Problem(("sampling", "guidance"), message, reads)
    if config.lens.baseline == "counterfactual":
        message = "expected 'zero' for prompts: none, found 'counterfactual', which names groups in prompts"
        yield Problem(("lens", "baseline"), message, reads)
    for place, mitigation in located(config.mitigations):
        if mitigation.names_groups:
            message = f"expected a method that names no group in a prompt, found {mitigation.method!r}; remove it"
            yield Problem((*place, "method"), message, reads)
    for index, gate in enumerate(config.gates):
        if gate.measure == "prompt_shown":
            message = "expected a measure that a model without prompt has, found 'prompt_shown'; remove it"
            yield Problem(("gates", index, "measure"), message, reads)


def _unusable_arm_names(config: AuditSections) -> Iterator[Problem]:
    seen: set[str] = set()
    arms = [(("mitigations", index), arm.name) for index, arm in enumerate(config.mitigations)]
    parts = [
        (("mitigations", index, "parts", arm.attributes.index(part.attribute)), part.name)
        for index, arm in enumerate(config.mitigations)
        if isinstance(arm, JointConfig)
        for part in {part.attribute: part for part in arm.parts}.values()
    ]
    for place, name in (*arms, *parts):
        location: Location = (*place, "name")
        if name.lower() == BASELINE:
            message = f"expected a unique name, found {BASELINE!r}, the name of the arm without intervention; rename it"
            yield Problem(location, message)
        elif name.lower() in seen:  # file systems may ignore case
            yield Problem(location, f"expected a unique name, found {name!r} again; rename one")
        seen.add(name.lower())


def _words_without_a_group(groups: tuple[str, ...] | None, at: Location, mitigation: PromptConfig) -> Iterator[Problem]:
    for group in mitigation.words:
        if groups is not None and group not in groups:
            message = (
                f"expected a group of {mitigation.attribute} ({listing(groups)}), found {group!r}"
                f"{suggestion(group, groups)}"
            )
            yield Problem((*at, "words", group), message, reads=(("attributes",), (*at, "attribute")))


def _mitigation_disagreements(config: AuditSections, at: Location, mitigation: MitigationConfig) -> Iterator[Problem]:
    known, name = tuple(config.attributes), mitigation.attribute
    unknown_to_lens = name not in config.lens.attributes and set(config.lens.attributes) <= set(known)
    if name not in known:
        message = f"expected an audited attribute ({listing(known)}), found {name!r}{suggestion(name, known)}"
        yield Problem((*at, "attribute"), message, reads=(("attributes",),))
    elif mitigation.uses_lens and unknown_to_lens:
        known_to_lens = listing(config.lens.attributes)
        message = f"expected an attribute of the lens ({known_to_lens}), found {name!r}; add it to lens.attributes"
        yield Problem((*at, "attribute"), message, reads=(("attributes",), ("lens", "attributes")))
    elif isinstance(mitigation.target, dict):
        found = share_problems((*at, "target"), mitigation.target, config.attributes[name])
        yield from _unless_inputs_have_errors(found)
    yield from _method_disagreements(config, at, mitigation)
    if config.model.source in WITHOUT_NETWORK:
        message = (
            f"expected no mitigation for {config.model.source!r}, which has no network to edit, found one; remove it"
        )
        yield Problem(at, message, reads=(("model", "source"),))


def _method_disagreements(config: AuditSections, at: Location, mitigation: MitigationConfig) -> Iterator[Problem]:
    """Find keys of one method that do not go together, or need another section."""
    yield from _edit_disagreements(config, at, mitigation)
    yield from _training_disagreements(config, at, mitigation)
    if isinstance(mitigation, GatedCrossAttentionConfig) and mitigation.gate and mitigation.window[0] > 0:
        message = (
            f"expected a window that begins at 0, where the gate looks at the image, found {mitigation.window[0]:g}; "
            "set gate: false, or another window"
        )
        yield Problem((*at, "window"), message)
    if isinstance(mitigation, PromptConfig):
        yield from _words_without_a_group(config.attributes.get(mitigation.attribute), at, mitigation)
        if mitigation.window != (0.0, 1.0) and not mitigation.blocks:
            message = "expected blocks beside a window, found none; name the blocks that read the caption, or remove it"
            yield Problem((*at, "window"), message)


def _edit_disagreements(config: AuditSections, at: Location, mitigation: MitigationConfig) -> Iterator[Problem]:
    """Find a DiffLens edit without a strength that the lens has, and places whose change cannot be projected."""
    if (
        isinstance(mitigation, DiffLensConfig)
        and mitigation.strength is None
        and not mitigation.is_as_searched(config.lens.edit)
    ):
        message = (
            "expected a strength for this edit, found none; set strength, because the lens has strengths only for"
            f" edit: {config.lens.edit} (lens.edit) with reverse_step: symmetric, others: lowered, the whole window "
            "and no projection"
        )
        yield Problem((*at, "name"), message)
    if isinstance(mitigation, ProjectableEdit) and mitigation.project is not None:
        skips = next((place for place in mitigation.edited_modules if place.startswith("skips:")), None)
        if skips is not None:
            message = (
                f"expected places with channels, whose components are few, found {skips!r}; edit the output of a "
                "module, or remove project"
            )
            yield Problem((*at, "project"), message, reads=((*at, "hookpoints"),))


def _if_needed_disagreements(config: AuditSections, at: Location, arm: ArmConfig) -> Iterator[Problem]:
    """Find arms that cannot look at an image first."""
    section = arm.if_needed
    if section is None:
        return
    place: Location = (*at, "if_needed")
    kept = kept_attributes(arm, tuple(config.attributes))
    yield from if_needed_problems(place, section, steered_attributes(arm), config.attributes)
    if config.judge.source.lower().endswith(".csv"):
        message = "expected a judge that looks at images while they are made, found labels by hand"
        yield Problem(place, f"{message}; remove if_needed, or name another judge", reads=(("judge", "source"),))
    for part in parts_of(arm):
        if not part.steers_images:
            message = f"expected a method that steers single images, found {part.method!r}, which changes the model"
            yield Problem(place, f"{message}; remove if_needed", reads=((*at, "method"),))
    if kept:
        yield from _keeping_disagreements(config, place, arm, section)
    elif section.blocks:
        message = "expected no blocks where no attribute is kept, found some; remove them, or name attributes in keep"
        yield Problem((*place, "blocks"), message, reads=(("attributes",), (*place, "keep")))


def _keeping_disagreements(
    config: AuditSections, place: Location, arm: ArmConfig, section: IfNeededConfig
) -> Iterator[Problem]:
    """Find captions that name groups which must stay, and that nothing can read."""
    if config.prompts.occupations == "none":
        message = "expected keep: none for prompts: none, since captions name what stays, found attributes"
        yield Problem((*place, "keep"), f"{message}; write keep: none", reads=(("prompts", "occupations"),))
    for part in parts_of(arm):
        if isinstance(part, PromptConfig) and part.strength != 1:
            message = f"expected strength: 1 beside captions that keep attributes, found {part.strength}, which would"
            yield Problem(place, f"{message} scale what must stay too; remove the strength, or write keep: none")
    rivals = [part.method for part in parts_of(arm) if PROMPT_TEXT in part.used_alone]
    if section.blocks and "prompt" in rivals:
        message = "expected no blocks beside a caption that the whole network reads, found some"
        yield Problem((*place, "blocks"), f"{message}; remove them, or give the caption blocks of its own")
    if keeping_blocks(arm) == () and rivals:
        message = f"expected blocks beside {rivals[0]!r}, which changes the text of the whole prompt, found none"
        yield Problem(place, f"{message}; name blocks that read the caption, or write keep: none")


def _training_disagreements(config: AuditSections, at: Location, mitigation: MitigationConfig) -> Iterator[Problem]:
    """Find terms of a loss whose network the config does not name, and batches that train nothing."""
    if "clip" in mitigation.trained_with and config.quality.clip == "none":
        message = f"expected a CLIP model for the loss of {mitigation.method}, found none; set quality.clip"
        yield Problem((*at, "method"), message, reads=(("quality", "clip"),))
    if "outside" in mitigation.trained_with and config.quality.outside is None:
        message = (
            f"expected a segmenter of what {mitigation.method} may change, found none; set quality.outside: {{}} for "
            "the calibration model, else the directory of a CLIPSeg model with its parts"
        )
        yield Problem((*at, "method"), message, reads=(("quality", "outside"),))
    if not isinstance(mitigation, FinetuningConfig):
        return
    yield from _batch_disagreements(config, at, mitigation)
    if mitigation.dino_weight and config.quality.dino is None:
        message = "expected weights of DINOv2 for this term of the loss, found none; set quality.dino, or remove it"
        yield Problem((*at, "dino_weight"), message, reads=(("quality", "dino"),))


def _batch_disagreements(config: AuditSections, at: Location, mitigation: FinetuningConfig) -> Iterator[Problem]:
    """Find batches larger than what they are drawn from, and batches too small to assign any image."""
    images, noises = mitigation.images_per_step, mitigation.noises
    if images > noises:
        message = f"expected at most the {noises:,} noises that images are drawn from, found {images:,}; raise noises"
        yield Problem((*at, "images_per_step"), f"{message}, or lower this", reads=((*at, "noises"),))
    groups, target = config.attributes.get(mitigation.attribute, ()), mitigation.target
    if not groups or (isinstance(target, dict) and any(share_problems((*at, "target"), target, groups))):
        return
    most, least = mitigation.most_certain(groups), 1 - mitigation.uncertainty
    if most < least:
        message = (
            f"expected images enough that one can be assigned to a group with probability {least:.3g} (1 − uncertainty)"
            f", found {images}, of which none can reach more than {most:.3g}, so that nothing would be aligned; raise "
            "images_per_step, or uncertainty"
        )
        reads = (("attributes",), *((*at, key) for key in ("attribute", "target", "uncertainty")))
        yield Problem((*at, "images_per_step"), message, reads=reads)


def _judge_disagreements(config: AuditSections) -> Iterator[Problem]:
    yield from judge_problems(("judge",), config.judge, config.attributes)
    if clip_of(config.judge, config.quality) == "none":
        message = "expected a CLIP model for 'zero-shot', found quality.clip: none; name one in judge.zero_shot.clip"
        yield Problem(("judge", "source"), message, reads=(("quality", "clip"),))


def _opinion_disagreements(config: AuditSections) -> Iterator[Problem]:
    known, names = tuple(config.attributes), [opinion.name for opinion in config.second_opinions]
    for index, opinion in enumerate(config.second_opinions):
        at: Location = ("second_opinions", index)
        yield from judge_problems(at, opinion, known)
        if opinion.name in names[:index]:
            message = f"expected a unique name, found {opinion.name!r} again; rename one"
            yield Problem((*at, "name"), message)
        if _labels_alike(config, opinion):
            message = (
                f"expected a judge other than judge.source, found {opinion.source!r} again; name another judge, or "
                "remove this one"
            )
            yield Problem((*at, "source"), message, reads=(("judge", "source"),))
        if clip_of(opinion, config.quality) == "none":
            message = "expected a CLIP model for 'zero-shot', found quality.clip: none; name one, or remove this judge"
            yield Problem((*at, "name"), message, reads=(("quality", "clip"),))
        for position, name in enumerate(opinion.attributes or ()):
            if name not in known:
                message = f"expected an audited attribute ({listing(known)}), found {name!r}{suggestion(name, known)}"
                yield Problem((*at, "attributes", position), message, reads=(("attributes",),))


def _labels_alike(config: AuditSections, opinion: SecondOpinionConfig) -> bool:
    """Return whether a second judge gives the same labels as the judge: the same source with the same settings."""
    judge, quality = config.judge, config.quality
    sections = (with_clip(judge, quality), with_clip(opinion, quality))
    return all(getattr(sections[0], key) == getattr(sections[1], key) for key in ("source", "face_settings", *SECTIONS))


def _resources_of_ray(workers: WorkersConfig) -> Iterator[Problem]:
    for name, remedy in RESOURCES_OF_RAY.items():
        if name in workers.resources:
            message = f"expected a custom resource of the cluster, found {name!r}, which is built into Ray; {remedy}"
            yield Problem(("workers", "resources", name), message)


def _webhook(alerts: AlertsConfig) -> Iterator[Problem]:
    if alerts.webhook is None:
        return
    at: Location = ("alerts", "webhook")
    try:
        parts = urlsplit(alerts.webhook)
        host, scheme, secret = parts.hostname, parts.scheme, parts.username or parts.password
    except ValueError:
        host, scheme, secret = None, "", None
    if not host or not (scheme == "https" or (scheme == "http" and host in LOOPBACK)):
        message = "expected an https address (http only for this machine), found another address; correct it"
        yield Problem(at, message)
    elif secret:
        message = (
            "expected an address without user name and password, found one with them; remove them and set secret_env"
        )
        yield Problem(at, message)
    if alerts.secret_env is None:
        message = "expected secret_env with the webhook, found none; set it, so that receivers can verify signatures"
        yield Problem(at, message)


def _output(config: AuditSections) -> Iterator[Problem]:
    try:
        place = place_of(config.output)
    except PlaceError as error:
        yield Problem(("output",), str(error))
        return
    if isinstance(place, ObjectPath) and config.tracking.enabled and config.tracking.uri is None:
        message = (
            f"expected a tracking server or database, because {place} is an object store and cannot hold a database "
            "file, found none; set tracking.uri, or tracking.enabled: false"
        )
        yield Problem(("tracking", "uri"), message, reads=(("output",), ("tracking", "enabled")))


def _reference(config: AuditSections) -> Iterator[Problem]:
    if config.quality.reference is not None and config.quality.features == "none":
        message = "expected a feature network for reference images, found quality.features: none"
        yield Problem(
            ("quality", "reference"), f"{message}; name one, or remove this", reads=(("quality", "features"),)
        )


def _features(features: str | FeaturesConfig) -> Iterator[Problem]:
    """Find keys that the network does not use."""
    if isinstance(features, str) or features.network == "fid_inception":
        return
    at: Location = ("quality", "features")
    reads = ((*at, "network"),)
    if features.resize not in (None, "pil_bicubic"):
        message = f"expected pil_bicubic for {features.network}, which is only used with it, found {features.resize}"
        yield Problem((*at, "resize"), f"{message}; remove it", reads)
    if features.own_weights:
        message = (
            f"expected no own_weights for {features.network}, whose weights are never compared with published ones"
        )
        yield Problem((*at, "own_weights"), f"{message}, found true; remove it", reads)


def _repeated_gate_names(config: AuditSections) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, gate in enumerate(config.gates):
        if gate.name in seen:
            message = f"expected a unique name, found {gate.name!r} again; rename one"
            yield Problem(("gates", index, "name"), message)
        seen.add(gate.name)


def _gate_limit(at: Location, gate: GateConfig) -> Iterator[Problem]:
    limits = {side: limit for side in ("max", "min") if (limit := getattr(gate, side)) is not None}
    if len(limits) != 1:
        found = "both" if limits else "none"
        yield Problem((*at, "name"), f"expected one limit, max or min, found {found}; a gate needs exactly one")
    for side, limit in limits.items():
        if not gate.kind.lowest <= limit <= gate.kind.highest:
            span = f"{gate.kind.lowest:g} to {gate.kind.highest:.4g}"
            yield Problem((*at, side), f"expected a limit that {gate.measure} can reach ({span}), found {limit:g}")


def _gate_attribute(config: AuditSections, at: Location, gate: GateConfig) -> Iterator[Problem]:
    known, name = tuple(config.attributes), gate.attribute
    reads: tuple[Location, ...] = (("attributes",), (*at, "measure"))
    if not gate.kind.of_attribute:
        if name is not None:
            message = f"expected no attribute for {gate.measure}, which does not use one, found {name!r}; remove it"
            yield Problem((*at, "attribute"), message, reads)
    elif name is None:
        message = f"expected an audited attribute ({listing(known)}) for {gate.measure}, found none; add it"
        yield Problem((*at, "measure"), message, reads)
    elif name not in known:
        message = f"expected an audited attribute ({listing(known)}), found {name!r}{suggestion(name, known)}"
        yield Problem((*at, "attribute"), message, reads)
    elif gate.group is not None and gate.group not in config.attributes[name]:
        groups = config.attributes[name]
        message = f"expected a group of {name} ({listing(groups)}), found {gate.group!r}"
        yield Problem((*at, "measure"), message + suggestion(gate.group, groups), reads)


def _gate_correction(at: Location, gate: GateConfig) -> Iterator[Problem]:
    if not gate.correct and not gate.kind.of_attribute:
        message = f"expected no 'correct' for {gate.measure}, which uses no perceived groups, found false; remove it"
        yield Problem((*at, "correct"), message, reads=((*at, "measure"),))


def _gate_place(config: AuditSections, at: Location, gate: GateConfig) -> Iterator[Problem]:
    arms = (BASELINE, *(mitigation.name for mitigation in config.mitigations))
    if gate.arm not in arms:
        message = f"expected an arm ({listing(arms)}), found {gate.arm!r}{suggestion(gate.arm, arms)}"
        yield Problem((*at, "arm"), message, reads=(("mitigations",),))
    elif gate.kind.edited and gate.arm == BASELINE:
        message = f"expected the name of a mitigation for {gate.measure}, which compares an arm with the baseline"
        yield Problem((*at, "arm"), f"{message}, found {BASELINE!r}; name one", reads=((*at, "measure"),))
    if not gate.kind.of_prompt and gate.prompt != "overall":
        message = f"expected 'overall' for {gate.measure}, a measure of whole arms, found {gate.prompt!r}; remove it"
        yield Problem((*at, "prompt"), message, reads=((*at, "measure"),))
    network = {"clip_i": "clip", "kid": "features", "dino_i": "dino", "lpips": "lpips"}.get(gate.measure)
    if network is not None and getattr(config.quality, network) in ("none", None):
        unset = "'none'" if network in ("clip", "features") else "not set"
        message = f"expected a measure that is made, found {gate.measure!r} though quality.{network} is {unset}"
        yield Problem((*at, "measure"), message, reads=(("quality", network),))
