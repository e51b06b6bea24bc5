"""What becomes of a part of the source: decided in `media/stream_mapping`, told in the report."""

from enum import StrEnum


class Action(StrEnum):
    """What happens to a stream, or to chapters, tags and the like."""

    ENHANCED = "enhanced"
    COPIED = "copied"
    TRANSCODED = "transcoded"
    NOT_CARRIED = "not carried"
