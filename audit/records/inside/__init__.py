"""What is found inside a model: how far its features can be trusted, and what prompts mean in it."""
