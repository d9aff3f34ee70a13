"""Compares the groups that a judge can name with those that a config audits; no weights are loaded.

A config can audit only some groups of an attribute. The judge can still answer with the other groups: an image whose
most probable answer is one of them is outside the audited groups and is not counted in any of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from audit.models.files.untrusted_model import UnfitModelError

Answers = Mapping[str, tuple[str, ...]]
"""Attribute → all groups that a judge distinguishes."""


def unknown_groups(answers: Answers, attribute: str, groups: Sequence[str]) -> tuple[str, ...]:
    """Return the groups that a judge does not know; all of them if it cannot judge the attribute."""
    return tuple(group for group in groups if group not in answers.get(attribute, ()))


def left_out(answers: Answers, attribute: str, groups: Sequence[str]) -> tuple[str, ...]:
    """Return the groups that a judge knows and a config does not audit."""
    return tuple(group for group in answers.get(attribute, ()) if group not in groups)


def cannot_answer(judge: str, answers: Answers, attribute: str, groups: Sequence[str]) -> str | None:
    """Return why a judge cannot classify an attribute; None if it knows all groups.

    Args:
        judge: Its name in a sentence.
        answers: Its attributes and groups.
        attribute: The attribute.
        groups: The groups that the config names.
    """
    if attribute not in answers:
        return f"{judge} cannot judge {attribute!r}. It judges {', '.join(answers)}"
    unknown = unknown_groups(answers, attribute, groups)
    if not unknown:
        return None
    known = ", ".join(answers[attribute])
    return f"{judge} does not know the group {', '.join(map(repr, unknown))} of {attribute!r}. It knows {known}"


def audited_columns(judge: str, answers: Answers, attributes: Mapping[str, Sequence[str]]) -> dict[str, list[int]]:
    """Return, for each audited attribute, the positions of its groups among all answers of a judge.

    Raises:
        UnfitModelError: The judge does not know an attribute or a group.
    """
    for attribute, groups in attributes.items():
        obstacle = cannot_answer(judge, answers, attribute, groups)
        if obstacle is not None:
            raise UnfitModelError(f"{obstacle}; correct attributes, or name another judge")
    return {name: [answers[name].index(group) for group in groups] for name, groups in attributes.items()}
