"""Answers of a landing server are lost on their way, at chosen requests and bytes, while its file may change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any

from pipeline_assets.errors import LandingUnavailable
from pipeline_assets_tests.proofs.subject import Case, Subject
from pipeline_assets_tests.store.http_zone import BODY, CUT, DAY, OLD, OLDER, OTHER, PATH, content, landing_zone, plain
from pipeline_assets_tests.support.misbehaving_server import Answer, busy, misbehaving_server, repr_digest

ATTEMPTS = 4
"""Each finds a server that answers, but for the lost answers."""
SAID: Mapping[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "an ETag": ({}, {"etag": '"two"'}),
    "a weak ETag": ({"etag": 'W/"one"'}, {"etag": 'W/"two"'}),
    "a date": ({"etag": None, "last_modified": OLDER}, {"etag": None, "last_modified": OLD}),
    "a checksum": ({"etag": None, "headers": repr_digest(BODY)}, {"etag": None, "headers": repr_digest(OTHER)}),
    "nothing": ({"etag": None}, {"etag": None}),
    "an ETag, in chunks": ({"framing": "chunked"}, {"etag": '"two"', "framing": "chunked"}),
    "a date, in chunks": (
        {"etag": None, "last_modified": OLDER, "framing": "chunked"},
        {"etag": None, "last_modified": OLD, "framing": "chunked"},
    ),
}
"""What the server says of its file, and of the one that replaces it."""
LOST: Mapping[str, Answer] = {
    "no answer, connection reset": Answer(drops=True),
    "no answer, silence": Answer(hangs=True),
    "503": busy(503),
    "429, wait a moment": busy(429, 0.01),
    **{
        f"{ending} after {after:,} bytes": Answer(ends_after=after, ending=ending)
        for ending in ("close", "reset")
        for after in (0, 1, CUT, len(BODY) - 1)
    },
}
"""What becomes of an answer. Where its body is cut off, that is the body it would have had."""
WHEN: Mapping[str, tuple[int | None, ...]] = {
    "the first": (None,),
    "the resumption": (CUT, None),
    "the first two": (None, None),
}
"""Which requests lose their answers: None as the case says, a number after so many bytes."""


def served(case: Case) -> tuple[list[Answer], bytes]:
    """What the server answers, one after the other, and the bytes that it has in the end."""
    said, lost, when, changes = case
    before, after = SAID[said]
    faults = [LOST[lost] if at is None else Answer(ends_after=at, ending="reset") for at in WHEN[when]]
    answers = [
        fault if fault.ends_after is None else plain(ends_after=fault.ends_after, ending=fault.ending, **before)
        for fault in faults
    ]
    return ([*answers, plain(OTHER, **after)], OTHER) if changes == "changed" else ([*answers, plain(**before)], BODY)


def prove(case: Case, folder: Path) -> str:
    """Read the day until it comes; what comes is the file that the server has, or the one that it had, whole."""
    answers, body = served(case)
    with misbehaving_server() as server:
        server.script(PATH, *answers)
        for attempt in range(ATTEMPTS):
            landing = landing_zone(server.url, folder)
            with suppress(LandingUnavailable):
                files = landing.files(DAY)
                found = content(files)
                assert found in (body, BODY)
                landing.check_complete(DAY, files)
                came = "whole at once" if attempt == 0 else "whole after it was refused by name"
                return came if found == body else f"{came}, as it was before it changed"
    raise AssertionError(f"it did not come in {ATTEMPTS} attempts")


def cases() -> Sequence[Case]:
    """Each loss of each request, whatever the server says, with and without a change of the file behind it."""
    return list(product(SAID, LOST, WHEN, ("same", "changed")))


SUBJECT = Subject(
    "lost_answers",
    "A landing file some of whose answers are lost, cut off or refused comes whole, or its day is refused by name and "
    "comes whole when it is asked for again. Where the file changed meanwhile, the two are never mixed.",
    cases,
    prove,
    sampled=84,
)
