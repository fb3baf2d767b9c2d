"""Tests of gpt/rag."""
