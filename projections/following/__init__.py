"""Waiting for the head of the log, or for a position in the tables."""
