"""Makes one shard: every arm from the same noise, and the rows with what is perceived and measured.

It may import everything from ``records`` up to ``preflight``, ``mitigate`` and ``analyses``, but not ``results``.
"""
