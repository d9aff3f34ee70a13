"""Charts of many prompts: a ranking, a tree of clusters, and a map.

It may import the other modules of ``charts``.
"""
