"""Results and draws in the formats of others. Needs no torch."""
