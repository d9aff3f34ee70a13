"""One shard: every arm from the same noise, and the rows that say what is perceived in it.

It may import everything from ``records`` up to ``preflight`` and ``mitigate``, but no results.
"""
