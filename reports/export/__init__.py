"""What an audit found, for programs: JSON, CSV, JUnit XML, Markdown and a model card.

It may import ``reports.figures.charts`` and ``reports.words``.
"""
