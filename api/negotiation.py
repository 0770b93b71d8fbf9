"""Which of the media types that a read offers the caller would rather have (RFC 9110, section 12.5.1)."""

from collections.abc import Iterator

from fastapi import Request

JSON, CSV, NDJSON, EVENT_STREAM = "application/json", "text/csv", "application/x-ndjson", "text/event-stream"


def negotiated(request: Request, *offered: str) -> str:
    """Return the media type to answer with; the first one offered where `Accept` asks for none of them."""
    ranges = list(_ranges(", ".join(request.headers.getlist("accept")) or "*/*"))
    best = max(offered, key=lambda media_type: _quality(media_type, ranges))
    return best if _quality(best, ranges) > 0 else offered[0]


def _ranges(accept: str) -> Iterator[tuple[str, float]]:
    for part in accept.split(","):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weights = [parameter[2:] for parameter in parameters if parameter.startswith("q=")]
        try:
            yield name, float(weights[0]) if weights else 1.0
        except ValueError:
            yield name, 0.0


def _quality(media_type: str, ranges: list[tuple[str, float]]) -> float:
    """Return the weight of the range that names the media type most closely."""
    kind = media_type.partition("/")[0]
    for name in (media_type, f"{kind}/*", "*/*"):
        weights = [weight for found, weight in ranges if found == name]
        if weights:
            return max(weights)
    return 0.0
