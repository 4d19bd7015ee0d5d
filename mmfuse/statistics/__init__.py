"""Statistics of few draws: what may be concluded, when, and what it would take. Arrays in, arrays out."""
