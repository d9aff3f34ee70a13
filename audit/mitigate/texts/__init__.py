"""Methods that change what the model reads.

It may import ``audit.mitigate.method`` and what ``audit.mitigate`` may import.
"""
