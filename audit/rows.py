"""The columns of an image row: what a worker writes per image and arm, and what ``results.parquet`` holds."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from audit.records import Attribute

FEATURES = "features"
"""Embedding by the feature network, for the distances between arms; not part of ``results.parquet``."""


def row_schema(attributes: Sequence[Attribute]) -> pa.Schema:
    """Return the schema of a shard's table.

    Columns: ``arm``, ``prompt_id``, ``index`` and ``seed`` name the image, ``status`` says what became of it;
    ``p_<attribute>_<group>`` is the judge's probability, null where nothing was perceived; ``p_prompt_shown`` its
    probability that the prompted occupation is shown; ``clip_i`` the cosine to the baseline image of the same key,
    null in the baseline; ``clip_t`` the cosine to the prompt; ``assigned`` the group that a mitigation assigned to the
    image; ``features`` the embedding.
    """
    return results_schema(attributes).append(pa.field(FEATURES, pa.list_(pa.float32())))


def results_schema(attributes: Sequence[Attribute]) -> pa.Schema:
    """Return the schema of ``results.parquet``: a shard's table without the embeddings."""
    probabilities = [
        probability_column(attribute.name, group) for attribute in attributes for group in attribute.groups
    ]
    return pa.schema(
        [
            pa.field("arm", pa.string(), nullable=False),
            pa.field("prompt_id", pa.string(), nullable=False),
            pa.field("index", pa.int32(), nullable=False),
            pa.field("seed", pa.int64(), nullable=False),
            pa.field("status", pa.string(), nullable=False),
            *(pa.field(name, pa.float32()) for name in probabilities),
            pa.field("p_prompt_shown", pa.float32()),
            pa.field("clip_i", pa.float32()),
            pa.field("clip_t", pa.float32()),
            pa.field("assigned", pa.string()),
        ]
    )


def probability_column(attribute: str, group: str) -> str:
    """Return the name of the column with the judge's probability of ``group``."""
    return f"p_{attribute}_{group}"
