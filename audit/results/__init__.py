"""From the rows of all shards to what an audit found.

It may import ``dissect``, ``planning``, ``measure``, ``storage`` and ``records``. No model is loaded.
"""
