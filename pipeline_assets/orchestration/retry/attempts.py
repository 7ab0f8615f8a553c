"""What earlier attempts of a step left behind, so that a further one computes only the days that are not settled.

Attempts of a step may be processes of their own, and any of them may be killed, so it is kept where Dagster keeps the
rest: in the log of the run, as notes that are written while the step runs. Days that Dagster recorded are found as
their materializations.
"""

import base64
import json
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal

import dagster as dg

from pipeline_assets.codec import codec
from pipeline_assets.orchestration.retry.step import Failure, Step
from pipeline_assets.rules.checks import Finding
from pipeline_assets.rules.retry import verdict_named

_MARK = "\npipeline/settled:"
"""Ends what a note says to people. An engine event goes to the log of its run and nowhere else, so it costs a fifth of
an asset's event; its metadata cannot be given in public, hence it stands in the message."""
Noted = tuple[str, str, date, Finding]
"""Table, check, day, and what was found."""


@dataclass(frozen=True, slots=True)
class SettledDays:
    """Days that earlier attempts of a step have settled.

    Args:
        committed: by day, the metadata of the record of each table.
        given_up: by day.
        found: findings of these days.
        recorded: tables and days whose records Dagster has.
    """

    committed: Mapping[date, Mapping[dg.AssetKey, Mapping[str, Any]]] = field(default_factory=dict)
    given_up: Mapping[date, Failure] = field(default_factory=dict)
    found: tuple[Noted, ...] = ()
    recorded: Collection[tuple[dg.AssetKey, date]] = ()


@dataclass(frozen=True, slots=True)
class _Note:
    """What a note holds: materializations, serialized; by day the verdict's name, kind and reason; and findings.

    Args:
        format: of the text; a text without one is of format 1.
    """

    code_version: str = ""
    committed: Sequence[str] = ()
    given_up: Mapping[date, tuple[str, str, str]] = field(default_factory=dict)
    found: Sequence[Noted] = ()
    format: Literal[1] = 1


def note(context: dg.AssetExecutionContext, step: Step, code_version: str, told: str, settled: SettledDays) -> None:
    """Write down what is settled, for whoever goes on with this step.

    Args:
        told: what the log says of it.
        settled: nothing that was noted before; all notes count together.
    """
    committed = [
        dg.serialize_value(dg.AssetMaterialization(key, partition=day.isoformat(), metadata=metadata))
        for day, records in settled.committed.items()
        for key, metadata in records.items()
    ]
    given_up = {day: (failed.verdict.name, failed.kind, failed.told) for day, failed in settled.given_up.items()}
    values = codec(_Note).dump_python(_Note(code_version, committed, given_up, settled.found), mode="json")
    packed = base64.b64encode(zlib.compress(json.dumps(values).encode(), level=1)).decode()
    step.instance.report_engine_event(f"{told}{_MARK}{packed}", context.run, step_key=step.key)


def recall(step: Step, code_version: str) -> SettledDays:
    """What earlier attempts of the step left, in this run and in those whose worker died; nothing on the first.

    What other code gave up is not given up.
    """
    if not (step.retry_number or step.earlier_runs):
        return SettledDays()
    committed: dict[date, dict[dg.AssetKey, Mapping[str, Any]]] = {}
    recorded: dict[tuple[dg.AssetKey, date], bool] = {}
    given_up: dict[date, tuple[str, str, str]] = {}
    found: dict[tuple[str, str, date], Noted] = {}
    for entry in _events_of(step):
        event = entry.get_dagster_event()
        left = _Note() if event.is_step_materialization else _unpacked(event.message or "")
        made = [dg.deserialize_value(each, dg.AssetMaterialization) for each in left.committed]
        if event.is_step_materialization:
            made.append(event.step_materialization_data.materialization)
        for each in made:
            if each.partition is not None:
                day = date.fromisoformat(each.partition)
                committed.setdefault(day, {})[each.asset_key] = each.metadata
                recorded[each.asset_key, day] = event.is_step_materialization
        if left.code_version == code_version:
            given_up.update(left.given_up)
        found.update({each[:3]: each for each in left.found})
    return SettledDays(
        committed,
        {
            day: Failure(verdict_named(verdict, step.retrying.verdicts), kind, told)
            for day, (verdict, kind, told) in given_up.items()
        },
        tuple(found.values()),
        {each for each, is_recorded in recorded.items() if is_recorded},
    )


def _unpacked(message: str) -> _Note:
    """What a note holds; nothing if the event is none, or one of another version: those days are computed again."""
    _, _, packed = message.partition(_MARK)
    with suppress(ValueError):
        return codec(_Note).validate_json(zlib.decompress(base64.b64decode(packed))) if packed else _Note()
    return _Note()


def _events_of(step: Step) -> Iterator[dg.EventLogEntry]:
    """The step's own, the oldest first."""
    kinds = {dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.ENGINE_EVENT}
    for run_id in (*reversed(step.earlier_runs), step.run_id):
        for entry in step.instance.all_logs(run_id, of_type=kinds):
            if entry.step_key == step.key:
                yield entry
