"""Figures of pictures of two people: which person has which occupation, joint tables, and tests.

It may import ``measure`` and ``records``.
"""
