"""Parameter-efficient methods: each adapts one frozen tower."""

from mmfuse.methods.registry import METHODS, MethodInfo, catalogue, names, parse_pair

__all__ = ["METHODS", "MethodInfo", "attach", "catalogue", "names", "parse_pair", "register"]


def __getattr__(name: str) -> object:
    # The catalogue is read by commands that must not wait for torch; the implementations need it.
    if name in {"attach", "register"}:
        from mmfuse.methods import base

        return getattr(base, name)
    raise AttributeError(f"module 'mmfuse.methods' has no attribute {name!r}")
