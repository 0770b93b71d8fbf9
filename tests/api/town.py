"""Two schools, and callers who are confined to one of them."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from tests.api.client import Api
from tests.api.identity import Provider, bearer


@dataclass(frozen=True)
class Town:
    """Two schools with a class and a student each.

    `all` is confined to none of them, `mine` to the first.
    """

    all: Api
    provider: Provider
    clients: ExitStack
    group: str
    class_id: str
    user: str
    other_group: str
    other_class: str
    other_user: str

    @property
    def mine(self) -> Api:
        return self.confined(self.group)

    @property
    def both(self) -> Api:
        return self.confined(self.group, self.other_group)

    @property
    def others(self) -> tuple[str, ...]:
        return self.other_group, self.other_class, self.other_user

    def confined(self, *groups: str) -> Api:
        headers = bearer(self.provider.token(roster_groups=list(groups)))
        return self.clients.enter_context(
            Api(base_url=self.all.base_url, headers=headers, timeout=30)
        )


@contextmanager
def town(api: Api, provider: Provider) -> Iterator[Town]:
    api.headers.update(bearer(provider.token()))
    things = []
    for name in ("North", "South"):
        group = api.new_group(name)
        class_id = api.new_class(group)
        things += [group, class_id, api.enrol(class_id)]
    with ExitStack() as clients:
        yield Town(api, provider, clients, *things)
