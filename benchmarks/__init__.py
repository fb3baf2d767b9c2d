"""One file a question, peers side by side in one run; results in benchmarks/results/*.json."""
