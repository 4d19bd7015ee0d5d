"""A results folder in words, made from the statistics of its tables, and saying no more than these do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from markupsafe import Markup

from mmfuse.records.status import counts
from mmfuse.report.answer import Answer, Best
from mmfuse.report.gains import BETTER, EQUIVALENT, OPEN, UNTESTED, WORSE, Question
from mmfuse.report.plots.points import Plots
from mmfuse.report.statistics import FEWEST_DRAWS, LEVEL, Mean
from mmfuse.report.tables.accuracy import METRICS, Comparison, Span
from mmfuse.report.tables.cost import cost_table
from mmfuse.report.tables.overall import Overall
from mmfuse.report.tables.table import Value
from mmfuse.statistics.sequential import VERDICTS

NAMED = 4
"""More pairs than these are counted and not named."""
FORETOLD = 3
"""Of so many open gains it is said how many draws they would take."""


class Summary:
    """What is said of one data set and split.

    Args:
        plots: its numbers.
    """

    def __init__(self, plots: Plots) -> None:
        self.group = plots.group
        self.plots = plots
        self.comparison: Comparison = plots.comparison
        self.answer = Answer(plots)
        self._table = self.comparison.table
        self._gains = self.comparison.gain_table

    # The answer

    def parts(self) -> list[tuple[str, Markup]]:
        """The answer: which pair is best, which comes close for less, and what is open, each under its heading."""
        if not self.answer.values(self.answer.span):
            return [("Best", Markup("No cell is done yet, so there is nothing to compare.") + self._why())]
        close = (f"Cheapest within {self.answer.margin:g} points of it", self._cheaper())
        told = [("Best", self._best()), close, ("Open", self._open())]
        return [(heading, text) for heading, text in told if text]

    def _best(self) -> Markup:
        best = self.answer.best
        if best is None:
            return _NO_COMMON_DRAWS
        gain, highest = self._gain_of(best), self._highest(best)
        return gain + _fill("<small>{highest}</small>", highest=highest) if gain else highest

    def _why(self) -> Markup:
        """Where it is told why nothing is done."""
        failed = counts(self.group.entries)["failed"]
        link = " {failed} failed: <a href='#why'>why</a>."
        return _fill(link, failed=_count(failed, "cell")) if failed else Markup("")

    def _gain_of(self, best: Best) -> Markup:
        """The gain of the best pair, and whether it is shown to be one."""
        gain = self.answer.gains.get(best.pair)
        if gain is None or gain.mean is None or best.span != self.comparison.averaged:
            return Markup("")
        value, rule = gain.value, self.answer.rule
        ends = {
            BETTER: "a gain that holds for other draws and other test clips",
            OPEN: "not shown to hold",
            WORSE: "a loss that holds",
            UNTESTED: "untested",
        }
        if rule is not None:
            ends |= {
                BETTER: "shown to be better",
                EQUIVALENT: f"equivalent within {rule.margin:g} points",
                OPEN: "open",
            }
        return _fill(
            "<b>{pair}</b> gains <b class='gained'>{gain}</b> points over {baseline}: {end}{p}. ",
            pair=best.pair,
            gain=value.number(),
            baseline=self.group.baseline,
            end=ends[gain.verdict],
            p="" if value.p is None else _fill(" (p {p})", p=_p(value.p)),
        )

    def _cheaper(self) -> Markup:
        best, cheaper = self.answer.best, self.answer.cheaper
        if best is None or best.second is None:
            return Markup("")
        if cheaper is None:
            frozen = best.pair == self.group.baseline_of(best.pair)
            return Markup("It is the cheapest of all.") if frozen else Markup("No cheaper pair comes that close.")
        mean = cheaper.behind
        reach = None if mean.half is None else mean.mean + max(mean.half, mean.half_clips or 0.0)
        text = _fill(
            "<b>{pair}</b>, {below}, with {weights} trained weights ({share:.1%} of its)",
            pair=cheaper.pair,
            below=_distance_in_words(mean),
            weights=f"{cheaper.weights:,.0f}",
            share=cheaper.share,
        )
        if reach is None:
            return text + Markup(". That compares means; it is not tested.")
        if reach > self.answer.margin:
            return text + _fill(". By its mean: the interval reaches {reach:.1f} points below.", reach=reach)
        return text + Markup(".")

    def _open(self) -> Markup:
        """What is not known yet, and the draws that it would take."""
        if not self.answer.gains:
            return Markup("There is no pair of two frozen towers here, so no gain over them can be told.")
        if self.answer.rule is not None:
            return self._open_by_rule()
        verdicts, found = self.answer.verdicts, self.answer.questions
        known = sum(verdicts.values())
        draws = len(self.group.draws)
        if verdicts[UNTESTED] == known:
            if draws < FEWEST_DRAWS:
                return _fill("Everything: nothing is tested with {n}; {least} is the least.", n=_count(draws, "draw"),
                             least=FEWEST_DRAWS)  # fmt: skip
            return Markup("Everything: nothing could be tested yet.")
        if not found:
            return _fill("Nothing: each of the {gains} is decided.", gains=_count(known, "gain"))
        text = _fill(
            "{open} of {gains} over {baseline} {are} not shown to hold after {n}. ",
            open=len(found),
            gains=_count(known, "gain"),
            baseline=self.group.baseline,
            are="is" if len(found) == 1 else "are",
            n=_count(max(question.gain.n for question in found), "draw"),
        )
        return text + self._forecast(found)

    def _open_by_rule(self) -> Markup:
        """The same where draws are added until all is decided: all verdicts are counted, K by K."""
        counted = Counter(decision.verdict for decision in self.group.decisions if decision.gain is not None)
        if not counted:
            return Markup("Everything: the draws of the first look are not there yet.")
        told = [f"{counted[verdict]} {verdict}" for verdict in VERDICTS[1:] if counted[verdict]]
        against = "the best of each K" if self.answer.rule and self.answer.rule.reference == "best" else "the baseline"
        text = _fill("Of {all} against {what}, ", all=_count(sum(counted.values()), "verdict"), what=against)
        text += _join([*told, f"{counted[OPEN]} open"]) + Markup(". ")
        return text + self._forecast(self.answer.questions) if self.answer.questions else text

    def _forecast(self, found: Sequence[Question]) -> Markup:
        """How many more draws open gains would take, the nearest first."""
        within = [question for question in found if question.further is not None]
        never = len(found) - len(within)
        told = [
            _fill(
                "{pair}{where} ({gain}) takes {more} more {draws}",
                pair=question.pair,
                where="" if len(self.group.shots) == 1 or question.shots is None else f" at K = {question.shots}",
                gain=Value(question.gain, signed=True).number(),
                more=question.further,
                draws="draw" if question.further == 1 else "draws",
            )
            for question in within[:FORETOLD]
        ]
        if len(within) > FORETOLD:
            told.append(_fill("{others} up to {most:,}", others=_count(len(within) - FORETOLD, "other"),
                              most=within[-1].further))  # fmt: skip
        if never:
            told.append(_fill("more draws alone would not decide {n}", n=never if within else "any"))
        return Markup("If gains and spreads stay as they are, ") + Markup("; ").join(told) + Markup(".")

    def _at(self, span: Span) -> str:
        return (
            f"At K\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{span[0]}"
            if len(span) == 1
            else f"On average over K = {_join([str(one) for one in span])}"
        )

    # Sentences

    def paragraphs(self) -> list[Markup]:
        """What is to be said beside the answer, most important first."""
        told = [self._set_up(), self._over_frozen(), self._by_shots(), *self._costs()]
        return [paragraph for paragraph in told if paragraph]

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

    def _highest(self, best: Best) -> Markup:
        text = _fill(
            "{at}, <b>{best}</b> is highest with {value}% {metric}",
            at=self._at(best.span),
            best=best.pair,
            value=best.value.number(),
            metric=METRICS["top1"].replace("-", "\N{NON-BREAKING HYPHEN}"),
        )
        if best.value.gaps:
            text += _fill(" ({gap})", gap=best.value.gap())
        return text + self._separation(best)

    def _separation(self, best: Best) -> Markup:
        if best.second is None:
            return Markup("; no other pair has a number on the same draws.")
        name, lead = best.second
        text = _fill(
            ", {lead} points from the next, <b>{second}</b>", lead=Value(lead, signed=True).number(), second=name
        )
        if lead.n < best.value.planned:
            text += _fill(" (over the {shared} that both have)", shared=_count(lead.n, "draw"))
        if self.answer.rule is not None:
            return text + Markup(". Draws were added by what was seen, so this is not tested.")
        if not best.tested:
            return text + _fill(". Nothing is tested with {n}: the order may be chance.", n=_count(lead.n, "draw"))
        if not best.behind:
            return text + Markup("; no other pair is shown to be below the best.")
        text += _fill("; {behind} shown to be below the best", behind=_verb(_names_or_count(best.behind), best.behind))
        if best.ties:
            text += _fill(", but not {ties}", ties=_names_or_count(best.ties))
        return text + Markup(".")

    def _over_frozen(self) -> Markup:
        """Which pairs gain over the frozen towers, and lose."""
        if self._gains is None or self.group.baseline is None or self.answer.rule is not None:
            return Markup("")
        if not self.answer.values(self.answer.span):
            return Markup("")
        at, averaged = len(self._table.columns) - 1, self.comparison.averaged
        values = {row.name: row.values[at] for row in self._table.rows if row.values[at].mean is not None}
        text = self._holding(values, f"{self._at(averaged)[0].lower()}{self._at(averaged)[1:]}")
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
        if len(self.group.shots) < 2 or self.answer.rule is not None:
            return Markup("")
        told = []
        for shots in self.group.shots:
            verdict = self.answer.best_at((shots,))
            if verdict is None:
                continue
            entry = _fill("K = {k}: <b>{best}</b> {value}", k=shots, best=verdict.pair, value=verdict.value.number())
            if verdict.tested and verdict.ties:
                entry += _fill(", and {which} may be as good", which=_names_or_share(verdict.ties, verdict.behind))
            elif verdict.tested and verdict.behind:
                entry += Markup(", above every other")
            told.append(entry)
        return Markup("Highest at each K: ") + Markup("; ").join(told) + Markup(".") if told else Markup("")

    def _costs(self) -> list[Markup]:
        """What the highest pair costs, beside the frozen towers."""
        verdict = self.answer.best
        if verdict is None:
            return []
        table = cost_table(self.group)
        rows = {row.name: dict(zip(table.columns, row.values, strict=True)) for row in table.rows}
        ours = rows[verdict.pair]
        if not all(ours[name].mean for name in ("image method", "text method", "fusion", "train s")):
            return []
        weights = sum(_mean_of(ours[name]) for name in ("image method", "text method"))
        text = _fill(
            "What that costs: the methods of <b>{pair}</b> train {weights} weights beside the {fusion} of the fusion; "
            "training took {seconds} s a cell at K = {shots}",
            pair=verdict.pair,
            weights=f"{weights:,.0f}",
            fusion=ours["fusion"].text,
            seconds=ours["train s"].text,
            shots=self.group.shots[-1],
        )
        baseline = self.group.baseline_of(verdict.pair)
        theirs = rows.get(baseline or "", {}).get("train s")
        if theirs is not None and theirs.mean and theirs.mean.mean > 0 and verdict.pair != baseline:
            ratio = _mean_of(ours["train s"]) / theirs.mean.mean
            text += _fill(", {ratio:.1f} times that of {baseline}", ratio=ratio, baseline=baseline)
        return [
            text + Markup(". Features of a frozen tower that were kept cost nothing again, so times are of this run.")
        ]

    def cautions(self) -> list[str]:
        """How to read the numbers; mostly the same for all data sets of a page."""
        draws = len(self.group.draws)
        told: list[str] = []
        if not self.answer.values(self.answer.span):
            return told
        if draws > 1:
            told.append(
                "± is the 95% Student-t interval over draws of the training clips; a second ±, where it is the wider "
                "one, is over test clips, by source."
            )
            if "all" in self.group.shots:
                told.append("At K = all every draw holds the same clips, so there it is over repeated trainings.")
        else:
            told.append("There is one draw of the training clips, so no number here has an interval or a test.")
        if self.answer.rule is not None:
            told.append(
                "Gains carry the intervals of their verdicts, which hold together in 95% of tables, for other draws "
                "and these test clips; a gain over several K has the mean of theirs."
            )
        elif draws >= FEWEST_DRAWS and len(self.group.pairs) > 1:
            told.append(
                f"Tests ask whether a difference would be seen with other draws and other test clips, at {LEVEL:.0%} "
                "over a table: gains are corrected by Holm, and the pairs that may be best are a model confidence set."
            )
        if len(self.group.pairs) > 2:
            told.append("The best pair was picked for being highest: expect a little less of it.")
        if self.group.dataset == "tiny":
            told.append(
                "The clips of tiny are generated: its numbers say nothing about which method is best on real video."
            )
        return told


def over_data_sets(overall: Overall, *, margin: float) -> Markup:
    """The answer over several data sets; nothing where there is one alone, or where no pair gains on all of them.

    Args:
        overall: the first table.
        margin: points up to which a pair is close to the best.
    """
    whole = [pair for pair in overall.pairs if pair.gain.mean is not None and not pair.gain.lacking]
    if len(overall.blocks) < 2 or not whole:
        return Markup("")
    best = whole[0]
    verdict = "better on these and on other data sets" if best.elsewhere else best.verdict
    if overall.decided_by_looks:
        verdict = f"verdicts: {verdict}"
    text = _fill(
        "Over the {n} data sets, <b>{pair}</b> gains most: <b class='gained'>{gain}</b> points over {baseline} "
        "({verdict}).",
        n=len(overall.blocks),
        pair=best.name,
        gain=_gain_in_words(best.gain, overall),
        baseline=_join(overall.baselines),
        verdict=verdict,
    )
    near = [pair for pair in whole if _mean_of(best.gain) - _mean_of(pair.gain) <= margin and pair.weights.mean]
    cheapest = min(near, key=lambda pair: _mean_of(pair.weights), default=best)
    if cheapest is best:
        return text + _fill(" No cheaper pair has a mean gain within {margin:g} points of it.", margin=margin)
    return text + _fill(
        " The cheapest pair with a mean gain within {margin:g} points of it is <b>{pair}</b>: {gain}, with {weights} "
        "trained weights in place of {price}.",
        margin=margin,
        pair=cheapest.name,
        gain=_gain_in_words(cheapest.gain, overall),
        weights=cheapest.weights.text or "?",
        price=best.weights.text or "?",
    )


def _gain_in_words(gain: Value, overall: Overall) -> str:
    """A mean gain, without an interval where draws were added by what was seen."""
    mean = gain.mean
    assert mean is not None
    known = replace(mean, half=None, half_clips=None) if overall.decided_by_looks else mean
    return replace(gain, mean=known).number()


_NO_COMMON_DRAWS = Markup("No two pairs have the same draws yet, so none can be called highest.")


def _fill(text: str, **values: object) -> Markup:
    """A sentence; what is filled in is escaped unless it is a sentence itself."""
    return Markup(text).format(**values)


def _distance_in_words(mean: Mean) -> str:
    """How far something is below another, in words."""
    interval = Value(replace(mean, mean=abs(mean.mean))).number()
    return f"{interval} points {'below' if mean.mean >= 0 else 'above'}"


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
