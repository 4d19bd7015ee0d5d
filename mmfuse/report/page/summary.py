"""A results folder in words, made from the statistics of its tables, and saying no more than these do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from markupsafe import Markup

from mmfuse.records.status import counts
from mmfuse.report.plots.points import Plots
from mmfuse.report.statistics import FEWEST_DRAWS, LEVEL, Mean
from mmfuse.report.tables.accuracy import METRICS, Comparison, Span
from mmfuse.report.tables.cost import cost_table
from mmfuse.report.tables.table import Value

NAMED = 4
"""More pairs than these are counted and not named."""


@dataclass(frozen=True)
class Verdict:
    """Which pair is highest at some K, and which others may be as good.

    Args:
        span: the K that are averaged within each draw.
        best: the pair with the highest mean among those with the same draws, and its value.
        ties: other pairs that are not shown to be below the best.
        behind: pairs that are.
        second: the next pair that shares a draw, and the paired difference to it.
        tested: whether there are draws enough to test anything.
    """

    span: Span
    best: str
    value: Value
    ties: tuple[str, ...]
    behind: tuple[str, ...]
    second: tuple[str, Mean] | None
    tested: bool


class Summary:
    """What is said of one data set and split."""

    def __init__(self, plots: Plots) -> None:
        self.group = plots.group
        self.plots = plots
        self.comparison: Comparison = plots.comparison
        self._table = self.comparison.table
        self._gains = self.comparison.gain_table
        self.span: Span = self._span()

    def _span(self) -> Span:
        """The K that the tables average; the largest one with a number where no pair has all of those yet."""
        averaged, known = self.comparison.averaged, self.plots.shots_with_numbers
        return averaged if self._values(averaged) or not known else (known[-1],)

    def _values(self, span: Span) -> dict[str, Value]:
        """The values of a column of the table, by row, where there is a number."""
        column = self._table.columns.index(self.comparison.heading(span))
        return {row.name: row.values[column] for row in self._table.rows if row.values[column].mean is not None}

    def verdict(self, span: Span) -> Verdict | None:
        """Which pair is highest, averaged over `span`; `None` where none can be called so."""
        values = self._values(span)
        best = self.comparison.best(span) or (next(iter(values)) if len(values) == 1 else None)
        if best is None:
            return None
        may_be_best = self.comparison.may_be_best(span)
        others = sorted((pair for pair in values if pair != best), key=lambda pair: -_mean_of(values[pair]))
        leads = [(pair, self.comparison.difference(best, pair, span)) for pair in others]
        return Verdict(
            span,
            best,
            values[best],
            ties=tuple(pair for pair in others if pair in may_be_best),
            behind=tuple(pair for pair in others if pair not in may_be_best),
            second=next(((pair, lead) for pair, lead in leads if lead is not None), None),
            tested=any(self.comparison.p(best, pair, span) is not None for pair in others),
        )

    def _at(self, span: Span) -> str:
        return f"At K = {span[0]}" if len(span) == 1 else f"On average over K = {_join([str(one) for one in span])}"

    # Sentences

    def paragraphs(self) -> list[Markup]:
        """What is to be said, most important first."""
        told = [self._set_up(), *self._overall(), self._by_shots(), *self._costs(), *self._cautions()]
        return [paragraph for paragraph in told if paragraph]

    def headline(self) -> Markup:
        """One sentence: who is highest, and whether that means anything."""
        if not self._values(self.span):
            return Markup("No cell is done yet.")
        verdict = self.verdict(self.span)
        return self._highest(verdict) if verdict else _NO_COMMON_DRAWS

    def _set_up(self) -> Markup:
        group = self.group
        found = counts(group.entries)
        planned, draws = len(group.entries), len({entry.cell.draw for entry in group.entries})
        shots = _join([str(one) for one in group.shots])
        text = _fill(
            "{pairs}, K = {shots} training clips a class, {draws}: {done} of {planned} are done.",
            pairs=_count(len(group.pairs), "pair"),
            shots=shots,
            draws=_count(draws, "draw"),
            done=found["done"],
            planned=_count(planned, "cell"),
        )
        lacking = [f"{number} {state}" for state, number in found.items() if number and state != "done"]
        if lacking:
            text += _fill(" The rest is not in any number: {lacking}.", lacking=_join(lacking))
        if self.plots.chance is not None:
            text += _fill(" Guessing gives {chance:.1f}%.", chance=self.plots.chance)
        return text

    def _overall(self) -> list[Markup]:
        if not self._values(self.span):
            return [Markup("No cell is done yet, so there is nothing to compare.")]
        verdict = self.verdict(self.span)
        return [self._highest(verdict) if verdict else _NO_COMMON_DRAWS, self._over_frozen()]

    def _highest(self, verdict: Verdict) -> Markup:
        text = _fill(
            "{at}, <b>{best}</b> is highest with {value}% {metric}",
            at=self._at(verdict.span),
            best=verdict.best,
            value=verdict.value.number(),
            metric=METRICS["top1"].replace("-", "\N{NON-BREAKING HYPHEN}"),
        )
        if verdict.value.gaps:
            text += _fill(" ({gap})", gap=verdict.value.gap())
        return text + self._separation(verdict)

    def _separation(self, verdict: Verdict) -> Markup:
        if verdict.second is None:
            return Markup("; no other pair has a number on the same draws.")
        name, lead = verdict.second
        text = _fill(
            ", {lead} points from the next, <b>{second}</b>", lead=Value(lead, signed=True).number(), second=name
        )
        if lead.n < verdict.value.planned:
            text += _fill(" (over the {shared} that both have)", shared=_count(lead.n, "draw"))
        if not verdict.tested:
            return text + _fill(". Nothing is tested with {n}: the order may be chance.", n=_count(lead.n, "draw"))
        if not verdict.behind:
            return text + Markup("; no other pair is shown to be below the best.")
        text += _fill(
            "; {behind} shown to be below the best", behind=_verb(_names_or_count(verdict.behind), verdict.behind)
        )
        if verdict.ties:
            text += _fill(", but not {ties}", ties=_names_or_count(verdict.ties))
        return text + Markup(".")

    def _over_frozen(self) -> Markup:
        """Which pairs gain over the frozen towers, and lose."""
        if self._gains is None or self.group.baseline is None:
            return Markup("There is no pair of two frozen towers here, so no gain over them can be told.")
        at, averaged = len(self._table.columns) - 1, self.comparison.averaged
        values = {row.name: row.values[at] for row in self._table.rows if row.values[at].mean is not None}
        text = self._holding(values, self._at(averaged).lower().replace("k =", "K ="))
        singles = []
        if len(self.group.shots) > 1:
            for row in self._gains.rows:
                singles += [
                    _fill("{pair} at {column} ({gain})", pair=row.name, column=column, gain=value.number())
                    for column, value in zip(self._gains.columns, row.values, strict=True)
                    if value.significant and _mean_of(value) > 0
                ]
        if len(singles) > NAMED:
            text += _fill(" At single K {count} gains hold (marked * below).", count=len(singles))
        elif singles:
            text += _fill(" At single K these gains hold: {gains}.", gains=_join(singles))
        elif len(self.group.shots) > 1 and any(v.significant is not None for r in self._gains.rows for v in r.values):
            text += Markup(" At no single K does a gain hold.")
        return text

    def _holding(self, values: dict[str, Value], where: str) -> Markup:
        baseline = self.group.baseline
        if not values:
            return _fill("No gain over {baseline} can be told yet {where}.", baseline=baseline, where=where)
        if all(value.significant is None for value in values.values()):
            best = max(values, key=lambda pair: _mean_of(values[pair]))
            return _fill(
                "The largest gain over {baseline} {where} is that of {pair}, {gain} points, untested.",
                baseline=baseline,
                where=where,
                pair=best,
                gain=values[best].number(),
            )
        sides: dict[bool, list[Markup]] = {True: [], False: []}
        for pair, value in sorted(values.items(), key=lambda item: -_mean_of(item[1])):
            if value.significant:
                entry = _fill("<b>{pair}</b> ({gain}, p {p})", pair=pair, gain=value.number(), p=_p(value.p))
                sides[_mean_of(value) > 0].append(entry)
        if not sides[True]:
            text = _fill(
                "No gain over {baseline} holds {where} after Holm's correction", baseline=baseline, where=where
            )
        else:
            text = _fill(
                "Over {baseline}, {where}, these gains in points hold after Holm's correction: {gains}",
                baseline=baseline,
                where=where,
                gains=_first_few(sides[True]),
            )
        if sides[False]:
            text += _fill("; these losses hold: {losses}", losses=_first_few(sides[False]))
        halves = [value.mean.half for value in values.values() if value.mean and value.mean.half is not None]
        n = sorted({value.mean.n for value in values.values() if value.mean})
        return text + _fill(
            ". With n = {n} the 95% interval of a gain reaches ±{half:.1f} points in the median, so differences "
            "smaller than that are mostly out of sight here.",
            n="–".join(map(str, dict.fromkeys((n[0], n[-1])))),
            half=median(halves),
        )

    def _by_shots(self) -> Markup:
        """Which pair is highest at each K."""
        if len(self.group.shots) < 2:
            return Markup("")
        told = []
        for shots in self.group.shots:
            verdict = self.verdict((shots,))
            if verdict is None:
                continue
            entry = _fill("K = {k}: <b>{best}</b> {value}", k=shots, best=verdict.best, value=verdict.value.number())
            if verdict.tested and verdict.ties:
                entry += _fill(", and {which} may be as good", which=_names_or_share(verdict.ties, verdict.behind))
            elif verdict.tested and verdict.behind:
                entry += Markup(", above every other")
            told.append(entry)
        return Markup("Highest at each K: ") + Markup("; ").join(told) + Markup(".") if told else Markup("")

    def _costs(self) -> list[Markup]:
        """What the highest pair costs, beside the frozen towers."""
        verdict = self.verdict(self.span)
        if verdict is None:
            return []
        table = cost_table(self.group)
        rows = {row.name: dict(zip(table.columns, row.values, strict=True)) for row in table.rows}
        ours = rows[verdict.best]
        if not all(ours[name].mean for name in ("image method", "text method", "fusion", "train s")):
            return []
        weights = sum(_mean_of(ours[name]) for name in ("image method", "text method"))
        text = _fill(
            "What that costs: the methods of <b>{pair}</b> train {weights} weights beside the {fusion} of the fusion; "
            "training took {seconds} s a cell at K = {shots}",
            pair=verdict.best,
            weights=f"{weights:,.0f}",
            fusion=ours["fusion"].text,
            seconds=ours["train s"].text,
            shots=self.group.shots[-1],
        )
        baseline = self.group.baseline_of(verdict.best)
        theirs = rows.get(baseline or "", {}).get("train s")
        if theirs is not None and theirs.mean and theirs.mean.mean > 0 and verdict.best != baseline:
            ratio = _mean_of(ours["train s"]) / theirs.mean.mean
            text += _fill(", {ratio:.1f} times that of {baseline}", ratio=ratio, baseline=baseline)
        return [
            text + Markup(". Features of a frozen tower that were kept cost nothing again, so times are of this run.")
        ]

    def _cautions(self) -> list[Markup]:
        draws = len(self.group.draws)
        told = []
        if draws > 1:
            told.append(
                "± is the 95% Student-t interval over draws of the training clips; a second ±, where it is the wider "
                "one, is over test clips, by source."
            )
            if "all" in self.group.shots:
                told.append("At K = all every draw holds the same clips, so there it is over repeated trainings.")
        else:
            told.append("There is one draw of the training clips, so no number here has an interval or a test.")
        if draws >= FEWEST_DRAWS:
            told.append(
                f"Tests ask whether a difference would be seen with other draws and other test clips, at {LEVEL:.0%} "
                "over a table: gains are corrected by Holm, and the pairs that may be best are a model confidence set."
            )
        if self.group.dataset == "tiny":
            told.append(
                "The clips of tiny are generated: its numbers say nothing about which method is best on real video."
            )
        return [Markup.escape(" ".join(told))] if told else []


_NO_COMMON_DRAWS = Markup("No two pairs have the same draws yet, so none can be called highest.")


def _fill(text: str, **values: object) -> Markup:
    """A sentence; what is filled in is escaped unless it is a sentence itself."""
    return Markup(text).format(**values)


def _mean_of(value: Value) -> float:
    assert value.mean is not None
    return value.mean.mean


def _p(value: float | None) -> str:
    if value is None:
        return "unknown"
    return f"= {value:.3f}" if value >= 0.001 else "< 0.001"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _join(parts: Sequence[str]) -> Markup:
    """One, two and three."""
    escaped = [Markup.escape(part) for part in parts]
    if len(escaped) < 2:
        return Markup("").join(escaped)
    return Markup(", ").join(escaped[:-1]) + Markup(" and ") + escaped[-1]


def _names_or_count(pairs: Sequence[str]) -> Markup:
    return _join(pairs) if len(pairs) <= NAMED else Markup.escape(f"{len(pairs)} others")


def _verb(named: Markup, pairs: Sequence[str]) -> Markup:
    return named + Markup(" is" if len(pairs) == 1 else " are")


def _names_or_share(ties: Sequence[str], behind: Sequence[str]) -> Markup:
    """Which of the others are not shown to be below the best, in few words."""
    others = len(ties) + len(behind)
    if len(ties) <= 2:
        return _join(ties)
    return Markup.escape(f"each of the {others} others" if not behind else f"{len(ties)} of {others} others")


def _first_few(parts: Sequence[Markup]) -> Markup:
    """The first few of a sorted list, and how many more there are."""
    if len(parts) <= NAMED:
        return _join(parts)
    return Markup(", ").join(parts[:NAMED]) + Markup.escape(f" and {len(parts) - NAMED} more")
