"""Shares of groups: changes, agreement, the judge's error, and how many images a half-width needs.

It may import ``measure.inference``.
"""
