"""The tables, computed from records."""
