"""Events as S3 and the services behind it send them, so far as they are documented, for a landing zone at `in/`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote_plus

BUCKET = "shop-landing"
PREFIX = "in/"


def key_of(day: str, name: str = "orders.csv.gz") -> str:
    return f"{PREFIX}dt={day}/{name}"


def written(key: str, etag: str | None = "e1", sequencer: str | None = "0055AED6DCD90281E5", **more: Any) -> Any:
    """A notification of S3: keys are encoded as forms are."""
    found = {"key": quote_plus(key, safe="/="), "size": 1024, "eTag": etag, "sequencer": sequencer, **more}
    return _notification("ObjectCreated:Put", found)


def removed(key: str, sequencer: str | None, name: str = "ObjectRemoved:Delete") -> Any:
    return _notification(name, {"key": quote_plus(key, safe="/="), "sequencer": sequencer})


def _notification(name: str, found: Mapping[str, Any]) -> Any:
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": "eu-central-1",
        "eventTime": "2026-06-10T04:00:00.000Z",
        "eventName": name,
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "landing",
            "bucket": {"name": BUCKET, "arn": f"arn:aws:s3:::{BUCKET}"},
            "object": {field: value for field, value in found.items() if value is not None},
        },
    }


def event_bridge(key: str, etag: str | None, sequencer: str | None) -> Any:
    """The same by EventBridge: keys are as they are. A removal if there is no `etag`."""
    found = {"key": key, "size": 1024, "etag": etag, "sequencer": sequencer, "version-id": None}
    return {
        "version": "0",
        "id": "17793124-05d4-b198-2fde-7ededc63b103",
        "detail-type": "Object Created" if etag else "Object Deleted",
        "source": "aws.s3",
        "time": "2026-06-10T04:00:00Z",
        "detail": {
            "version": "0",
            "bucket": {"name": BUCKET},
            "object": {field: value for field, value in found.items() if value is not None},
            "reason": "PutObject" if etag else "DeleteObject",
        },
    }


def records(*notifications: Any) -> Any:
    """What S3 sends: one or more notifications."""
    return {"Records": list(notifications)}


def sns_to_sqs(message: Any) -> Any:
    return {"Type": "Notification", "TopicArn": "arn:aws:sns:::landing", "Message": json.dumps(message)}


def sns_to_lambda(message: Any) -> Any:
    return records({"EventSource": "aws:sns", "EventVersion": "1.0", "Sns": {"Message": json.dumps(message)}})


def sqs(*bodies: Any) -> Any:
    """A batch of SQS with the messages m0, m1, ...; a body that is text is sent as it is."""
    return {
        "Records": [
            {
                "messageId": f"m{number}",
                "receiptHandle": "-",
                "body": body if isinstance(body, str) else json.dumps(body),
                "attributes": {"ApproximateReceiveCount": "1"},
                "eventSource": "aws:sqs",
            }
            for number, body in enumerate(bodies)
        ]
    }


def failed(answer: Any) -> list[str]:
    """The messages that SQS delivers again."""
    return [each["itemIdentifier"] for each in answer["batchItemFailures"]]
