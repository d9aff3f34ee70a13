"""Index of one audit's result, shared by words, figures and exports.

It may import ``audit``.
"""
