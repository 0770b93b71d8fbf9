"""What a user decides."""

from uuid import UUID

from rosterlog.domain.users import User
from tests.conftest import by
from tests.domain.given import given

ID = UUID(int=1)


def test_registering_starts_the_stream() -> None:
    (event,) = User.register(ID, by()).collect_events()
    assert isinstance(event, User.Created)
    assert (event.originator_id, event.originator_version, event.actor) == (ID, 1, "registrar")


def test_removing_is_one_event() -> None:
    user = (
        given(User.register(ID, by()))
        .when(lambda u: u.remove(by("head", "left")))
        .then(User.Removed, actor="head", reason="left")
    )
    assert user.removed


def test_removing_again_records_nothing() -> None:
    given(User.register(ID, by()), lambda u: u.remove(by())).when(
        lambda u: u.remove(by())
    ).then_nothing()
