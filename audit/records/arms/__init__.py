"""Records about what arms do: joint targets, prompts that differ in one word, CLIP-D, distance from the path.

It may import the records beside it.
"""
