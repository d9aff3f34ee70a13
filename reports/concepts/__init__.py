"""The page of concepts over time, with composition and edits by stage, and the same figures as JSON and frames.

It may import ``figures``, ``charts``, ``words`` and ``environment``.
"""
