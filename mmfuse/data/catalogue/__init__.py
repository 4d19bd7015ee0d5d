"""Which clips a data set has: its card, official lists, own CSV files and folders, and where the files are."""
