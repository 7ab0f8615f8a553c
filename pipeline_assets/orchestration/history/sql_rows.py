"""Rows of Dagster's storages, where those are kept in SQL: columns as they are, nothing built of them."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import dagster as dg
import sqlalchemy as sa

_EVENTS = sa.table("event_logs", *map(sa.column, ("id", "event", "asset_key", "partition", "dagster_event_type")))
_READ = (_EVENTS.c.id, _EVENTS.c.event, _EVENTS.c.partition)
_KEYS = sa.table("asset_keys", *map(sa.column, ("asset_key", "asset_details")))
_RUNS = sa.table("runs", *map(sa.column, ("run_id", "start_time")))
Connect = Callable[[], AbstractContextManager[sa.Connection]]
Rows = Sequence[sa.Row[Any]]


def events(connect: Connect, ids: Sequence[int]) -> Rows:
    """Read events that are there: id, JSON, partition."""
    return _all(connect, sa.select(*_READ).where(_EVENTS.c.id.in_(ids)))


def newest_materializations(connect: Connect, key: dg.AssetKey, *, after: str, limit: int) -> Rows:
    """Read those of partitions whose keys come after that one, as many as the limit: id, JSON, partition."""
    newest_ids = (
        sa.select(sa.func.max(_EVENTS.c.id).label("id"))
        .where(
            _EVENTS.c.asset_key == key.to_string(),
            _EVENTS.c.dagster_event_type == dg.DagsterEventType.ASSET_MATERIALIZATION.value,
            _EVENTS.c.partition > after,
        )
        .group_by(_EVENTS.c.partition)
        .order_by(_EVENTS.c.partition)
        .limit(limit)
        .subquery()
    )
    return _all(connect, sa.select(*_READ).join(newest_ids, newest_ids.c.id == _EVENTS.c.id))


def was_wiped(connect: Connect, key: dg.AssetKey) -> bool:
    """True for what was wiped, which the event log may still hold; Dagster knows."""
    rows = _all(connect, sa.select(_KEYS.c.asset_details).where(_KEYS.c.asset_key == key.to_string()))
    return any(details is not None for (details,) in rows)


def runs(connect: Connect, ids: Sequence[str]) -> Rows:
    """Read runs that are there: id, and when it was started in seconds since 1970, or None."""
    return _all(connect, sa.select(*_RUNS.c).where(_RUNS.c.run_id.in_(ids)))


def _all(connect: Connect, statement: sa.Select[Any]) -> Rows:
    with connect() as connection:
        return connection.execute(statement).all()
