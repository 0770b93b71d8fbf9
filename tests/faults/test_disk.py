"""The database's disk is full: commands are refused, what was acknowledged stays, and room is all that it takes to go on."""

import pytest

from rosterlog.api.ops.embedded import Binaries
from tests.faults.disk import LimitedFiles, SmallDisk, ways
from tests.faults.site import answers, own_server, site


@pytest.mark.parametrize("way", ways(), ids=lambda way: way.__name__)
def test_a_full_disk_refuses_commands_until_there_is_room_again(
    binaries: Binaries | None, way: type[SmallDisk] | type[LimitedFiles]
) -> None:
    with (
        way.made() as disk,
        own_server(binaries, disk.home) as server,
        site(server.conninfo("postgres")) as running,
    ):
        pid = server.server_pid
        disk.fill(pid)
        running.load.meets("503", 5)
        disk.free(pid)
        if not answers(server.conninfo("postgres")):
            # It gave up where it could not write its own log; an operator starts it again.
            server.start()
        running.heals()
