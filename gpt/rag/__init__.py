"""Retrieval: the user's documents cut into passages, indexed, searched, quoted in a prompt, cited."""
