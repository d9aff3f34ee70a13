"""Exports of a result for other programs: JSON, CSV, JUnit XML, Markdown and a model card.

It may import ``reports.figures.charts`` and ``reports.words``.
"""
