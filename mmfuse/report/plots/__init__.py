"""Plots, for the page and for a paper."""
