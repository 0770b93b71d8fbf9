"""Proofs that log and tables are as they should be."""
