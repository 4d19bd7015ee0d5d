"""`mmfuse export`: results and draws in the formats of others."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mmfuse.cli.chosen import chosen_results
from mmfuse.cli.common import notes, out
from mmfuse.cli.datasets import named, shots_of
from mmfuse.data import few_shot
from mmfuse.data.catalogue.cards import DataCard, Source, card_names, load_card
from mmfuse.data.catalogue.load import Catalogue, load_catalogue
from mmfuse.errors import MmfuseError
from mmfuse.report.export.croissant import Described, export_croissant
from mmfuse.report.export.eval_results import export_eval_results, parse_benchmarks
from mmfuse.report.export.evaleval import export_evaleval
from mmfuse.report.export.source import Context, Exported, Facts, entries_of
from mmfuse.utils.files import write_atomically
from mmfuse.utils.portable import last_part
from mmfuse.utils.resources import cards_folder


@dataclass(frozen=True)
class ResultsRequest:
    """Results, in which format, and what they do not say themselves."""

    results: Path | None
    to: str
    organization: str | None = None
    organization_url: str | None = None
    benchmarks: Sequence[str] = ()
    source_url: str | None = None
    date: str | None = None


@dataclass(frozen=True)
class DrawRequest:
    """A draw of a data set, or its whole lists where no number of shots is given."""

    dataset: str
    split: int = 1
    shots: str | None = None
    draw: int = 0
    root: Path | None = None
    annotations: Path | None = None
    date: str | None = None


def export_results(request: ResultsRequest) -> Exported:
    """Results as `evaleval` or `eval-results`."""
    benchmarks = parse_benchmarks(request.benchmarks)
    now = moment(request.date)
    with entries_of(chosen_results(request.results, None)) as (entries, folder):
        if request.to == "eval-results":
            return export_eval_results(entries, folder, benchmarks=benchmarks, source_url=request.source_url)
        facts = {name: _facts(load_card(name)) for name in card_names()}
        context = Context(now, facts, request.organization, request.organization_url)
        return export_evaleval(entries, folder, context)


def export_draw(request: DrawRequest) -> Exported:
    """A draw, or the lists of a data set, as `croissant`."""
    now = moment(request.date)
    dataset = named(request.dataset)
    catalogue = load_catalogue(dataset, split=request.split, root=request.root, annotations=request.annotations)
    catalogue.warn()
    test = catalogue.part("test")
    certified = few_shot.certify_test_list(catalogue)
    train, name = catalogue.part("train"), f"{catalogue.name}-split-{catalogue.split}"
    if request.shots is not None:
        shots = shots_of(request.shots)
        train = few_shot.draw_clips(catalogue, shots=shots, draw=request.draw)
        certified = few_shot.certify(catalogue, train, shots=shots, draw=request.draw) and certified
        name += f"-k{shots}-draw-{request.draw}"
    rows = [
        {**dict(zip(("clip", "label", "class", "group"), values, strict=True)), "part": part}
        for part, table in (("train", train), ("test", test))
        for values in table[["clip", "label", "class", "group"]].itertuples(index=False, name=None)
    ]
    public = isinstance(dataset, str)
    return export_croissant(rows, _described(catalogue, request, name, public=public, certified=certified), now=now)


def _described(catalogue: Catalogue, request: DrawRequest, name: str, *, public: bool, certified: bool) -> Described:
    """What is known of a list of clips, in words."""
    card, title = catalogue.card, catalogue.card.title if public else last_part(catalogue.name)
    drawn = request.shots is not None and request.shots != "all"
    holds = f"{request.shots} training clips a class (draw {request.draw})" if drawn else "all training clips"
    checked = "They have the fingerprints that ship with mmfuse." if certified else "They are not certified by mmfuse."
    lists = f"the official lists of {title}" if public else "lists of the author's own"
    if card.generated:
        lists = "clips that mmfuse generates"
    how = "drawn by mmfuse: exactly as many a class, from as many different sources as there are, in an order by hash"
    collection = f"The clips are named by {lists}" + (f"; training clips are {how}." if drawn else ".")
    citation = cards_folder() / "citations" / f"{card.name}.bib"
    limits = ["A list of names: the videos have to be fetched from where they are published."] if public else []
    if drawn:
        limits.append("One draw of few clips: accuracy differs from draw to draw, so compare methods on several.")
    if card.dead_classes:
        limits.append(f"Classes without a single clip: {', '.join(card.dead_classes)}.")
    limits.append("Not for choosing settings by the clips whose part is test.")
    return Described(
        name=name,
        title=title,
        description=f"{title}, split {catalogue.split}: {holds} and the test list. {checked}",
        collection=collection,
        limitations=tuple(limits),
        sensitive="Shapes are drawn; there are no people." if card.generated else "The videos may show people.",
        licence=card.licence if public else "",
        citation=citation.read_text(encoding="utf-8").strip() if public and citation.is_file() else "",
        address=_page(card) if public else "",
    )


def _page(card: DataCard) -> str:
    """The page that a data set is published on, where its card names one beside addresses of files."""
    pages = [address for address in _facts(card).addresses if not re.search(r"\.(rar|zip|tar|gz|json|csv)$", address)]
    return next(iter(pages), "")


def _facts(card: DataCard) -> Facts:
    addresses = [source.address for source in card.sources if isinstance(source, Source)]
    return Facts(card.title, tuple(dict.fromkeys(addresses)))


def moment(date: str | None) -> datetime:
    """When an export is made: as `--date` says it, else now.

    Raises:
        MmfuseError: it is no date.

    >>> moment("2026-11-25").isoformat()
    '2026-11-25T00:00:00+00:00'
    """
    if date is None:
        return datetime.now(UTC)
    try:
        found = datetime.fromisoformat(date)
    except ValueError:
        raise MmfuseError(f"--date is written YYYY-MM-DD, with a time or without; got {date!r:.40}") from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def write_export(exported: Exported, folder: Path) -> None:
    """Write the files and tell of them, and of what was left out."""
    for name, content in exported.files.items():
        write_atomically(folder / name, content)
        out().print(str(folder / name), markup=False, soft_wrap=True, highlight=False)
    for line in exported.left_out:
        notes().print(f"left out: {line}", markup=False, soft_wrap=True, highlight=False)
