"""A run that was made again: which facts differ, and whether every row is the same.

It may import ``results.comparison``, ``config``, ``storage`` and ``records``.
"""
