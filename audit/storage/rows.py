"""The columns of an image row: what a worker writes per image and arm, and what ``results.parquet`` holds."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from audit.records.attributes import Attribute, SecondOpinion
from audit.records.work import Status

FEATURES = "features"
"""Embedding by the feature network, for the distances between arms; not part of ``results.parquet``."""


def row_schema(attributes: Sequence[Attribute], opinions: Sequence[SecondOpinion] = ()) -> pa.Schema:
    """Return the schema of a shard's table.

    Columns: ``arm``, ``prompt_id``, ``index`` and ``seed`` name the image, ``status`` says what became of it;
    ``p_<attribute>_<group>`` is the judge's probability among the attribute's groups, null where nothing was perceived
    and where the image lies outside them; ``outside_<attribute>`` says whether it does: the judge's most probable
    answer is a group that the config leaves out; ``p_prompt_shown`` its probability that the prompted occupation is
    shown; ``clip_i`` the cosine to the baseline image of the same key, null in the baseline; ``clip_t`` the cosine to
    the prompt; ``assigned`` the group that a mitigation assigned to the image; ``by_<judge>_<attribute>_<group>`` the
    probability that a further judge gives, null where it named none of the groups; ``features`` the embedding.
    """
    return results_schema(attributes, opinions).append(pa.field(FEATURES, pa.list_(pa.float32())))


def results_schema(attributes: Sequence[Attribute], opinions: Sequence[SecondOpinion] = ()) -> pa.Schema:
    """Return the schema of ``results.parquet``: a shard's table without the embeddings."""
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
            pa.field("assigned", pa.string()),
            *(pa.field(name, pa.float32()) for name in second),
        ]
    )


def probability_column(attribute: str, group: str) -> str:
    """Return the name of the column with the judge's probability of ``group``."""
    return f"p_{attribute}_{group}"


def outside_column(attribute: str) -> str:
    """Return the name of the column that says whether an image lies outside the audited groups of ``attribute``."""
    return f"outside_{attribute}"


def has_group(table: pa.Table, attribute: str) -> pa.ChunkedArray:
    """Return for each row whether the judge perceived one of the attribute's audited groups; never null."""
    outside = pc.fill_null(table[outside_column(attribute)], fill_value=False)
    return pc.and_(pc.equal(table["status"], Status.CLASSIFIED.value), pc.invert(outside))


def opinion_column(judge: str, attribute: str, group: str) -> str:
    """Return the name of the column with a further judge's probability of ``group``.

    It begins with no ``p_`` and a judge's name has no underscore, so that no attribute's name can make it ambiguous.
    """
    return f"by_{judge}_{attribute}_{group}"
