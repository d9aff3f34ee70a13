"""Table of CLIP-D: how near the images of each arm are to the text of each group."""

from __future__ import annotations

from audit.records.arms.clip_d import GroupSimilarity
from audit.records.estimates import NBSP
from reports.figures.charts import Table
from reports.index.story import Story, label
from reports.words.formats import THESE, figure_text

COLUMNS = ("Group", "Arm", "n", "CLIP-D", "Change from the baseline image")

ASSUMED = (
    "CLIP-D is the cosine of two normalised CLIP embeddings: the generated image, and the text of a group. Higher is "
    "nearer to the group. This is Eq. 17 of DiffLens as its text describes it; the formula itself was not available, "
    "so do not compare these values with its figure 19. It is not the directional similarity of image editing "
    "(StyleGAN-NADA), which compares the step between two images with the step between two texts. An image near the "
    "text of one group can be near that of another too: compare arms, not groups."
)
"""What was assumed about the formula; stated wherever its figures are."""


def clip_d_table(story: Story) -> Table:
    """Return CLIP-D of every group and arm with the paired change; without rows if it was not measured."""
    rows = sorted(story.result.clip_d, key=lambda row: (row.attribute, _place(story, row)))
    measured = {(row.attribute, row.group) for row in rows if row.cosine is not None}
    cells = tuple(
        (
            f"{label(row.attribute)}: {label(row.group)}",
            row.arm,
            str(row.cosine.n if row.cosine else 0),
            figure_text(row.cosine)
            if row.cosine
            else _missing(measured_elsewhere=(row.attribute, row.group) in measured),
            figure_text(row.change),
        )
        for row in rows
    )
    return Table(f"CLIP-D by group and arm (95{NBSP}% intervals about {THESE})", COLUMNS, cells, names=2)


def clip_d_texts(story: Story) -> str:
    """Return the texts of the groups in one sentence; empty if CLIP-D was not measured."""
    texts = {(row.attribute, row.group): row.texts for row in story.result.clip_d}
    words = (f"{label(group)}: {', '.join(f'“{text}”' for text in own)}" for (_, group), own in texts.items())
    return f"Texts of the groups: {'; '.join(words)}." if texts else ""


def _missing(*, measured_elsewhere: bool) -> str:
    """Return why an arm has no cosine; a text that is cut has none in any arm."""
    return "no image has one" if measured_elsewhere else "not measured: the text is longer than the CLIP model reads"


def _place(story: Story, row: GroupSimilarity) -> tuple[int, int]:
    """Return where a row belongs: the groups in the order of the audit, then the arms."""
    groups = list(dict.fromkeys(one.group for one in story.result.clip_d if one.attribute == row.attribute))
    arms = list(dict.fromkeys(one.arm for one in story.result.clip_d))
    return groups.index(row.group), arms.index(row.arm)
