"""The generated data set `tiny`."""
