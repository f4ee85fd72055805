"""Where a page of a list ended: the moment and id of its last item, opaque to callers."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime, timezone

from api.errors import InvalidOption


def to_cursor(created_at: datetime, item_id: str) -> str:
    place = f"{created_at.isoformat()} {item_id}"
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


def from_cursor(cursor: str) -> tuple[datetime, str]:
    """
    Raises:
        InvalidOption: the cursor isn't one that a page gave.
    """
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        moment, item_id = base64.b64decode(padded, altchars=b"-_", validate=True).decode().split()
        created_at = datetime.fromisoformat(moment)
        if created_at.tzinfo is None or not item_id.isalnum():
            raise ValueError("It has no time zone or no id")
        return created_at.astimezone(timezone.utc), item_id
    except (ValueError, OverflowError, binascii.Error) as error:
        raise InvalidOption("The cursor is not one of ours", cursor=cursor) from error
