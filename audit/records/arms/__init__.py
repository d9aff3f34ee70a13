"""Records about what arms do together or to each other: joint targets, and prompts that differ in one word.

It may import the records beside it.
"""
