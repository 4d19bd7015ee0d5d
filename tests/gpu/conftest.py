"""The cells of tests of a GPU are those of the benchmark's own tests."""

from tests.bench.conftest import cache, clips, towers

__all__ = ["cache", "clips", "towers"]
