"""Tests of gpt/report."""
