"""Overlap of masks: how well one mask predicts another, with intervals over images.

It may import ``inference`` and ``records``.
"""
