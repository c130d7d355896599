"""What a routes file may say, and that every mistake in it is named with its line and what to do."""

from __future__ import annotations

import pytest

from gateway.core.errors import ConfigInvalid
from routing.rows import compiled, problems_of

GOOD = """\
providers:
  openai:
    kind: openai
    timeout_s: 120
    headers:
      OpenAI-Beta: assistants=v2
  simulated:
  local:
    kind: openai_compatible
    base_url: http://localhost:8000/v1/
    credential: ''
    networks: [loopback, 10.1.0.0/16]
    connections_max: 50
    client_certificate: /etc/faregate/client.pem
  classic:
    kind: versioned
    base_url: https://a.example
    api_version: '2024-10-21'
models:
  gpt-4o-mini: openai/gpt-4o-mini
  house:
    provider: openai
    model: ft:gpt-4o:acme
    priced_as: gpt-4o
  listed: [local/meta/llama-3]
  openai/*: openai/*
  sim-*: simulated/sim-*
aliases:
  fast: gpt-4o-mini
  faster: fast
  wild: openai/o3
"""


def test_a_good_file_compiles_with_the_rows_defaults() -> None:
    policy = compiled(GOOD)
    openai = policy.providers["openai"]
    assert (openai.base_url, openai.credential) == ("https://api.openai.com/v1", "env:OPENAI_API_KEY")
    assert (openai.timeout_s, openai.connect_timeout_s) == (120.0, 5.0)
    assert openai.headers == (("openai-beta", "assistants=v2"),)
    assert policy.providers["simulated"].on_disconnect == "drain"
    local = policy.providers["local"]
    assert (local.kind, local.base_url, local.credential) == ("openai_compatible", "http://localhost:8000/v1", "")
    assert (local.networks, local.connections_max) == (("loopback", "10.1.0.0/16"), 50)
    assert local.client_certificate == "/etc/faregate/client.pem"
    assert (openai.networks, openai.connections_max, openai.api_version) == ((), 1000, "")
    assert policy.providers["simulated"].networks == ("loopback",), "the row's, as the file says nothing"
    assert policy.providers["classic"].api_version == "2024-10-21"


def test_models_aliases_and_wildcards_become_routes() -> None:
    policy = compiled(GOOD)
    assert set(policy.models) == {"gpt-4o-mini", "house", "listed", "fast", "faster", "wild"}
    assert [route.name for route in policy.wildcards] == ["openai/*", "sim-*"]
    house = policy.models["house"].deployments[0]
    assert (house.id, house.priced_as) == ("openai/ft:gpt-4o:acme", "gpt-4o")
    assert policy.models["listed"].deployments[0].model == "meta/llama-3"
    assert policy.models["faster"].alias_of == "gpt-4o-mini"
    assert policy.models["faster"].deployments == policy.models["gpt-4o-mini"].deployments
    assert policy.models["wild"].deployments[0].id == "openai/o3"
    assert policy.models["house"].line == 21


def test_prices_are_those_the_routes_can_reach() -> None:
    policy = compiled(GOOD)
    assert set(policy.sheets) == {
        "openai/gpt-4o", "openai/gpt-4o-mini", "openai/o3", "simulated/sim-small", "simulated/sim-large"
    }  # fmt: skip
    narrow = compiled("providers: {openai: }\nmodels: {mini: openai/gpt-4o-mini}\n")
    assert set(narrow.sheets) == {"openai/gpt-4o-mini"}


@pytest.mark.parametrize("text", ["providers:\nmodels:\naliases:\n", "models: {}\n"])
def test_sections_may_be_empty(text: str) -> None:
    assert compiled(text).models == {}


_P = "providers:\n  openai:\n"
_M = "providers: {openai: }\nmodels:\n"

