"""Means over the prompts of an audit, each of which counts once.

It may import ``measure.inference``.
"""
