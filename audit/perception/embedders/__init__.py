"""Embedders: vectors of images and texts.

It may import whatever ``perception`` may, but no judge.
"""
