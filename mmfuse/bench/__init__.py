"""Running: grid files to cells, cells to records."""
