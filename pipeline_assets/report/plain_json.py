"""Reports as JSON: sorted keys, days as YYYY-MM-DD, moments in UTC, decimals as text."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any


def fields(each: object, names: Iterable[str]) -> dict[str, Any]:
    """Some attributes, by their names."""
    return {name: getattr(each, name) for name in names}


def sorted_json(value: object) -> str:
    """Write it.

    Raises:
        ValueError: a number is not finite.
    """
    return json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False, default=_text)


def _text(value: object) -> str:
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else str(value)
