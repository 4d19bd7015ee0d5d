"""The clips of `mmfuse best`: a data set that is divided already, or clips that are divided by source now."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mmfuse.cli.common import notes
from mmfuse.cli.datasets import named
from mmfuse.data.catalogue.cards import card_names
from mmfuse.data.catalogue.divide import divide
from mmfuse.data.catalogue.undivided import is_divided, read_undivided
from mmfuse.data.catalogue.written import list_text
from mmfuse.errors import MmfuseError, unknown
from mmfuse.utils.files import user_path, write_atomically
from mmfuse.utils.processes import usable_cores
from mmfuse.utils.progress import progress_bar

FOLDER = "clips"
"""Where the lists of a division are kept, below the folder of the search."""


@dataclass(frozen=True, kw_only=True)
class Clips:
    """Which clips, and how they are divided where they are not.

    Args:
        clips: a folder of class folders, a CSV file, a folder with training and test, or a data set by name.
        test: share of the test.
        groups: how sources are found; see `mmfuse.data.catalogue.divide.divide`.
        seed: of the division.
        damaged: what to do with damaged videos.
    """

    clips: str
    test: float = 0.2
    groups: str | None = None
    seed: int = 0
    damaged: Literal["error", "keep"] = "error"

    @property
    def is_divided(self) -> bool:
        """Whether training and test stand already."""
        place = user_path(self.clips)
        return self.clips in card_names() or (place.is_dir() and is_divided(place))

    def document(self) -> dict[str, Any]:
        """What decides which clips these are, as plain values."""
        if self.is_divided:
            return {"clips": self.clips if self.clips in card_names() else str(user_path(self.clips).absolute())}
        how = {"test": self.test, "groups": self.groups, "seed": self.seed}
        return {"clips": str(user_path(self.clips).absolute()), "division": how}

    def dataset(self, out: Path) -> dict[str, Any]:
        """The data set as cells take it; clips that are not divided yet are divided, and their lists kept.

        Args:
            out: the folder of the search. Lists that stand there are taken as they are.

        Raises:
            MmfuseError: there are no clips, or they cannot be divided. Nothing was written then.
        """
        if self.is_divided:
            found = named(self.clips)
            return dict(found) if isinstance(found, dict) else {"name": found}
        place = user_path(self.clips)
        if not place.exists():
            known = card_names()
            if "/" in self.clips or "." in self.clips:
                raise MmfuseError(f"there is no folder or file {self.clips}; name the folder of your clips")
            raise unknown("data set or folder", self.clips, known)
        return self._divided(out / FOLDER)

    def _divided(self, folder: Path) -> dict[str, Any]:
        lists = {part: folder / f"{part}.csv" for part in ("train", "test")}
        undivided = read_undivided(self.clips)
        dataset = {"name": undivided.name, "root": str(undivided.root)}
        dataset |= {part: str(path.absolute()) for part, path in lists.items()}
        if all(path.is_file() for path in lists.values()):
            return dataset
        with progress_bar("looking for clips of one source", transient=True) as report:
            division = divide(
                undivided.table,
                test=self.test,
                name=undivided.name,
                groups=self.groups,
                seed=self.seed,
                damaged=self.damaged,
                workers=usable_cores(),
                report=report,
            )
        for part, path in lists.items():
            rows = getattr(division, part)
            write_atomically(path, list_text(rows[["clip", "class", "group"]].itertuples(index=False, name=None)))
        told = (
            f"{len(division.train):,} clips to train on and {len(division.test):,} to test on, of {division.groups:,} "
            f"sources, no source on both sides (lists in {folder})"
        )
        for line in (told, *undivided.warnings, *division.notes):
            notes().print(line, markup=False, soft_wrap=True)
        return dataset
