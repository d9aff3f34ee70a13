"""The page of a comparison of models, and its figures as JSON, Parquet and CSV.

It may import ``audit`` and the packages of ``reports`` below it.
"""
