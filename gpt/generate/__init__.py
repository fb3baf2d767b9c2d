"""Token ids in, token ids out: sampling, the decoding engine, text streaming."""
