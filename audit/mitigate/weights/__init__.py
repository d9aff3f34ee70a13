"""Methods that change weights of the denoiser while it is called.

It may import ``audit.mitigate.method``, ``assignment``, ``stored_fit`` and what ``audit.mitigate`` may import.
"""
