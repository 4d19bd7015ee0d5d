"""What is said below the first table: what each number is over, and what each verdict claims."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmfuse.records.evaluations import tests_of
from mmfuse.report.groups import finished
from mmfuse.report.over_datasets import FEWEST_DATASETS
from mmfuse.report.statistics import FEWEST_DRAWS, LEVEL
from mmfuse.report.tables.notes import cautions, published_lists, same_clips, views_note

if TYPE_CHECKING:
    from mmfuse.report.tables.overall import Overall


def overall_notes(overall: Overall) -> tuple[str, ...]:
    """Notes of the first table."""
    notes = [_averaged(overall), *_tested_beside(overall)]
    if overall.has_gains:
        notes += [_gain(overall), *_verdict(overall)]
    elif not overall.baselines:
        notes.append("No pair of frozen towers is here to measure gains against; --baseline PAIR names another one.")
    notes += [_rank(overall), _cost(overall), *_incomplete(overall), *_views_note(overall)]
    for comparison in overall.comparisons:
        for told in (*same_clips(comparison.group), *cautions(comparison.group, ())):
            # Several data sets often have the same to say.
            notes += [] if told in notes else [told]
    return tuple(notes)


def _views_note(overall: Overall) -> list[str]:
    """What was seen of a test video, and whose lists were trained on; by data set where these differ."""
    groups = [comparison.group for comparison in overall.comparisons]
    told = {group.title: [*views_note(group), *published_lists(group)] for group in groups}
    if len({tuple(notes) for notes in told.values()}) == 1:
        return next(iter(told.values()))
    return [f"{title}: {note}" for title, notes in told.items() for note in notes]


def _tested_beside(overall: Overall) -> list[str]:
    """Which tests of the same trainings stand in tables of their own."""
    cells = [(entry.origin or entry).cell for comparison in overall.comparisons for entry in comparison.group.entries]
    kinds = {(cell.setting, cell.test_on, cell.dataset.name, cell.split): cell for cell in cells}
    found = dict.fromkeys(test.label for cell in kinds.values() for test in tests_of(cell) if test.name)
    if not found:
        return []
    trained = any(cell.setting == "zero-shot" and cell.shots != 0 for cell in cells)
    seen = " The accuracies here are on classes that were trained on." if trained else ""
    return [f"Tested as well, in tables of their own (--all): {', '.join(found)}.{seen}"]


def _averaged(overall: Overall) -> str:
    """Which numbers of shots, draws and splits each accuracy is over."""
    told: dict[str, list[str]] = {}
    for block in overall.blocks:
        several = f", over splits {block.axes['split']}" if len(block.comparisons) > 1 else ""
        told.setdefault(f"K={block.axes['shots']}{several}", []).append(block.name)
    if len(told) == 1 and all(len(one.averaged) == 1 for one in overall.comparisons):
        return f"Accuracies are those at {next(iter(told))}."
    if len(told) == 1:
        return f"Accuracies are means over {next(iter(told))}, within each draw."
    which = "; ".join(f"{', '.join(names)} {shots}" for shots, names in told.items())
    return f"Accuracies are means over K within each draw: {which}."


def _gain(overall: Overall) -> str:
    over = "" if len(overall.blocks) == 1 else f", averaged over the {len(overall.blocks)} data sets"
    halves = [pair.gain.mean for pair in overall.pairs if pair.gain.mean is not None]
    text = f"Gain: paired on the same draws{over}"
    if any(mean.half is not None for mean in halves):
        text += "; ± is its 95% interval over draws"
        if any(mean.half_clips is not None and mean.half_clips > (mean.half or 0) for mean in halves):
            text += ", a second ±, where it is the wider one, over test clips"
    return f"{text}."


def _verdict(overall: Overall) -> list[str]:
    data_sets = len(overall.blocks)
    these = "this data set" if data_sets == 1 else f"these {data_sets} data sets"
    if overall.decided_by_looks and not overall.decisions_count:
        return [
            "Draws were added by what top-1 gains over the grid's own baseline showed; nothing else is tested on them."
        ]
    if overall.decided_by_looks:
        against = "against the best of each column, and not against the baseline: " if overall.against_best else ""
        return [
            f"Verdict: {against}that of all columns of the verdicts table, or how many say what; those of a data set "
            f"hold together in 95% of tables. Nothing is claimed beyond {these}.",
            "Draws were added where a comparison was open, so rows have unequal numbers of them: compare gains.",
        ]
    if all(pair.gain.significant is None for pair in overall.pairs):
        return [f"Nothing is tested: that needs {FEWEST_DRAWS} draws of both pairs, and their predictions."]
    notes = [
        f"Verdict: whether the gain holds on {these} for other draws and other test clips ({LEVEL:.0%}, Holm over the "
        "column); open is not equal."
    ]
    if data_sets < FEWEST_DATASETS:
        notes.append(f"Other data sets: {data_sets} cannot tell of them; that takes {FEWEST_DATASETS}.")
    else:
        p = overall.friedman
        notes.append(
            f"† holds for other data sets too (t over {data_sets} data sets, {LEVEL:.0%}, Holm over the column)."
        )
        notes += [] if p is None else [f"Friedman's test of equal ranks over the data sets: p = {p:.2g}."]
    return notes


def _rank(overall: Overall) -> str:
    if any(pair.rank.bounds is not None for pair in overall.pairs):
        return "Rank: 1 is the highest; in brackets where it may lie on these data sets (95%, all rows together)."
    return "Rank: 1 is the highest; with nothing tested, no rank is excluded."


def _cost(overall: Overall) -> str:
    entries = [entry for comparison in overall.comparisons for entry in comparison.group.entries]
    fusion = sorted({record.parameters.fusion for record in finished(entries) if record.parameters})
    range_of = "–".join(f"{one:,}" for one in dict.fromkeys(fusion[:1] + fusion[-1:]))
    beside = f"; the fusion has {range_of} more" if fusion else ""
    return f"Weights are those that both methods train{beside}. Seconds of training at the largest K."


def _incomplete(overall: Overall) -> list[str]:
    whole = [all(value.mean is not None for value in pair.accuracies) for pair in overall.pairs]
    if all(whole) or not any(whole):
        return []
    return ["Rows that lack a data set stand last; do not compare their means with those of the others."]
