"""Inference that every measure shares: intervals, multiple testing, and the range of a figure.

It may import ``records``.
"""
