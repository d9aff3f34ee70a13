"""Checks of sections that only a command of their own uses.

It may import the same packages as ``preflight``.
"""
