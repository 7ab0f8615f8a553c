"""A plan for people: folded to a few lines a table, however many days it has."""

from collections.abc import Callable, Sequence
from datetime import date
from functools import partial

from pipeline_assets.partition import Partition, ranges_of, spans_in_words
from pipeline_assets.report.words import count, duration
from pipeline_assets.rules.backfill import Action, Entry, Made, Mode, Plan, Reason, Spread, chain, total

few = partial(spans_in_words, at_most=4)
"""Stretches of days, in a cell."""
COLUMNS = ("table", "reason", "days", "which", "the first of them")
PROGRESS_COLUMNS = ("table", "watermark", "gaps before it")
MEANINGS = {
    Reason.FAILED: "its last attempt failed",
    Reason.MISSING: "it was never made, or is gone",
    Reason.UNRECORDED: "somebody else wrote or changed its file",
    Reason.TORN: "its tables are of different steps",
    Reason.CODE_CHANGED: "it was made by another version of the code",
    Reason.INPUT_CHANGED: "it was made from another version of {because}",
    Reason.LATE_DATA: "{because} came after it was made",
    Reason.MADE: "wrong code made it",
    Reason.REQUESTED: "it was asked for",
    Reason.DOWNSTREAM_OF: "it reads {because}",
}
CAUSES = {
    Reason.INPUT_CHANGED: "{because} changed",
    Reason.LATE_DATA: "{because} came later",
    Reason.DOWNSTREAM_OF: "reads {because}",
}
LOOKED_FOR = {
    Mode.FULL: "nothing that changed",
    Mode.INCREMENTAL: "neither a gap nor an input that changed, and no day from the watermark on",
    Mode.SELECTIVE: "nothing that changed",
    Mode.STALE: "neither code nor an input that changed since it was made, or it was never made",
    Mode.MISSING: "it is there",
    Mode.FAILED: "its last attempt did not fail, or it was made since",
    Mode.MADE: "something else made it",
}


def headline(plan: Plan) -> str:
    """Say what was asked for, in one line, without its full stop."""
    ask = plan.ask
    why = f", because: {ask.why}" if ask.why else ""
    force = ", by force" if ask.force else ""
    days = few(ask.days) or "all days"
    what = f"{ask.mode.value} backfill of" if ask.made is None else f"backfill of what was made {_made(ask.made)}, of"
    return f"{what} {', '.join(ask.tables)}, {days}{force}{why}"


def _made(made: Made) -> str:
    told = [] if made.code_version is None else [f"by {made.code_version}"]
    told += [f"{word} {at:%Y-%m-%d %H:%M %Z}" for word, at in (("from", made.since), ("to", made.until)) if at]
    return " ".join(told)


def rows(plan: Plan) -> list[list[object | None]]:
    """A row for each table, and below it one for each action and reason, by `COLUMNS`."""
    found: list[list[object | None]] = []
    for lead in plan.order:
        found.append([lead, None, None, None, None])
        grouped: dict[tuple[Action, Reason | None], list[date]] = {}
        for day, entry in plan.entries[lead].items():
            grouped.setdefault((entry.action, entry.reason), []).append(day)
        for (action, reason), days in sorted(grouped.items(), key=lambda item: list(Action).index(item[0][0])):
            cause = _cause(plan.entries[lead][days[0]])
            found.append([f"  {action.value}", reason.value if reason else None, len(days), folded(days), cause])
    return found


def folded(days: Sequence[date]) -> str:
    """Write ascending days as a few stretches."""
    return few(ranges_of(days))


def progress_rows(plan: Plan) -> list[list[object]]:
    """A row for each table that was asked for, by `PROGRESS_COLUMNS`."""
    return [[lead, each.watermark or "nothing yet", _gaps(each.gaps)] for lead, each in plan.progressed.items()]


