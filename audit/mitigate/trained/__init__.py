"""Methods of intervention that are trained first: a module each, with how it is trained and how it acts.

It may import what ``audit.mitigate`` may import, and the modules of ``audit.mitigate`` that no method is in.
"""
