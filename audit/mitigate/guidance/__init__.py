"""Methods that change the predicted noise.

It may import ``audit.mitigate.method`` and what ``audit.mitigate`` may import.
"""
