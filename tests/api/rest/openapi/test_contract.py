"""The whole OpenAPI document, tried with made-up requests, good and bad.

There is no error of the service, and every answer is as documented.

The seed is fixed, so that a run says the same today and tomorrow; change it to look further.
"""

from collections.abc import Iterator
from typing import Any, cast

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode, checks

from rosterlog.api.app import create_app
from tests.api.client import Api

EXAMPLES = 10
"""For each operation, of good requests and of bad ones."""
CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
GOOD, BAD = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
DOCUMENT = schemathesis.openapi.from_dict(create_app(lambda: "").openapi())
OPERATIONS: dict[str, Any] = {
    found.ok().definition.raw["operationId"]: found.ok()
    for found in cast("Iterator[Any]", DOCUMENT.get_all_operations())
}
UNREFUSING = {"isAlive", "isReady", "getStarted", "explainProblem"}
"""Those that no request is wrong for."""
CASES = [
    (name, mode)
    for mode in (GOOD, BAD)
    for name in OPERATIONS
    if mode is GOOD or name not in UNREFUSING
]


@pytest.mark.parametrize(
    ("operation", "mode"), CASES, ids=[f"{mode.value} {name}" for name, mode in CASES]
)
def test_every_answer_is_as_documented(operation: str, mode: GenerationMode, shared: Api) -> None:
    class_id = shared.new_class()
    real = {"class_id": class_id, "group_id": shared.new_group(), "user_id": shared.enrol(class_id)}

    @seed(20261124)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(data=st.data())
    def ask(data: st.DataObject) -> None:
        case = data.draw(OPERATIONS[operation].as_strategy(generation_mode=mode))
        if mode is GOOD and data.draw(st.booleans()):
            for place in (case.path_parameters, case.body):
                if isinstance(place, dict):
                    place.update({name: value for name, value in real.items() if name in place})
        # Waiting for a position that never comes takes its time, and ends with a 503 as documented:
        # tests/api/reading/test_visibility.py.
        (case.query or {}).pop("min_position", None)
        case.call_and_validate(base_url=str(shared.base_url), checks=CHECKS)

    ask()


def test_every_operation_is_tried() -> None:
    assert {
        "createClass",
        "enrolMember",
        "getClassHistory",
        "startRebuild",
        "getMetrics",
    } <= OPERATIONS.keys()
