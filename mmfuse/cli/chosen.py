"""Which results folder a command reads: the one that is named, or else the one that was written last."""

from __future__ import annotations

from pathlib import Path

from mmfuse.cli.common import notes
from mmfuse.errors import MmfuseError
from mmfuse.records.folder import MARK
from mmfuse.records.latest import FoundResults, find_results

HERE, BELOW = Path(), Path("results")


def chosen_results(argument: Path | None, option: Path | None) -> Path:
    """The results folder to read. Where none is named, which one it is is said on stderr.

    Args:
        argument: as it is named by its place.
        option: as `--results` names it.

    Raises:
        MmfuseError: two are named, the one that is named is not there, or none is named and none is found.
    """
    if argument is not None and option is not None and argument != option:
        raise MmfuseError(f"two results folders are named, {argument} and --results {option}; leave out one of them")
    named = argument if argument is not None else option
    if named is None:
        return _latest()
    if not named.exists() and not named.is_absolute() and (BELOW / named / MARK).is_file():
        raise MmfuseError(f"there is no folder {named}; did you mean {BELOW / named}?")
    return named


def _latest() -> Path:
    if (HERE / MARK).is_file():
        notes().print("reading the results of this folder; --results names another", markup=False, soft_wrap=True)
        return HERE
    found = find_results(BELOW)
    for line in found.unreadable:
        notes().print(f"passed over: {line}", markup=False, soft_wrap=True)
    if not found.folders:
        raise MmfuseError(f"no results folder is named, and {_where_not()}")
    notes().print(f"reading {found.folders[0]}, {_why(found)}", markup=False, soft_wrap=True)
    return found.folders[0]


def _why(found: FoundResults) -> str:
    if len(found.folders) == 1:
        return f"the only results folder below {BELOW}; --results names another"
    if not found.as_recent:
        return f"of {len(found.folders)} results folders below {BELOW} the one written last; --results names another"
    others = ", ".join(map(str, found.as_recent[:3])) + (" and others" if len(found.as_recent) > 3 else "")
    return f"which was written last, as was {others}; --results names another"


def _where_not() -> str:
    """What to do where no results folder is found."""
    beside = find_results(HERE, depth=1).folders
    if beside:
        return f"there is none below ./{BELOW}; name one, such as --results {beside[0]}"
    return f"there is none below ./{BELOW}; name one by --results DIR, or run a grid: mmfuse-bench --grid demo"
