"""A plan as text that a later process, another machine or a person can read: JSON with a digest over its content.

pipeline_plan   the format's number
digest          over all that follows but planned_at
planned_at      ISO 8601, with its offset
ask             mode, tables, days (stretches: first, last), why, force
counts          partitions by action: compute, skip, wait
tables          upstream first: code_version; estimate (partitions; rows, size_bytes, seconds: each expected, low,
                high, or null); partitions (stretches of the same fate: first, last, action, reason, because: table
                and day, or null)
progressed      of the tables that were asked for: watermark, gaps
heads           by table and day: what is written, and what that reads, as it was
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from pipeline_assets.errors import SettingsError
from pipeline_assets.partition import Partition, days_between
from pipeline_assets.rules.backfill import (
    Action,
    Ask,
    Entry,
    Estimate,
    Mode,
    Plan,
    Reason,
    Spread,
    TableProgress,
)

FORMAT = 1
"""Another one when a plan of before can no longer be read as it was meant."""
DIGEST_DIGITS = 16


@dataclass(frozen=True, slots=True)
class PlanFile:
    """A plan, when it was made (aware), and the digest of what it says."""

    plan: Plan
    planned_at: datetime
    digest: str


def digest_of(plan: Plan) -> str:
    """16 hex digits over all that the plan says; when it was made is no part of that."""
    return _digest(_as_json(plan))


def to_text(plan: Plan, *, planned_at: datetime) -> str:
    """The file's content."""
    said = _as_json(plan)
    whole = {"pipeline_plan": FORMAT, "digest": _digest(said), "planned_at": planned_at.isoformat(), **said}
    return json.dumps(whole, indent=1) + "\n"


def of_text(text: str, *, name: str) -> PlanFile:
    """Read a plan back.

    Args:
        name: of the file, for the message.

    Raises:
        SettingsError: the text is no plan, one of another version, or was edited.
    """
    try:
        whole = json.loads(text)
    except ValueError as error:
        msg = f"{name} is not JSON ({error}); a plan is written by `pipeline plan --out FILE`"
        raise SettingsError(msg) from error
    if not isinstance(whole, dict) or "pipeline_plan" not in whole:
        msg = f"{name} is JSON, but no plan; a plan is written by `pipeline plan --out FILE`"
        raise SettingsError(msg)
    if whole["pipeline_plan"] != FORMAT:
        msg = (
            f"{name} is a plan of format {whole['pipeline_plan']}, this version reads format {FORMAT}; plan again with "
            "this version"
        )
        raise SettingsError(msg)
    said = {key: value for key, value in whole.items() if key not in ("pipeline_plan", "digest", "planned_at")}
    if _digest(said) != whole.get("digest"):
        msg = (
            f"{name} was edited after it was written: its content does not have the digest {whole.get('digest')}. "
            "Plan again with the options that you want; what a plan says is decided there."
        )
        raise SettingsError(msg)
    try:
        return PlanFile(_of_json(said), datetime.fromisoformat(whole["planned_at"]), whole["digest"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        msg = f"{name} cannot be read as a plan ({error!r}); plan again with this version"
        raise SettingsError(msg) from error


def _digest(said: Mapping[str, Any]) -> str:
    canonical = json.dumps(said, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(canonical.encode()).hexdigest()[:DIGEST_DIGITS]


def _as_json(plan: Plan) -> dict[str, Any]:
    ask = plan.ask
    return {
        "ask": {
            "mode": ask.mode.value,
            "tables": list(ask.tables),
            "days": [[str(first), str(last)] for first, last in ask.days],
            "why": ask.why,
            "force": ask.force,
        },
        "counts": {action.value: len(plan.partitions(action)) for action in Action},
        "tables": {
            lead: {
                "code_version": plan.code_versions.get(lead),
                "estimate": _estimate_as_json(plan.estimates.get(lead)),
                "partitions": _entries_as_json(plan.entries[lead]),
            }
            for lead in plan.order
        },
        "progressed": {
            lead: {
                "watermark": str(each.watermark) if each.watermark else None,
                "gaps": [[str(first), str(last)] for first, last in each.gaps],
            }
            for lead, each in plan.progressed.items()
        },
        "heads": {table: {str(day): token for day, token in days.items()} for table, days in plan.heads.items()},
    }


def _entries_as_json(entries: Mapping[date, Entry]) -> list[list[Any]]:
    """Stretches of days with the same entry: first, last, action, reason, because."""
    found: list[list[Any]] = []
    previous: tuple[date, Entry] | None = None
    for day, entry in entries.items():
        if previous and previous[1] == entry and (day - previous[0]).days == 1:
            found[-1][1] = str(day)
        else:
            found.append([str(day), str(day), *entry_as_json(entry).values()])
        previous = day, entry
    return found


def entry_as_json(entry: Entry | None) -> dict[str, Any]:
    """Action, reason, because; all null of a partition that is left alone."""
    if entry is None:
        return {"action": None, "reason": None, "because": None}
    return {
        "action": entry.action.value,
        "reason": entry.reason.value if entry.reason else None,
        "because": [entry.because.table, str(entry.because.day)] if entry.because else None,
    }


def _estimate_as_json(estimate: Estimate | None) -> dict[str, Any] | None:
    if estimate is None:
        return None
    spreads = {"rows": estimate.rows, "size_bytes": estimate.size_bytes, "seconds": estimate.seconds}
    return {
        "partitions": estimate.partitions,
        **{name: [each.expected, each.low, each.high] if each else None for name, each in spreads.items()},
    }


def _of_json(said: Mapping[str, Any]) -> Plan:
    ask, tables = said["ask"], said["tables"]
    return Plan(
        Ask(
            Mode(ask["mode"]),
            tuple(ask["tables"]),
            tuple((date.fromisoformat(first), date.fromisoformat(last)) for first, last in ask["days"]),
            ask["why"],
            ask["force"],
        ),
        tuple(tables),
        {lead: _entries_of_json(each["partitions"]) for lead, each in tables.items()},
        {
            table: {date.fromisoformat(day): token for day, token in days.items()}
            for table, days in said["heads"].items()
        },
        {lead: each["code_version"] for lead, each in tables.items() if each["code_version"] is not None},
        {
            lead: TableProgress(
                date.fromisoformat(each["watermark"]) if each["watermark"] else None,
                tuple((date.fromisoformat(first), date.fromisoformat(last)) for first, last in each["gaps"]),
            )
            for lead, each in said["progressed"].items()
        },
        {
            lead: Estimate(
                told["partitions"],
                *(Spread(*told[name]) if told[name] else None for name in ("rows", "size_bytes", "seconds")),
            )
            for lead, each in tables.items()
            if (told := each["estimate"]) is not None
        },
    )


def _entries_of_json(stretches: list[list[Any]]) -> dict[date, Entry]:
    return {
        day: Entry(
            Action(action),
            Reason(reason) if reason else None,
            Partition(because[0], date.fromisoformat(because[1])) if because else None,
        )
        for first, last, action, reason, because in stretches
        for day in days_between(date.fromisoformat(first), date.fromisoformat(last))
    }
