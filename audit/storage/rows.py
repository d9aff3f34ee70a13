"""The columns of an image row, in the shards that workers write and in ``results.parquet``."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from audit.records.attributes import Attribute, SecondOpinion
from audit.records.work import Status

FEATURES = "features"
"""Embedding by the feature network, for the distances between arms; not part of ``results.parquet``."""


ACTIVATIONS = "activations"
"""Short vectors of the maps that edits return, by place, and of the baseline's maps there; not part of
``results.parquet``."""


ASSIGNED = "assigned"
"""Column of the group that an image is steered to; ``female & young`` in an arm that steers two attributes."""


OUTSIDE = ("psnr_outside", "lpips_outside", "dino_outside", "compared_outside")
"""Columns that compare an image with its baseline image outside the hidden parts, and the share of pixels there."""


PAIRED = ("psnr", "lpips", "dino_i", *OUTSIDE)
"""Columns that compare an image with its baseline image, besides ``clip_i``; files of older versions lack them."""


CLIP_D = "clip_d"
"""Beginning of the columns with the cosine of an image to the text of a group; files of older versions lack them."""


MOST_PSNR = 100.0
"""Largest PSNR in dB; larger values are cut to this. It is 107 dB if one channel of one pixel of a 512-pixel image
differs by 1."""


FACES, FACE_SCORE = "faces", "face_score"
"""Number of faces in an image, and the detector's largest score."""


def row_schema(
    attributes: Sequence[Attribute], opinions: Sequence[SecondOpinion] = (), *, faces: bool = False
) -> pa.Schema:
    """Return the schema of a shard's table.

    Args:
        attributes: Audited attributes.
        opinions: Second judges.
        faces: Whether faces are found for the judge.

    Columns:

    * ``arm``, ``prompt_id``, ``index`` and ``seed`` identify the image; ``status`` is its :class:`Status`.
    * ``p_<attribute>_<group>`` is the judge's probability of the group, normalised over the attribute's groups. It is
      null if nothing was perceived, or if the image is outside the groups.
    * ``outside_<attribute>`` is true if the judge's most probable answer is a group that the config does not audit.
    * ``p_prompt_shown`` is the judge's probability that the image shows the prompted occupation.
    * ``clip_i`` is the cosine to the baseline image of the same key, null in the baseline; ``clip_t`` is the cosine to
      the prompt.
    * ``clip_d_<attribute>_<group>`` is the cosine to the text of the group (CLIP-D), null without a CLIP model. Shards
      of older versions lack these columns.
    * ``psnr`` (dB), ``lpips`` (distance) and ``dino_i`` (cosine) compare the image with the same baseline image.
      They are null in the baseline and without a network. Shards of older versions lack these columns.
    * ``psnr_outside``, ``lpips_outside`` and ``dino_outside`` are the same outside the parts that ``quality.outside``
      hides, and ``compared_outside`` is the share of pixels there. Null unless the config asks for them.
    * ``assigned`` is the group that a mitigation assigned to the image; an arm that steers several attributes assigns
      one group of each, ``female & young``.
    * ``assigned_<attribute>`` is the assigned group of this attribute, null if the arm does not steer it. Shards of
      older versions lack these columns.
    * ``by_<judge>_<attribute>_<group>`` is the probability given by a second judge, null if it assigned no group.
    * ``faces`` is the number of faces that were found, and ``face_score`` the largest score of those that were judged,
      null if there is none. Both columns exist only if faces are found for the judge.
    * ``features`` is the embedding.
    * ``activations`` has a vector of all recorded steps for each place that an arm edits, null in images that are not
      recorded. Shards of older versions lack this column.
    """
    vectors = pa.map_(pa.string(), pa.list_(pa.float32()))
    plain = results_schema(attributes, opinions, faces=faces)
    return plain.append(pa.field(FEATURES, pa.list_(pa.float32()))).append(pa.field(ACTIVATIONS, vectors))


def results_schema(
    attributes: Sequence[Attribute], opinions: Sequence[SecondOpinion] = (), *, faces: bool = False
) -> pa.Schema:
    """Return the schema of ``results.parquet``: a shard's table without the embeddings and activations."""
    probabilities = [
        probability_column(attribute.name, group) for attribute in attributes for group in attribute.groups
    ]
    second = [
        opinion_column(opinion.judge, attribute.name, group)
        for opinion in opinions
        for attribute in opinion.attributes
        for group in attribute.groups
    ]
    return pa.schema(
        [
            pa.field("arm", pa.string(), nullable=False),
            pa.field("prompt_id", pa.string(), nullable=False),
            pa.field("index", pa.int32(), nullable=False),
            pa.field("seed", pa.int64(), nullable=False),
            pa.field("status", pa.string(), nullable=False),
            *(pa.field(name, pa.float32()) for name in probabilities),
            *(pa.field(outside_column(attribute.name), pa.bool_()) for attribute in attributes),
            pa.field("p_prompt_shown", pa.float32()),
            pa.field("clip_i", pa.float32()),
            pa.field("clip_t", pa.float32()),
            *(pa.field(name, pa.float32()) for name in clip_d_columns(attributes)),
            *(pa.field(name, pa.float32()) for name in PAIRED),
            pa.field(ASSIGNED, pa.string()),
            *(pa.field(assigned_column(attribute.name), pa.string()) for attribute in attributes),
            *(pa.field(name, pa.float32()) for name in second),
            *([pa.field(FACES, pa.int32()), pa.field(FACE_SCORE, pa.float32())] if faces else []),
        ]
    )


def with_later_columns(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return a table of an older version with the columns that later versions added, null everywhere."""
    begins = (f"{ASSIGNED}_", f"{CLIP_D}_")
    later = [name for name in schema.names if name in (*PAIRED, ACTIVATIONS) or name.startswith(begins)]
    missing = [name for name in later if name not in table.schema.names]
    for name in missing:
        table = table.append_column(schema.field(name), pa.nulls(table.num_rows, schema.field(name).type))
    ordered = missing and set(table.schema.names) == set(schema.names)
    return table.select(schema.names) if ordered else table


def probability_column(attribute: str, group: str) -> str:
    """Return the name of the column with the judge's probability of ``group``."""
    return f"p_{attribute}_{group}"


def clip_d_column(attribute: str, group: str) -> str:
    """Return the name of the column with the cosine to the text of ``group``."""
    return f"{CLIP_D}_{attribute}_{group}"


def clip_d_columns(attributes: Sequence[Attribute]) -> list[str]:
    """Return the names of the columns of all groups, in order."""
    return [clip_d_column(attribute.name, group) for attribute in attributes for group in attribute.groups]


def assigned_column(attribute: str) -> str:
    """Return the name of the column with the group of ``attribute`` that the image is steered to."""
    return f"{ASSIGNED}_{attribute}"


def outside_column(attribute: str) -> str:
    """Return the name of the column that marks images outside the audited groups of ``attribute``."""
    return f"outside_{attribute}"


def has_group(table: pa.Table, attribute: str) -> pa.ChunkedArray:
    """Return for each row whether the judge perceived one of the attribute's audited groups; never null."""
    outside = pc.fill_null(table[outside_column(attribute)], fill_value=False)
    return pc.and_(pc.equal(table["status"], Status.CLASSIFIED.value), pc.invert(outside))


def opinion_column(judge: str, attribute: str, group: str) -> str:
    """Return the name of the column with a second judge's probability of ``group``.

    The name is unambiguous: it does not start with ``p_``, and a judge's name has no underscore.
    """
    return f"by_{judge}_{attribute}_{group}"
