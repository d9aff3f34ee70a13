"""Embedders: vectors of images and texts.

It may import the same packages as ``perception``, but no judge.
"""
