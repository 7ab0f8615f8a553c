"""The key of a table as Dagster shows it: a constraint on each of its columns."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

KEY_CONSTRAINT = "key"
"""Of the columns that tell a row together. Dagster's own `unique` is of one column by itself."""


def keys_of(defs: dg.Definitions) -> dict[str, tuple[str, ...]]:
    """The key of every table that states one, by the table's name."""
    specs = {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}
    return {table: key for table, spec in specs.items() if (key := key_in(spec.metadata))}


def key_in(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """The key that an asset's metadata tells of; empty if it tells of none."""
    schema = metadata.get("dagster/column_schema")
    if isinstance(schema, dg.TableSchemaMetadataValue):
        schema = schema.schema
    if not isinstance(schema, dg.TableSchema):
        return ()
    return tuple(each.name for each in schema.columns if KEY_CONSTRAINT in each.constraints.other)