MISTAKES = {
    "empty file": ("", 1, "is empty"),
    "comment only": ("# nothing\n", 1, "is empty"),
    "no mapping": ("- a\n", 1, "must be a mapping"),
    "unknown section": ("modles: {}\n", 1, "Did you mean 'models'?"),
    "unknown member": (_P + "    base-url: https://x\n", 3, "Did you mean 'base_url'?"),
    "unknown kind": ("providers:\n  a:\n    kind: opnai\n", 3, "unknown kind 'opnai'. Did you mean 'openai'?"),
    "no kind": ("providers:\n  mine: {}\n", 2, "Add kind: …"),
    "kind needs an address": ("providers:\n  a:\n    kind: openai_compatible\n", 2, "has no base_url"),
    "address without a key": (_P + "    base_url: https://x.example\n", 3, "is not sent there. Add cred"),
    "no credential": ("providers:\n  keyed:\n", 2, "has no credential. Add credential: env:NAME"),
    "unknown dialect": (_P + "    dialect: openai_chats\n", 3, "Did you mean 'openai_chat'?"),
    "bad choice": (_P + "    on_disconnect: cancle\n", 3, "Did you mean 'cancel'?"),
    "bad provider name": ("providers:\n  Open AI: {kind: openai}\n", 2, "cannot be a provider's name"),
    "number as text": (_P + "    timeout_s: 30s\n", 3, "must be a number. Write it like timeout_s: 30"),
    "number in quotes": (_P + "    timeout_s: '30'\n", 3, "must be a number"),
    "not a number": (_P + "    timeout_s: .nan\n", 3, "must be a number"),
    "endless": (_P + "    timeout_s: .inf\n", 3, "must be a number"),
    "sexagesimal": (_P + "    timeout_s: 1:30\n", 3, "must be a number"),
    "bool as number": (_P + "    timeout_s: yes\n", 3, "must be a number"),
    "negative": (_P + "    keepalive_s: -1\n", 3, "must be between 0 and 3600"),
    "text as number": (_P + "    dialect: 4\n", 3, "as something else. Put it in quotes"),
    "no value": (_P + "    dialect:\n", 3, "has no value"),
    "list as text": (_P + "    dialect: [a]\n", 3, "must be text"),
    "tag": (_P + "    dialect: !!python/name:os.system x\n", 3, "must be text"),
    "relative bundle": (_P + "    ca_bundle: ca.pem\n", 3, "absolute path. Begin it with /"),
    "header with a secret": (_P + "    headers: {X-Api-Key: abc}\n", 3, "carries a secret. Use credential"),
    "header of ours": (_P + "    headers:\n      Host: a\n", 4, "is set by faregate"),
    "header line break": (_P + '    headers: {a: "b\\r\\nc: d"}\n', 3, "printable ASCII on one line"),
    "header twice": (_P + "    headers:\n      A: b\n      a: c\n", 5, "a is there twice"),
    "auth header": (_P + "    auth_header: 'a b'\n", 3, "cannot be a header's name"),
    "auth scheme": (_P + "    auth_scheme: 'Bearer x'\n", 3, "no authentication scheme"),
    "network misspelt": (_P + "    networks: [loopbak]\n", 3, "is no network. Did you mean 'loopback'?"),
    "network that is none": (_P + "    networks: [10.1.0.0/99]\n", 3, "'10.1.0.0/99' is no network. Write loopback"),
    "network with host bits": (_P + "    networks: [10.1.0.1/16]\n", 3, "'10.1.0.1/16' is no network"),
    "networks no list": (_P + "    networks: loopback\n", 3, "must be a list. Write it like [loopback]"),
    "networks a mapping": (_P + "    networks: {loopback: yes}\n", 3, "must be a list. Write it like [loopback]"),
    "network a number": (_P + "    networks: [10]\n", 3, "as something else. Put it in quotes"),
    "too many networks": (_P + f"    networks: [{', '.join(['loopback'] * 33)}]\n", 3, "over 32 entries"),
    "loopback": (
        _P + "    credential: ''\n    base_url: http://127.0.0.1:8000/v1\n", 4,
        "base_url may not go to 127.0.0.1: 127.0.0.1 is loopback",
    ),
    "loopback by name": (_P + "    credential: ''\n    base_url: http://localhost/v1\n", 4, "127.0.0.1 is loopback"),
    "metadata service": (_P + "    credential: ''\n    base_url: http://169.254.169.254\n", 4, "clouds keep"),
    "private address": (
        _P + "    credential: ''\n    networks: [loopback]\n    base_url: http://[fd00::1]/v1\n", 5, "is private"
    ),
    "mapped address": (_P + "    credential: ''\n    base_url: 'http://[::ffff:127.0.0.1]/v1'\n", 4, "is loopback"),
    "public only": ("providers:\n  simulated:\n    networks: []\n", 2, "is loopback"),
    "half a connection": (_P + "    connections_max: 1.5\n", 3, "must be a whole number"),
    "no connection": (_P + "    connections_max: 0\n", 3, "must be between 1 and 100000"),
    "connections in words": (_P + "    connections_max: many\n", 3, "must be a number"),
    "relative certificate": (_P + "    client_certificate: a.pem\n", 3, "absolute path. Begin it with /"),
    "version is a date": (_P + "    api_version: 2024-10-21\n", 3, "as something else. Put it in quotes"),
    "version with a query": (_P + "    api_version: 'a&b'\n", 3, "is no API version"),
    "version for nothing": (_P + "    api_version: '1'\n", 3, "takes no api_version. Remove it"),
    "version missing": (
        "providers:\n  v:\n    kind: versioned\n    base_url: https://a.example\n    credential: ''\n", 4,
        "needs an api_version. Add one",
    ),
    "duplicate key": (_P + "    kind: openai\n    kind: simulated\n", 4, "there twice, first on line 3"),
    "duplicate model": (_M + "  a: openai/x\n  a: openai/y\n", 4, "there twice, first on line 3"),
    "duplicate section": ("models: {}\nmodels: {}\n", 2, "there twice"),
    "merge key": (_P + "    <<: {kind: openai}\n", 3, "merge key"),
    "key that is a list": ("providers:\n  ? [a]\n  : {}\n", 2, "no plain text"),
    "tab": ("providers:\n\topenai: {}\n", 2, "indented with a tab"),
    "not YAML": ("providers: {\n", 2, "is not YAML"),
    "two documents": ("models: {}\n---\nmodels: {}\n", 2, "is not YAML"),
    "unknown anchor": ("models: *x\n", 1, "is not YAML"),
    "control character": ("models:\n  a\x00: b\n", 2, "U+0000"),
    "model without provider": (_M + "  a: gpt-4o\n", 3, "Write it like openai/gpt-4o"),
    "unknown provider": (_M + "  a: opeani/x\n", 3, "unknown provider 'opeani'. Did you mean 'openai'?"),
    "missing member": (_M + "  a: {provider: openai}\n", 3, "has no model"),
    "two deployments": (_M + "  a: [openai/x, openai/y]\n", 3, "one deployment for now"),
    "no deployment": (_M + "  a: []\n", 3, "no deployment"),
    "model is a number": (_M + "  a: 4\n", 3, "must be text"),
    "star in the middle": (_M + "  a*b: openai/x\n", 3, "not at its end"),
    "star without wildcard": (_M + "  a: openai/*\n", 3, "a is no wildcard"),
    "two stars": (_M + "  a*: openai/*-*\n", 3, "more than one *"),
    "star in price": (_M + "  a: {provider: openai, model: x, priced_as: '*'}\n", 3, "priced_as '*' has a *"),
    "space in a name": (_M + "  'a b': openai/x\n", 3, "cannot be a model's name"),
    "alias of nothing": (_M + "  abc: openai/x\naliases:\n  b: abd\n", 5, "unknown model 'abd'. Did you mean 'abc'?"),
    "alias of a wildcard": (_M + "  a-*: openai/*\naliases:\n  b: a-*\n", 5, "unknown model 'a-*'"),
    "alias named like a model": (_M + "  a: openai/x\naliases:\n  a: a\n", 5, "has the name of a model"),
    "alias with a star": (_M + "  a: openai/x\naliases:\n  b*: a\n", 5, "An alias is one name"),
    "alias of itself": ("aliases:\n  a: a\n", 2, "circle: a → a"),
    "alias circle": ("aliases:\n  z: a\n  a: b\n  b: c\n  c: a\n", 3, "circle: a → b → c → a"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_named_with_its_line_and_what_to_do(case: str) -> None:
    text, line, words = MISTAKES[case]
    problems = problems_of(text)
    assert len(problems) == 1, problems
    assert problems[0].line == line
    assert words in str(problems[0])
    assert str(problems[0]).startswith(f"routes.yaml:{line}: ")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a/b", "file:///etc/passwd", "gopher://a", "api.openai.com/v1", "https://", "https:///v1", "//a/b",
        "https://user:hunter2@api.openai.com/v1", "https://hunter2@a", "https://a/v1?key=hunter2", "https://a/#x",
        "https://a:99999/", "https://a:0/", "https://[::1", "https://a b/", "https://a\\b", "http://a\u0000b",
        "https://bücher.example",
    ],
)  # fmt: skip
@pytest.mark.parametrize("member", ["base_url", "proxy"])
def test_a_url_is_http_with_a_host_and_nothing_secret(url: str, member: str) -> None:
    quoted = url.replace("\\", "\\\\").replace("\u0000", "\\0")
    (problem,) = problems_of(f'{_P}    {member}: "{quoted}"\n')
    assert problem.line == 3
    assert "hunter2" not in str(problem)


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("http://127.0.0.1:8000/v1", "loopback"),
        ("http://localhost/v1", "loopback"),
        ("http://172.16.1.2", "private"),
        ("http://169.254.169.254/v1", "169.254.169.254/32"),
    ],
)
def test_a_forbidden_address_says_what_would_allow_it(url: str, word: str) -> None:
    (problem,) = problems_of(f"{_P}    base_url: '{url}'\n    credential: ''\n")
    assert word in problem.suggestion
    assert "networks" in problem.suggestion


