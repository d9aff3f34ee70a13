"""Published tables of methods, for orientation beside a benchmark. They are never part of a ranking.

The figures are those of other models, prompts, judges and numbers of images, and have no intervals.
"""

from __future__ import annotations

from reports.figures.charts import Table

NOTE = (
    "Published figures of other models, with other prompts, judges and numbers of images, and without intervals. They "
    "cannot be ranked together with the figures of this benchmark."
)

_PAPER = "Shi et al. 2025 (DiffLens)"
_COLUMNS = ("Method", "Gender", "Age", "Race")

TABLES = (
    Table(
        f"{_PAPER}, table 2: Stable Diffusion 1.5, fairness discrepancy; 4 occupations × 500 images, FairFace",
        _COLUMNS,
        (
            ("Original", ".564", ".752", ".558"),
            ("Latent Editing", ".408", ".682", ".524"),
            ("H-Distribution", ".222", ".506", ".544"),
            ("Latent Direction", ".305", ".052", ".175"),
            ("Finetuning", ".050", ".746", ".198"),
            ("DiffLens", ".046", ".049", ".401"),
        ),
    ),
    Table(
        f"{_PAPER}, table 2: CLIP-I, published as (cos + 1) / 2",
        _COLUMNS,
        (
            ("Latent Editing", ".8253", ".8527", ".8804"),
            ("H-Distribution", ".8475", ".8345", ".8255"),
            ("Latent Direction", ".8058", ".8151", ".8211"),
            ("Finetuning", ".8779", "same weights as gender", "same weights as gender"),
            ("DiffLens", ".8501", ".8778", ".9096"),
        ),
    ),
    Table(
        f"{_PAPER}, table 2: FID",
        _COLUMNS,
        (
            ("Original", "120.06", "120.06", "120.06"),
            ("Latent Editing", "166.11", "200.90", "153.05"),
            ("H-Distribution", "151.68", "147.71", "126.90"),
            ("Latent Direction", "129.37", "113.81", "128.30"),
            ("Finetuning", "161.47", "same weights as gender", "same weights as gender"),
            ("DiffLens", "112.83", "99.17", "119.86"),
        ),
    ),
    Table(
        f"{_PAPER}, ablation on P2 (CelebA-HQ, unconditional), gender; 10,000 images",
        ("Choice of what is edited", "Fairness discrepancy", "CLIP-I"),
        (
            ("Act@L: activation, latent of the network", ".190", ".8060"),
            ("Act@S: activation, sparse features", ".303", ".9386"),
            ("Attr@L: attribution, latent of the network", ".072", ".8597"),
            ("DiffLens: attribution, sparse features", ".002", ".9479"),
        ),
    ),
    Table(
        f"{_PAPER}, tables 4 and 5: active latents k, on P2, gender; 10,000 images",
        ("k", "Fairness discrepancy", "FID of reconstructed images", "CLIP-I of reconstructed images"),
        (("32", ".002", "6.86", ".9516"), ("64", ".005", "5.22", ".9695"), ("128", ".008", "3.71", ".9795")),
    ),
    Table(
        f"{_PAPER}, table 6: features for each group, on P2, gender; 10,000 images",
        ("Features", "Fairness discrepancy"),
        (("10", ".003"), ("20", ".001"), ("30", ".002")),
    ),
)
"""The tables."""
