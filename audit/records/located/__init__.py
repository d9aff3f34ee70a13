"""Places of a model, and where in it attributes are decided.

It may import ``estimates``.
"""
