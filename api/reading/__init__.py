"""Reads, for every door."""
