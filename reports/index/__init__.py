"""An index over one audit's result, which words, figures and exports read.

It may import ``audit``.
"""
