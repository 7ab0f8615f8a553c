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

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from pipeline_assets.codec import codec, unreadable
from pipeline_assets.errors import UsageError
from pipeline_assets.partition import Partition, days_between
from pipeline_assets.rules.backfill import Action, Ask, Entry, Estimate, Plan, Reason, TableProgress

FORMAT = 1
"""Another one when a plan of before can no longer be read as it was meant."""
DIGEST_DIGITS = 16


@dataclass(frozen=True, slots=True)
class PlanFile:
    """A plan, when it was made (aware), and the digest of what it says."""

    plan: Plan
    planned_at: datetime
    digest: str


_Stretch = tuple[date, date, Action, Reason | None, Partition | None]


@dataclass(frozen=True, slots=True)
class _Step:
    code_version: str | None
    estimate: Estimate | None
    partitions: Sequence[_Stretch]


@dataclass(frozen=True, slots=True)
class _PlanJson:
    ask: Ask
    counts: Mapping[Action, int]
    tables: Mapping[str, _Step]
    progressed: Mapping[str, TableProgress]
    heads: Mapping[str, Mapping[date, str | None]]


def digest_of(plan: Plan) -> str:
    """16 hex digits over all that the plan says; when it was made is no part of that."""
    return _digest(_as_json(plan))


def to_text(plan: Plan, *, planned_at: datetime) -> str:
    """Write a plan as the content of a file."""
    said = _as_json(plan)
    whole = {"pipeline_plan": FORMAT, "digest": _digest(said), "planned_at": planned_at.isoformat(), **said}
    return json.dumps(whole, indent=1) + "\n"


def of_text(text: str, *, name: str) -> PlanFile:
    """Read a plan back from the content of the file of that name.

    Raises:
        UsageError: the text is no plan, one of another version, or was edited.
    """
    try:
        whole = json.loads(text)
    except ValueError as error:
        raise UsageError(f"{name} is not JSON ({error}); a plan is written by `pipeline plan --out FILE`") from error
    if not isinstance(whole, dict) or "pipeline_plan" not in whole:
        raise UsageError(f"{name} is JSON but not a plan; a plan is written by `pipeline plan --out FILE`")
    if whole["pipeline_plan"] != FORMAT:
        raise UsageError(
            f"{name} is a plan of format {whole['pipeline_plan']}, this version reads format {FORMAT}; plan again with "
            "this version"
        )
    said = {key: value for key, value in whole.items() if key not in ("pipeline_plan", "digest", "planned_at")}
    if _digest(said) != whole.get("digest"):
        raise UsageError(
            f"{name} was edited after it was written: its content does not have the digest {whole.get('digest')}. "
            "Plan again with the options that you want; what a plan says is decided there."
        )
    try:
        return PlanFile(_of_json(said), datetime.fromisoformat(whole["planned_at"]), whole["digest"])
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"{name} cannot be read as a plan ({unreadable(error)}); plan again with this version"
        ) from error


def _digest(said: Mapping[str, Any]) -> str:
    canonical = json.dumps(said, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(canonical.encode()).hexdigest()[:DIGEST_DIGITS]


def _as_json(plan: Plan) -> dict[str, Any]:
    steps = {
        lead: _Step(plan.code_versions.get(lead), plan.estimates.get(lead), _stretches(plan.entries[lead]))
        for lead in plan.order
    }
    counts = {action: len(plan.partitions(action)) for action in Action}
    said = _PlanJson(plan.ask, counts, steps, plan.progressed, plan.heads)
    values: dict[str, Any] = codec(_PlanJson).dump_python(said, mode="json")
    return values


def _of_json(values: Mapping[str, Any]) -> Plan:
    said = codec(_PlanJson).validate_python(values)
    return Plan(
        said.ask,
        tuple(said.tables),
        {
            lead: {
                day: Entry(action, reason, because)
                for first, last, action, reason, because in step.partitions
                for day in days_between(first, last)
            }
            for lead, step in said.tables.items()
        },
        said.heads,
        {lead: step.code_version for lead, step in said.tables.items() if step.code_version is not None},
        said.progressed,
        {lead: step.estimate for lead, step in said.tables.items() if step.estimate is not None},
    )


def _stretches(entries: Mapping[date, Entry]) -> list[_Stretch]:
    found: list[_Stretch] = []
    for day, entry in entries.items():
        fate = entry.action, entry.reason, entry.because
        if found and found[-1][2:] == fate and (day - found[-1][1]).days == 1:
            found[-1] = found[-1][0], day, *fate
        else:
            found.append((day, day, *fate))
    return found


def entry_as_json(entry: Entry | None) -> dict[str, Any]:
    """Give action, reason and because; all are null if the partition is left alone."""
    if entry is None:
        return {"action": None, "reason": None, "because": None}
    values: dict[str, Any] = codec(Entry).dump_python(entry, mode="json")
    return values
