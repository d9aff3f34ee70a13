"""Gates: the figures that they are decided by, and their verdicts.

It may import the results of single arms, but not the summary.
"""
