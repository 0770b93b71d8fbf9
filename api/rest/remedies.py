"""What a caller does next about each problem: the second half of its page under /problems."""

from collections.abc import Mapping

_READ_AGAIN = "Read the list that the id came from again. Check the id's kind, and that the token's groups hold the thing."
_ENDED = "Drop the id: it never comes back. Its history and its past states can still be read."

REMEDIES: Mapping[str, str] = {
    "body-too-large": "Send less at once: split the items over several requests.",
    "class-archived": "Restore the class (POST /v1/classes/{id}/restore), give the command, and archive the class again.",
    "class-deleted": _ENDED,
    "class-unknown": _READ_AGAIN,
    "enrolled-in-other-role": "Change the role: PATCH /v1/classes/{id}/members/{user_id} with the role.",
    "expensive-reads-busy": "Try again after Retry-After seconds, or ask for less: a page, a class, a shorter time.",
    "group-deleted": _ENDED,
    "group-unknown": _READ_AGAIN,
    "headers-too-large": "Send fewer or shorter headers, and put long values into the body.",
    "id-taken": "Take another id. If the thing is the one that you meant, read it and change it.",
    "internal-error": "Try again once. If it fails again, give the operator the request id.",
    "invalid-request": "Correct each place that errors names, and send the request again.",
    "items-refused": "Correct or leave out the items that were refused, or send them without atomic=true.",
    "key-reused": "Send a new Idempotency-Key. Only a repetition of the very same request takes the same one.",
    "keys-unreadable": "Try again after Retry-After seconds. The operator checks ROSTERLOG_AUTH_KEYS.",
    "malformed-request": "Send the request with an HTTP client library, and look at proxies between. Name the host once.",
    "member-unknown": "Read the roster, and enrol the user first: POST /v1/classes/{id}/members.",
    "members-refused": "Correct or leave out each member that errors names, and send the whole roster again.",
    "method-not-allowed": "Take one of the methods that the header Allow names.",
    "not-acceptable": "Send one of the media types of `offered` in Accept, or leave Accept out.",
    "not-failing": "Read the position that fails in GET /v1/projections: only that one can be skipped.",
    "not-found": "Compare the path with /docs: lower case, no slash at the end, nothing percent-encoded.",
    "not-local": "Ask from this machine and from no other site's page, or configure ROSTERLOG_AUTH_KEYS.",
    "not-migrated": "The operator runs rosterlog migrate.",
    "not-skipped": "List what is skipped in rosterlog status, and name one of these positions.",
    "outcome-unknown": "Send the same command again, with the same id or Idempotency-Key: it is recorded once at most.",
    "projection-leaderless": "The operator starts rosterlog serve or rosterlog project.",
    "projection-stalled": "The operator reads failure in GET /v1/projections, and then docs/operations.md.",
    "read-tables-behind": "Try again after Retry-After seconds, or read without min_position.",
    "rebuild-not-permitted": "The operator runs rosterlog rebuild with the projector's account.",
    "release-outdated": "Send the command again after Retry-After seconds. The operator replaces this process by one of the newer release.",
    "replica-unavailable": "The operator looks at the replica, and unsets ROSTERLOG_READ_DATABASE_URL while it is gone.",
    "request-too-slow": "Send the request again, without pauses. Split a large body over several requests.",
    "scope-missing": "Get a token with the scope that WWW-Authenticate names.",
    "shadow-in-use": "Wait until GET /v1/projections/rebuild says that it is over, or cancel it with DELETE.",
    "store-unavailable": "Try again after Retry-After seconds, a command with the same id or Idempotency-Key.",
    "token-confined": "Ask with a token that is not confined to groups.",
    "too-many-streams": "Try again after Retry-After seconds, or read pages: leave Accept: text/event-stream out.",
    "too-many-withdrawals": "Check that the roster is complete. If it is, send a max_withdrawals that allows it.",
    "unauthenticated": "Get a token from the identity provider, and send it once, as Authorization: Bearer <token>.",
    "unsupported-media-type": "Send the body as JSON in UTF-8, uncompressed, with Content-Type: application/json.",
    "user-removed": _ENDED,
    "user-unknown": _READ_AGAIN,
    "version-stale": "Read the thing again, decide anew, and send the ETag of that answer in If-Match.",
}
"""By rule, the last part of the problem's `type`."""
