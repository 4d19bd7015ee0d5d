"""Names of tables and formats, where a help can read them without loading anything."""

FIRST = "overall"
NAMES = {
    FIRST: "all pairs over all data sets",
    "accuracy": "pairs by shots",
    "verdicts": "what is decided, where draws are added until it is",
    "gain": "gains over the baseline by shots",
    "subsets": "named sets of classes, such as those that motion tells apart",
    "literature": "beside published numbers",
    "base-to-novel": "accuracies on base and on novel classes, and their harmonic mean",
    "splits": "means over the test splits of a data set",
    "cost": "weights, time and memory",
    "ablation": "the same methods with other fusions and frames",
    "test-selection": "what picking an epoch on the test list would be worth, where it was diagnosed",
}
"""The tables by name, in the order in which they come."""

STYLES = ("rich", "markdown", "latex", "csv", "json", "html")
SUFFIXES = {".md": "markdown", ".tex": "latex", ".csv": "csv", ".json": "json", ".html": "html"}
"""Formats of files by how their names end."""
