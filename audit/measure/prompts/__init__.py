"""Means over the prompts of an audit, with equal weights.

It may import ``measure.inference``.
"""
