"""Raw text and where it comes from: registry, cleaning, split, scrubbing, the Hinglish generator."""
