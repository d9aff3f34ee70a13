"""Statistical inference for all measures: intervals, multiple testing, and the range of a figure.

It may import ``records``.
"""
