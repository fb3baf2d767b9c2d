"""Text to token ids and back: characters, byte-level BPE trained here, chat template."""
