"""The page of a benchmark: tables, charts, paired strips, and the same figures as Markdown and Parquet.

It may import ``audit`` and the packages of ``reports`` below it.
"""
