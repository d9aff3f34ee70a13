"""Shares of groups: changes, agreement of judges, correction for the judge's errors, and two-stage sampling.

It may import ``measure.inference``.
"""
