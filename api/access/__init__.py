"""Who may: tokens, keys, confinement, and the guard of loopback."""
