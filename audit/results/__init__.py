"""Computes the result of an audit from the rows of all shards.

It may import ``dissect``, ``planning``, ``measure``, ``storage`` and ``records``. No model is loaded.
"""
