"""The verdicts of a grid whose draws are added until all is decided."""

from __future__ import annotations

from mmfuse.records.decisions import Decision
from mmfuse.report.groups import Group
from mmfuse.report.tables.table import Row, Table, Value


def verdict_table(group: Group) -> Table | None:
    """Pairs × shots, each with its verdict; `None` where draws are listed."""
    found = {(decision.pair, decision.shots): decision for decision in group.decisions}
    if not found:
        return None
    pairs = list(dict.fromkeys(decision.pair for decision in group.decisions))
    return Table(
        key="verdicts",
        title=f"{group.title}: verdicts",
        corner="image+text",
        columns=tuple(f"K={shots}" for shots in group.shots),
        rows=tuple(
            Row(pair, tuple(Value(text=_verdict_in_words(found.get((pair, shots)))) for shots in group.shots))
            for pair in pairs
        ),
        notes=(
            "Verdict, gain in points of top-1 and draws; ± is the interval that the verdict is read off. All verdicts "
            "of the table hold together in 95% of tables, for other draws and these test clips.",
        ),
        context={"dataset": group.dataset, "split": str(group.split), "metric": "top1"},
        axes=tuple({"shots": str(shots), "quantity": "verdict"} for shots in group.shots),
        caption=f"What is decided of each pair on {group.title}, by training clips a class (K).",
    )


def _verdict_in_words(decision: Decision | None) -> str:
    if decision is None or (decision.verdict is None and decision.gain is None):
        return "–"
    if decision.gain is None or decision.half is None:
        return str(decision.verdict)
    text = f"{decision.verdict} {decision.gain:+.1f} ± {decision.half:.1f} ({decision.draws}"
    if decision.verdict != "open":
        return f"{text})"
    return f"{text}; {decision.further} more)" if decision.further is not None else f"{text}; over 1,000 more)"
