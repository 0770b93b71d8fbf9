"""What the sessions that project have in common: both ends notice soon that the other is gone, host and network included."""

KEEPALIVES = {"keepalives_idle": 2, "keepalives_interval": 1, "keepalives_count": 2, "tcp_user_timeout": 4000, "connect_timeout": 5}
"""For the client's end, as parts of a connection string; a Unix socket ignores what is TCP's."""

SETTINGS = """
    SET tcp_keepalives_idle = 2; SET tcp_keepalives_interval = 1; SET tcp_keepalives_count = 2; SET tcp_user_timeout = 4000;
    SET client_connection_check_interval = '1s'; SET statement_timeout = 0; SET jit = off
"""
"""For the server's end: it also gives up a statement whose client is gone, and no statement because it takes long.

Nothing is compiled: for the few events of a live range that takes longer than to project them, and the planner can't know how few they are.
"""
