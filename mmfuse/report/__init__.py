"""Telling: statistics, tables and figures, from records alone. Needs no torch and knows nothing of how a cell ran."""
