"""Charts, each with a table of the same numbers, and tables without a chart.

It may import ``reports.words`` and ``reports.charts``.
"""
