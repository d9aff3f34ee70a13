"""Analyses: questions about a model that go beyond the figures of an audit, behind one interface and one registry.

It may import ``dissect``, ``perception``, ``models``, ``planning`` and what they import. The driver imports the
registry, so torch is imported only where a worker needs it.
"""