@pytest.mark.parametrize(
    ("url", "networks"),
    [
        ("http://127.0.0.1:8000/v1", "[loopback]"),
        ("http://[::1]:1/", "[loopback]"),
        ("http://localhost", "[private, loopback]"),
        ("http://10.1.2.3/v1", "[10.1.0.0/16]"),
        ("https://a.example", "[]"),
        ("https://8.8.8.8/v1", "[]"),
    ],
)
def test_an_inner_address_is_fine_where_the_file_allows_it(url: str, networks: str) -> None:
    text = f"{_P}    base_url: '{url}'\n    credential: ''\n    networks: {networks}\n"
    assert compiled(text).providers["openai"].base_url == url.rstrip("/")


@pytest.mark.parametrize(
    "secret", ["sk-proj-hunter2", "hunter2", "env:", "file:relative/hunter2", "$HUNTER2", "env:A B"]
)
def test_an_inline_secret_is_refused_and_never_shown(secret: str) -> None:
    (problem,) = problems_of(f"{_P}    credential: '{secret}'\n")
    assert problem.line == 3
    assert "env:" in problem.suggestion
    assert "hunter2" not in str(problem).lower()


def test_all_problems_are_told_at_once_in_the_files_order() -> None:
    text = (
        "providers:\n  a:\n    kind: opnai\n    timeout_s: soon\n  b:\n    kind: opnai\n"
        "models:\n  m: nowhere/x\n  n: a/x\n  o: b/x\naliases:\n  p: m\n  q: nothing\nextra: 1\n"
    )
    problems = problems_of(text)
    assert [problem.line for problem in problems] == [4, 6, 8, 13, 14]
    with pytest.raises(ConfigInvalid) as caught:
        compiled(text)
    assert caught.value.message.count("\n") == 4
    assert [problem["line"] for problem in caught.value.extra["problems"]] == [4, 6, 8, 13, 14]  # type: ignore[attr-defined]


def test_many_tabs_are_all_found() -> None:
    assert [problem.line for problem in problems_of("models:\n\ta: b/c\n  d: e/f\n\tg: h/i\n")] == [2, 4]


def test_deep_nesting_and_size_are_bounded() -> None:
    assert "nested too deep" in str(problems_of("models: " + "[" * 5000)[0])
    assert "is over" in str(problems_of("#" * (4 * 1024 * 1024 + 1))[0])


def test_recursive_anchors_end() -> None:
    problems_of("models: &a\n  x: *a\n")
    problems_of("providers: &a\n  openai: *a\n")
