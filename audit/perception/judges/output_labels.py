"""The meaning of a classifier's outputs: the name of each, and the outputs whose probabilities a group sums up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from audit.perception.judges.answers import Answers

if TYPE_CHECKING:
    from torch import Tensor

    from audit.perception.judges.perceived import FloatArray

Groups = Mapping[str, Mapping[str, tuple[str, ...]]]
"""Attribute → group → names of outputs."""


@dataclass(frozen=True)
class OutputLabels:
    """Names of a classifier's outputs, and the groups that they are summed into.

    The outputs of one attribute are one softmax, as in a network with one head for each attribute. Groups refer to
    outputs by name, never by position.

    Attributes:
        outputs: Name of each output, in the network's order; None for an output that has no meaning.
        groups: Attribute → group → names of its outputs.
    """

    outputs: tuple[str | None, ...]
    groups: Groups

    @property
    def answers(self) -> Answers:
        """Attribute → groups."""
        return {attribute: tuple(groups) for attribute, groups in self.groups.items()}

    def columns(self, attribute: str) -> dict[str, tuple[int, ...]]:
        """Return the positions of each group's outputs."""
        groups = self.groups[attribute]
        return {group: tuple(self.outputs.index(name) for name in names) for group, names in groups.items()}

    def shares(self, logits: Tensor, attribute: str) -> FloatArray:
        """Return the softmax over the outputs of an attribute, summed by group: ``(n, groups)``.

        Args:
            logits: Of all outputs, ``(n, outputs)``.
            attribute: The attribute.
        """
        import torch

        groups = self.columns(attribute).values()
        owners = torch.tensor([place for place, columns in enumerate(groups) for _ in columns])
        shares = logits.float()[:, [column for columns in groups for column in columns]].softmax(1)
        summed: FloatArray = torch.zeros(len(shares), len(groups)).index_add_(1, owners, shares).numpy()
        return summed

    def log_shares(self, logits: Tensor, attribute: str) -> Tensor:
        """Return the logarithms of :meth:`shares` with gradients, ``(n, groups)``."""
        import torch

        groups = tuple(self.columns(attribute).values())
        logs = logits.float()[:, [column for columns in groups for column in columns]].log_softmax(1)
        parts = torch.split(logs, [len(columns) for columns in groups], 1)
        return torch.stack([part.logsumexp(1) for part in parts], 1)


def merged_words(groups: Groups, attributes: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield a sentence for each audited attribute with a group that sums several outputs.

    Args:
        groups: Attribute → group → names of outputs.
        attributes: Attribute → audited groups.
    """
    for attribute, audited in attributes.items():
        merged = {group: names for group, names in groups.get(attribute, {}).items() if len(names) > 1}
        if merged:
            parts = (f"{group} is {' + '.join(names)}" for group, names in merged.items())
            left_out = [group for group in groups[attribute] if group not in audited]
            outside = f"; {', '.join(left_out)} is not audited" if left_out else ""
            yield f"Outputs of the classifier are merged into groups of {attribute}: {', '.join(parts)}{outside}."
