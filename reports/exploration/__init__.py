"""The page of an exploration, and its tables as CSV.

It may import ``figures``, ``charts`` and ``environment``.
"""
