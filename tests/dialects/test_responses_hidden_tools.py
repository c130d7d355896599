"""Tools at the provider are found wherever a request of the Responses API can name them."""

from __future__ import annotations

from typing import Any

import pytest

from dialects.examples_responses import USAGE, compact, response
from gateway.core.usage import Meter
from gateway.dialects.discover import discover

RESPONSES = discover()["responses"]
FUNCTION = {"type": "function", "name": "f"}
DRAWS = {"type": "image_generation"}


def namespace(*tools: dict[str, Any]) -> dict[str, Any]:
    return {"type": "namespace", "name": "n", "tools": list(tools)}


def found(**more: Any) -> tuple[str, ...]:
    return RESPONSES.read_head(compact({"model": "m", "input": "hi", **more})).hosted_tools


def test_tools_in_namespaces_of_namespaces_are_found() -> None:
    assert found(tools=[namespace(FUNCTION, namespace(namespace(DRAWS)))]) == ("image_generation",)
    assert found(tools=[namespace(FUNCTION, namespace(FUNCTION))]) == ()
    assert found(tools=[namespace(namespace() | {"tools": {"type": "mcp"}})]) == ("namespace",)


def test_tools_that_a_search_found_are_found() -> None:
    item = {"type": "tool_search_output", "call_id": "c", "tools": [FUNCTION, namespace(DRAWS)]}
    assert found(input=[{"role": "user", "content": "hi"}, item]) == ("image_generation",)
    assert found(input=[item | {"tools": [FUNCTION]}]) == ()
    assert found(input=[item | {"tools": None}]) == ()
    assert found(input=[item | {"tools": "all"}]) == ("tool_search_output",)


def test_an_escaped_kind_is_the_kind() -> None:
    body = b'{"model":"m","input":"hi","t\\u006fols":[{"type":"im\\u0061ge_generation"}],"max_tool_calls":1}'
    head = RESPONSES.read_head(body)
    assert (head.hosted_tools, head.tool_calls_max) == (("image_generation",), None)


def test_a_tool_without_a_bound_hides_behind_no_number_of_others() -> None:
    tools = [{"type": f"web_search_{number}"} for number in range(20)]
    many = RESPONSES.read_head(compact({"model": "m", "input": "hi", "tools": [*tools, DRAWS], "max_tool_calls": 2}))
    assert many.tool_calls_max is None
    fees = compact({"model": "m", "input": "hi", "tools": [*tools, {"type": "file_search"}], "max_tool_calls": 2})
    head = RESPONSES.read_head(fees)
    assert (head.tool_calls_max, set(head.tool_meters)) == (2, {"web_search", "file_search"})


@pytest.mark.parametrize(("said", "read"), [(0, None), (1, 1), (10_000, 10_000), (10_001, None), (2**31 - 1, None)])
def test_a_limit_that_bounds_nothing_is_none(said: int, read: int | None) -> None:
    body = compact({"model": "m", "input": "hi", "tools": [{"type": "mcp"}], "max_tool_calls": said})
    assert RESPONSES.read_head(body).tool_calls_max == read


def test_containers_of_shells_are_counted_once_each() -> None:
    def shell(**environment: Any) -> dict[str, Any]:
        return {"type": "shell_call", "id": "sh_1", "environment": environment or None}

    output = [
        shell(type="container_reference", container_id="cntr_1"),
        shell(type="container_reference", container_id="cntr_1"),
        {"type": "code_interpreter_call", "container_id": "cntr_2"},
        shell(type="local"),
        shell(),
    ]
    usage = RESPONSES.read_reply(compact(response(output=output, usage=USAGE))).usage
    assert usage is not None
    assert usage.meters[Meter.CODE_CONTAINER] == 2
