"""Distances between two sets of images, from their feature vectors.

It may import ``measure.inference``.
"""
