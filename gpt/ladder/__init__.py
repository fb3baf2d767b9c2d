"""The teaching models, bigram to block, each a file on its own, trained by the one loop."""
