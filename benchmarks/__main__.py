"""Benchmarks; being written."""
