"""The page of compositions, prompts about two people, and the same figures as JSON, Parquet and frames.

It may import ``figures``, ``charts``, ``words`` and ``environment``.
"""
