"""Prompt: names the group that an image is steered to in its prompt.

It edits nothing in the network. A method that does should do better than this on what it costs in other attributes.
"""

from __future__ import annotations

from pathlib import Path

from audit.config.mitigations.texts import PromptConfig
from audit.dissect.lens import Lens
from audit.mitigate.method import Batch, Fit, Intervene
from audit.models.intervention import Intervention
from audit.planning.plan import text_naming


class PromptMethod:
    """Names the group in the prompt."""

    fit: Fit | None = None

    def ready(self, mitigation: PromptConfig, lens: Lens | None, fitted: Path | None) -> Intervene:
        """Return a function that makes the prompts of a batch."""

        def intervene(batch: Batch) -> Intervention:
            texts = tuple(text_naming(mitigation, group, batch.template, batch.prompt) for group in batch.assigned)
            return Intervention(batch.assigned, range(batch.steps), texts=texts)

        return intervene
