"""Questions about the inside of a model, which the workers answer with calls or images of their own.

It may import ``prepare``, ``parts`` and ``network``.
"""
