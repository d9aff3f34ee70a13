"""Config section of arms that look at each image first and change only what has to change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated

from pydantic import Field

from audit.config.fields import EachOnce, GroupName, ModulePath, OthersNoneOrNames, Section, Text
from audit.config.problems import Location, Problem, listing, suggestion


class IfNeededConfig(Section):
    """If needed: each image is made without the intervention first, and the judge of the audit looks at it.

    An image that shows its assigned groups already stays as it is. The others are made again with the intervention,
    from the same noise. Captions then name what the first image shows in other attributes, so that it stays.
    """

    keep: OthersNoneOrNames = "others"
    """Attributes whose groups the captions name: ``others`` (all audited ones that the arm does not steer), ``none``,
    or a list."""
    blocks: Annotated[tuple[ModulePath, ...], Field(strict=False, max_length=100), EachOnce] = ()
    """Blocks of the network whose cross-attention reads these captions, whatever the strength of the method. If empty,
    captions of ``method: prompt`` name the groups too, and for other methods the whole network reads the caption."""
    words: dict[Text, dict[GroupName, Text]] = Field({})
    """Word for a group in the caption, by attribute: ``age: {20-29: twenty-something}``. A group without a word is
    named by its own name."""

    @property
    def edited_modules(self) -> tuple[str, ...]:
        """The text that the blocks read, as a place."""
        return tuple(f"text:{block}" for block in self.blocks)

    def kept(self, attributes: Sequence[str], steered: Sequence[str]) -> tuple[str, ...]:
        """Return the attributes whose groups captions name.

        Args:
            attributes: All audited attributes.
            steered: Those that the arm steers.
        """
        return kept_of(self.keep, attributes, steered)


def kept_of(keep: str | Sequence[str], attributes: Sequence[str], steered: Sequence[str]) -> tuple[str, ...]:
    """Return the attributes that a value of ``keep`` selects, see :meth:`IfNeededConfig.kept`."""
    if isinstance(keep, str):
        return tuple(name for name in attributes if keep == "others" and name not in steered)
    return tuple(keep)


def if_needed_problems(
    at: Location, section: IfNeededConfig, steered: Sequence[str], attributes: Mapping[str, Sequence[str]]
) -> Iterator[Problem]:
    """Find attributes that cannot be kept, and words for groups that do not exist.

    Args:
        at: Location of the section.
        section: The section.
        steered: Attributes that the arm steers.
        attributes: Attribute → groups.

    Yields:
        Problems, each with its location.
    """
    known, reads = tuple(attributes), (("attributes",),)
    for index, name in enumerate(() if isinstance(section.keep, str) else section.keep):
        if name not in known:
            message = f"expected an audited attribute ({listing(known)}), found {name!r}{suggestion(name, known)}"
            yield Problem((*at, "keep", index), message, reads)
        elif name in steered:
            message = f"expected attributes that the arm does not steer, found {name!r}; remove it"
            yield Problem((*at, "keep", index), message, reads)
    kept = section.kept(known, steered)
    for name, words in section.words.items():
        if name not in kept:
            message = f"expected an attribute that is kept ({listing(kept) or 'none'}), found {name!r}"
            yield Problem((*at, "words", name), message + suggestion(name, kept), (*reads, (*at, "keep")))
            continue
        groups = attributes.get(name, ())
        for group in words:
            if group not in groups:
                message = f"expected a group of {name} ({listing(groups)}), found {group!r}{suggestion(group, groups)}"
                yield Problem((*at, "words", name, group), message, reads)
