"""Gates: the figures that they test, and their verdicts.

It may import the results of single arms, but not the summary.
"""
