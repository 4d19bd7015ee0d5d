"""Views of a test video: several clips of it, each seen in several crops, whose probabilities are averaged.

As X-CLIP (Ni et al. 2022) and ViFi-CLIP test with 4 clips × 3 crops: every clip has T frames, one of each of T equal
segments of the whole video, and the crops lie side by side along the longer side of the frame. There the place in each
segment is drawn at random for every clip; here the places are spread evenly, so that a test gives the same numbers
twice. One clip looks at the segments' centres, and one crop at the centre, as a test without further views does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mmfuse.data.frames.sampling import Indices, segment_centres
from mmfuse.errors import MmfuseError

MOST_CLIPS = 64
CROPS = (1, 3)


@dataclass(frozen=True)
class Views:
    """How many views of a test video there are: `clips` × `crops`.

    >>> Views.parse("4x3").count, str(Views())
    (12, '1x1')
    """

    clips: int = 1
    crops: int = 1

    @classmethod
    def parse(cls, text: str) -> Views:
        """Views as they are written, "4x3".

        Raises:
            MmfuseError: something else, or numbers out of bounds.
        """
        found = re.fullmatch(r"([1-9]\d?)x([13])", text) if isinstance(text, str) else None
        if found is None or int(found[1]) > MOST_CLIPS:
            raise MmfuseError(
                f"test_views are clips × crops: 1 to {MOST_CLIPS} clips, 1 or 3 crops, such as 4x3; got {text!r:.80}"
            )
        return cls(int(found[1]), int(found[2]))

    @property
    def count(self) -> int:
        """Number of views."""
        return self.clips * self.crops

    def __str__(self) -> str:
        return f"{self.clips}x{self.crops}"

    def frames(self, count: int, frames: int) -> Indices:
        """All frames that the clips look at, (T · clips,), in order; those of clip number c are `[c::clips]`.

        Args:
            count: frames of the video.
            frames: T.
        """
        return segment_centres(count, frames * self.clips)

    def corners(self, height: int, width: int, size: int) -> list[tuple[int, int]]:
        """Top and left of each crop of a frame: the centre, or start, centre and end along the longer side.

        >>> Views(1, 3).corners(224, 300, 224)
        [(0, 0), (0, 38), (0, 76)]
        """
        top, left = (height - size + 1) // 2, (width - size + 1) // 2
        if self.crops == 1:
            return [(top, left)]
        if width >= height:
            return [(top, 0), (top, left), (top, width - size)]
        return [(0, left), (top, left), (height - size, left)]


ONE_VIEW = Views()