def sums(plan: Plan, *, runs: int | None) -> list[str]:
    """Sum up the plan in sentences, with the number of runs that it takes if that is known."""
    computed, skipped, waiting = (len(plan.partitions(action)) for action in Action)
    said = []
    if computed:
        days = len({day for lead in plan.order for day in plan.days(lead)})
        in_runs = "" if runs is None else f", in {count(runs, 'run')}"
        what = f"{count(computed, 'partition')} of {count(days, 'day')}"
        said += [f"To compute: {what}{in_runs}, tables in this order.", _estimates(plan)]
    else:
        said.append("Nothing is to be computed.")
    if skipped:
        force = "" if plan.ask.force else "; --force computes them all the same"
        said.append(f"Skipped: {count(skipped, 'partition')}, as inputs and code did not change{force}.")
    if waiting:
        reason = "for what is not there, or is being made; not computed now"
        said.append(f"Waiting: {count(waiting, 'partition')}, {reason}.")
    if plan.ask.mode is Mode.INCREMENTAL:
        said.append("Days before the watermark that only other code made are left alone: --mode stale finds them.")
    return said


def explained(plan: Plan, partition: Partition) -> list[str]:
    """Why a partition is in the plan, or is not, link by link, in sentences."""
    links = chain(plan, partition)
    if not links:
        why = _why_left_alone(plan, partition)
        return [f"{partition} is left alone: {why}, and it reads nothing that is computed."]
    said = [_explained(each, entry) for each, entry in links]
    last, entry = links[-1]
    if entry.action is Action.WAIT and entry.because not in (None, last):
        said.append(f"{entry.because} is not there, and nothing in this plan makes it.")
    return said


def _explained(partition: Partition, entry: Entry) -> str:
    if entry.reason is None:
        return f"{partition} is skipped: its inputs and code did not change."
    meaning = MEANINGS[entry.reason].format(because=entry.because)
    if entry.action is not Action.WAIT:
        return f"{partition} is computed, {entry.reason.value}: {meaning}."
    if entry.because == partition:
        return f"{partition} waits: somebody else is making it, or it must not be tried again now."
    return f"{partition} should be computed, {entry.reason.value}, and waits for {entry.because}."


def _why_left_alone(plan: Plan, partition: Partition) -> str:
    ask = plan.ask
    if partition.table not in ask.tables:
        return f"{partition.table} was not asked for"
    if ask.days and not any(first <= partition.day <= last for first, last in ask.days):
        return "its day was not asked for"
    if ask.mode is Mode.MADE:
        return f"it is not meant: {LOOKED_FOR[ask.mode]}"
    return f"--mode {ask.mode.value} finds nothing to do for it ({LOOKED_FOR[ask.mode]})"


def _cause(entry: Entry) -> str:
    if entry.because is None or entry.reason is None:
        return ""
    words = "waits for {because}" if entry.action is Action.WAIT else CAUSES.get(entry.reason, "")
    return words.format(because=entry.because)


def _estimates(plan: Plan) -> str:
    estimate = total(plan.estimates.values())
    told = [
        f"{_estimated(spread, form)} {unit}"
        for spread, form, unit in (
            (estimate.rows, "{:,.0f}".format, "rows"),
            (estimate.size_bytes, lambda value: f"{value / 1e6:,.1f}", "MB"),
            (estimate.seconds, duration, "of work"),
        )
        if spread is not None
    ]
    if not told:
        return "How long that takes is not known: no day of these tables was made before."
    unknown = [lead for lead in plan.order if lead in plan.estimates and plan.estimates[lead].seconds is None]
    besides = f"; nothing is known yet of {', '.join(unknown)}" if unknown else ""
    return f"As the days before: about {', '.join(told)}{besides}."


def _estimated(spread: Spread, form: Callable[[float], str]) -> str:
    expected, low, high = form(spread.expected), form(spread.low), form(spread.high)
    return expected if low == high else f"{expected} ({low} to {high})"


def _gaps(gaps: Sequence[tuple[date, date]]) -> str:
    if not gaps:
        return "none"
    days = sum((last - first).days + 1 for first, last in gaps)
    return f"{count(days, 'day')}: {few(gaps)}"
