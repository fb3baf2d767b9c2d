"""Token ids on disk and in order: shard files, packing, the globally shuffled loader."""
