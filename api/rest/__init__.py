"""The HTTP API: routes, schemas, the policy of each operation."""
