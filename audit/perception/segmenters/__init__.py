"""Segmenters: which part of a picture each pixel shows, behind one interface.

It may import the same packages as ``perception``, but neither a judge nor an embedder.
"""
