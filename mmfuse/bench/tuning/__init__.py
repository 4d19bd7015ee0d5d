"""Searching the settings of a pair on validation clips cut from its training clips; the test list is never read."""
