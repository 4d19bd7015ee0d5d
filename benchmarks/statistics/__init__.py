"""Simulated tables: how often the marks of a table are wrong, and what its intervals cover."""
