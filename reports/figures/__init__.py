"""Charts, each with the same numbers as a table, and tables that need no chart.

It may import ``reports.words`` and ``reports.charts``.
"""
