"""What is found inside a model: how far its features can be trusted, and what prompts mean in it.

It may import the lower modules of ``records``.
"""
