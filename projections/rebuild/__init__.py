"""Rebuilding the read tables beside those that serve."""
