"""A results folder in words, made from the statistics of its tables, and saying no more than these do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from markupsafe import Markup

from mmfuse.records.status import counts
from mmfuse.report.plots.points import Plots
from mmfuse.report.statistics import Paired, paired
from mmfuse.report.tables.accuracy import LEVEL, METRICS, Comparison
from mmfuse.report.tables.cost import cost_sheet
from mmfuse.report.tables.table import Value

NAMED = 4
"""More pairs than these are counted and not named."""
Span = tuple[Any, ...]


@dataclass(frozen=True)
class Verdict:
    """Who is highest at some K, and from whom the test separates it.

    Args:
        span: the K that are averaged within each draw.
        best: the pair that is highest, and its value.
        ties: pairs that the test does not separate from it.
        behind: pairs that it does separate, below the highest on the draws that both have.
        ahead: pairs that it separates the other way round: they lack the draws on which the highest is so high.
        untested: pairs with a number but no draw in common.
        second: the next pair, and the paired difference to it.
    """

    span: Span
    best: str
    value: Value
    ties: tuple[str, ...] = ()
    behind: tuple[str, ...] = ()
    ahead: tuple[str, ...] = ()
    untested: tuple[str, ...] = ()
    second: tuple[str, Paired] | None = None

    @property
    def tested(self) -> bool:
        """Whether there is more than one repetition to test with."""
        return self.second is not None and self.second[1].p_t is not None


class Story:
    """What is said of one data set and split."""

    def __init__(self, plots: Plots) -> None:
        self.group = plots.group
        self.plots = plots
        self.comparison: Comparison = plots.comparison
        self._sheet = self.comparison.sheet()
        self._gains = self.comparison.gain_sheet()
        self.span: Span = self._span()

    def _span(self) -> Span:
        """The K that the tables average; the largest one with a number where no pair has all of those yet."""
        averaged, known = tuple(self.comparison.averaged), self.plots.shots_with_numbers
        return averaged if self.verdict(averaged) or not known else (known[-1],)

    def verdict(self, span: Span) -> Verdict | None:
        """Who is highest, averaged over `span`; `None` without a number."""
        column = self._sheet.columns.index(self._heading(span))
        values = {row.name: row.values[column] for row in self._sheet.rows if row.values[column].mean is not None}
        if not values:
            return None
        order = sorted(values, key=lambda pair: -_height(values[pair]))
        best, others = order[0], order[1:]
        champion = self.comparison.over(best, span)
        tests = {pair: paired(champion, self.comparison.over(pair, span)) for pair in others}
        second = next(((pair, test) for pair in others if (test := tests[pair]) is not None), None)
        return Verdict(
            span,
            best,
            values[best],
            ties=tuple(pair for pair, test in tests.items() if test is not None and values[pair].tie),
            behind=_separated(tests, values, above=True),
            ahead=_separated(tests, values, above=False),
            untested=tuple(pair for pair, test in tests.items() if test is None),
            second=second,
        )

    def _heading(self, span: Span) -> str:
        return f"K={span[0]}" if len(span) == 1 else f"mean K{span[0]}–{span[-1]}"

    def _at(self, span: Span) -> str:
        return f"At K = {span[0]}" if len(span) == 1 else f"On average over K = {_listed([str(one) for one in span])}"

    # Sentences

    def paragraphs(self) -> list[Markup]:
        """What is to be said, most important first."""
        told = [self._set_up(), *self._overall(), self._by_shots(), *self._costs(), *self._cautions()]
        return [paragraph for paragraph in told if paragraph]

    def headline(self) -> Markup:
        """One sentence: who is highest, and whether that means anything."""
        verdict = self.verdict(self.span)
        return self._highest(verdict) if verdict else Markup("No cell is done yet.")

    def _set_up(self) -> Markup:
        group = self.group
        found = counts(group.entries)
        planned, draws = len(group.entries), len({entry.cell.draw for entry in group.entries})
        shots = _listed([str(one) for one in group.shots])
        text = _say(
            "{pairs}, K = {shots} training clips a class, {draws}: {done} of {planned} are done.",
            pairs=_many(len(group.pairs), "pair"),
            shots=shots,
            draws=_many(draws, "draw"),
            done=found["done"],
            planned=_many(planned, "cell"),
        )
        lacking = [f"{number} {state}" for state, number in found.items() if number and state != "done"]
        if lacking:
            text += _say(" The rest is not in any number: {lacking}.", lacking=_listed(lacking))
        if self.plots.chance is not None:
            text += _say(" Guessing gives {chance:.1f}%.", chance=self.plots.chance)
        return text

    def _overall(self) -> list[Markup]:
        verdict = self.verdict(self.span)
        if verdict is None:
            return [Markup("No cell is done yet, so there is nothing to compare.")]
        return [self._highest(verdict), self._over_frozen()]

    def _highest(self, verdict: Verdict) -> Markup:
        text = _say(
            "{at}, <b>{best}</b> is highest with {value}% {metric}",
            at=self._at(verdict.span),
            best=verdict.best,
            value=verdict.value.number(),
            metric=METRICS["top1"].replace("-", "\N{NON-BREAKING HYPHEN}"),
        )
        if verdict.value.gaps:
            text += _say(" ({gap})", gap=verdict.value.gap())
        return text + self._separation(verdict)

    def _separation(self, verdict: Verdict) -> Markup:
        if verdict.second is None:
            return Markup("; no other pair has a number on the same draws.")
        name, test = verdict.second
        lead = Value(test.difference, signed=True).number()
        text = _say(", {lead} points from the next, <b>{second}</b>", lead=lead, second=name)
        if test.unpaired:
            text += _say(" (over the {shared} that both have)", shared=_many(test.difference.n, "repetition"))
        if not verdict.tested:
            return text + Markup(". With one repetition there is no interval and no test: the order may be chance.")
        if not verdict.behind:
            text += Markup("; the test separates it from no other pair")
        elif not (verdict.ties or verdict.ahead):
            text += _say("; the test separates it from {behind}", behind=_all(verdict.behind))
        else:
            text += _say(
                "; the test separates it from {behind}, but not from {ties}",
                behind=_named(verdict.behind),
                ties=_named((*verdict.ties, *verdict.ahead)),
            )
        if verdict.ahead:
            text += _say("; {ahead} is higher on the draws that both have", ahead=_named(verdict.ahead))
        if verdict.untested:
            text += _say(" ({untested}: no draw in common)", untested=_named(verdict.untested))
        return text + Markup(".")

    def _over_frozen(self) -> Markup:
        """Which pairs gain over the frozen towers, and lose."""
        if self._gains is None or self.group.baseline is None:
            return Markup("There is no pair of two frozen towers here, so no gain over them can be told.")
        at, averaged = len(self._sheet.columns) - 1, tuple(self.comparison.averaged)
        values = {row.name: row.values[at] for row in self._sheet.rows if row.values[at].mean is not None}
        text = self._holding(values, self._at(averaged).lower().replace("k =", "K ="))
        singles = []
        if len(self.group.shots) > 1:
            for row in self._gains.rows:
                singles += [
                    _say("{pair} at {column} ({gain})", pair=row.name, column=column, gain=value.number())
                    for column, value in zip(self._gains.columns, row.values, strict=True)
                    if value.significant and _height(value) > 0
                ]
        if len(singles) > NAMED:
            text += _say(" At single K {count} gains hold (marked * below).", count=len(singles))
        elif singles:
            text += _say(" At single K these gains hold: {gains}.", gains=_listed(singles))
        elif len(self.group.shots) > 1 and any(v.significant is not None for r in self._gains.rows for v in r.values):
            text += Markup(" At no single K does a gain hold.")
        return text

    def _holding(self, values: dict[str, Value], where: str) -> Markup:
        baseline = self.group.baseline
        if not values:
            return _say("No gain over {baseline} can be told yet {where}.", baseline=baseline, where=where)
        if all(value.significant is None for value in values.values()):
            best = max(values, key=lambda pair: _height(values[pair]))
            return _say(
                "The largest gain over {baseline} {where} is that of {pair}, {gain} points, untested.",
                baseline=baseline,
                where=where,
                pair=best,
                gain=values[best].number(),
            )
        sides: dict[bool, list[Markup]] = {True: [], False: []}
        for pair, value in sorted(values.items(), key=lambda item: -_height(item[1])):
            if value.significant:
                entry = _say("<b>{pair}</b> ({gain}, p {p})", pair=pair, gain=value.number(), p=_p(value.p))
                sides[_height(value) > 0].append(entry)
        if not sides[True]:
            text = _say("No gain over {baseline} holds {where} after Holm's correction", baseline=baseline, where=where)
        else:
            text = _say(
                "Over {baseline}, {where}, these gains in points hold after Holm's correction: {gains}",
                baseline=baseline,
                where=where,
                gains=_first(sides[True]),
            )
        if sides[False]:
            text += _say("; these losses hold: {losses}", losses=_first(sides[False]))
        halves = [value.mean.half for value in values.values() if value.mean and value.mean.half is not None]
        n = sorted({value.mean.n for value in values.values() if value.mean})
        return text + _say(
            ". With n = {n} the 95% interval of a gain reaches ±{half:.1f} points in the median, so differences "
            "smaller than that are mostly out of sight here.",
            n="–".join(map(str, dict.fromkeys((n[0], n[-1])))),
            half=median(halves),
        )

    def _by_shots(self) -> Markup:
        """Who is highest at each K."""
        if len(self.group.shots) < 2:
            return Markup("")
        told = []
        for shots in self.group.shots:
            verdict = self.verdict((shots,))
            if verdict is None:
                continue
            entry = _say("K = {k}: <b>{best}</b> {value}", k=shots, best=verdict.best, value=verdict.value.number())
            others = len(verdict.ties) + len(verdict.behind) + len(verdict.ahead)
            if verdict.tested and verdict.ties:
                entry += _say(
                    ", not separated from {which}",
                    which=f"any of the {others} others"
                    if not verdict.behind and others > 1
                    else _named(verdict.ties)
                    if len(verdict.ties) <= 2
                    else f"{len(verdict.ties)} of {others} others",
                )
            elif verdict.tested and not verdict.ahead and not verdict.untested:
                entry += Markup(", separated from every other")
            told.append(entry)
        return Markup("Highest at each K: ") + Markup("; ").join(told) + Markup(".") if told else Markup("")

    def _costs(self) -> list[Markup]:
        """What the highest pair costs, beside the frozen towers."""
        verdict = self.verdict(self.span)
        if verdict is None:
            return []
        sheet = cost_sheet(self.group)
        rows = {row.name: dict(zip(sheet.columns, row.values, strict=True)) for row in sheet.rows}
        ours = rows[verdict.best]
        if not all(ours[name].mean for name in ("image method", "text method", "fusion", "train s")):
            return []
        weights = sum(_height(ours[name]) for name in ("image method", "text method"))
        text = _say(
            "What that costs: the methods of <b>{pair}</b> train {weights} weights beside the {fusion} of the fusion; "
            "training took {seconds} s a cell at K = {shots}",
            pair=verdict.best,
            weights=f"{weights:,.0f}",
            fusion=ours["fusion"].text,
            seconds=ours["train s"].text,
            shots=self.group.shots[-1],
        )
        theirs = rows.get(self.group.baseline or "", {}).get("train s")
        if theirs is not None and theirs.mean and theirs.mean.mean > 0 and verdict.best != self.group.baseline:
            ratio = _height(ours["train s"]) / theirs.mean.mean
            text += _say(", {ratio:.1f} times that of {baseline}", ratio=ratio, baseline=self.group.baseline)
        return [
            text + Markup(". Features of a frozen tower that were kept cost nothing again, so times are of this run.")
        ]

    def _cautions(self) -> list[Markup]:
        draws = len({entry.cell.draw for entry in self.group.entries})
        told = []
        seeds = len({entry.cell.seed for entry in self.group.entries})
        if draws > 1:
            told.append("± is the 95% Student-t interval over draws of the training clips.")
            if "all" in self.group.shots:
                told.append("At K = all every draw holds the same clips, so there it is over repeated trainings.")
        elif seeds > 1:
            told.append(
                "± is the 95% Student-t interval over initialisations of one draw: of other draws it says nothing."
            )
        else:
            told.append("There is one draw and one initialisation, so no number here has an interval.")
        verdict = self.verdict(self.span)
        if verdict is not None and verdict.tested:
            told.append(
                f"Tests are paired t-tests on the same draws at {LEVEL:.0%}, corrected by Holm over each column, "
                "and over the whole table where gains have their own. The highest pair is picked by the numbers "
                "that it is then tested on, which favours it."
            )
        if self.group.dataset == "tiny":
            told.append(
                "The clips of tiny are generated: its numbers say nothing about which method is best on real video."
            )
        return [Markup.escape(" ".join(told))] if told else []


def _separated(tests: Mapping[str, Paired | None], values: Mapping[str, Value], *, above: bool) -> tuple[str, ...]:
    """Pairs that the test separates from the highest, which is above or below them where both were run."""
    return tuple(
        pair
        for pair, test in tests.items()
        if test is not None and not values[pair].tie and (test.difference.mean > 0) == above
    )


def _say(text: str, **values: object) -> Markup:
    """A sentence; what is filled in is escaped unless it is a sentence itself."""
    return Markup(text).format(**values)


def _height(value: Value) -> float:
    assert value.mean is not None
    return value.mean.mean


def _p(value: float | None) -> str:
    if value is None:
        return "unknown"
    return f"= {value:.3f}" if value >= 0.001 else "< 0.001"


def _many(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _listed(parts: Sequence[str]) -> Markup:
    """One, two and three."""
    escaped = [Markup.escape(part) for part in parts]
    if len(escaped) < 2:
        return Markup("").join(escaped)
    return Markup(", ").join(escaped[:-1]) + Markup(" and ") + escaped[-1]


def _named(pairs: Sequence[str]) -> Markup:
    return _listed(pairs) if len(pairs) <= NAMED else Markup.escape(f"{len(pairs)} others")


def _all(pairs: Sequence[str]) -> Markup:
    return _listed(pairs) if len(pairs) <= 2 else Markup.escape(f"all {len(pairs)} others")


def _first(parts: Sequence[Markup]) -> Markup:
    """The first few of a sorted list, and how many more there are."""
    if len(parts) <= NAMED:
        return _listed(parts)
    return Markup(", ").join(parts[:NAMED]) + Markup.escape(f" and {len(parts) - NAMED} more")
