"""Prompt: names the group that an image is steered to in its prompt, for the whole network or for some blocks.

For the whole network it is the control: a method that edits the network should do better than this on what it costs in
other attributes. If only the blocks that decide an attribute read the caption, the other blocks still draw the own
prompt, so that less of the picture changes. With a strength s the text is e_own + s (e_named − e_own).
"""

from __future__ import annotations

from pathlib import Path

from audit.config.mitigations.texts import PromptConfig
from audit.dissect.lens import Lens
from audit.mitigate.method import Batch, Fit, Intervene, strengths_in
from audit.models.intervention import Intervention
from audit.planning.plan import text_naming, window_of


class PromptMethod:
    """Names the group in the prompt, or in the text that some blocks read."""

    fit: Fit | None = None

    def ready(self, mitigation: PromptConfig, lens: Lens | None, fitted: Path | None) -> Intervene:
        """Return a function that makes the prompts of a batch."""

        def intervene(batch: Batch) -> Intervention:
            strengths = strengths_in(mitigation, batch)
            if not any(strengths):
                return Intervention(batch.assigned, range(batch.steps))
            kept = batch.kept or ({},) * len(batch.assigned)
            named = (
                text_naming(mitigation, group, batch.template, batch.prompt, own)
                for group, own in zip(batch.assigned, kept, strict=True)
            )
            texts = tuple(text if s else batch.prompt.text for text, s in zip(named, strengths, strict=True))
            between = None if all(s in (0, 1) for s in strengths) else strengths
            if not mitigation.blocks:
                return Intervention(batch.assigned, range(batch.steps), texts=texts, text_strengths=between)
            return Intervention(
                batch.assigned,
                window_of(mitigation.window, batch.steps),
                block_texts=dict.fromkeys(mitigation.blocks, texts),
                text_strengths=between,
            )

        return intervene
