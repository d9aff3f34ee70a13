"""Methods that edit feature maps.

It may import ``audit.mitigate.method`` and what ``audit.mitigate`` may import.
"""
