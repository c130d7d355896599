"""Signing in and out: cookies, form tokens, guessing, and what ends a session."""

from __future__ import annotations

import pytest
from desk.asking import Asking
from desk.world import World
from fastapi import FastAPI

from console.conftest import csrf_in, signed_in
from gateway.core.admin import KeyChange

CAN = ["admin", "finance", "prompt_engineer", "team", "auditor"]
CANNOT = ["data", "metrics", "search-bot"]


def cookies_of(answer: object) -> list[str]:
    return [value for name, value in answer.headers if name == "set-cookie"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", CAN)
async def test_roles_of_the_console_sign_in(world: World, app: FastAPI, name: str) -> None:
    person = await signed_in(world, app, name)
    page = await person.get("/ui")
    assert page.status == 200
    assert "Sign out" in page.text


@pytest.mark.parametrize("name", CANNOT)
async def test_other_roles_do_not_and_are_told_why(world: World, app: FastAPI, name: str) -> None:
    asking = Asking(app)
    form = await asking.get("/ui/sign-in")
    answer = await asking.form("/ui/sign-in", csrf=csrf_in(form.text), key=world.secrets[name])
    assert answer.status == 403
    assert "cannot open the console" in answer.text
    assert "faregate_session" not in asking.cookies


async def test_the_session_cookie_is_guarded(world: World, app: FastAPI) -> None:
    for proto, secure in (("http", False), ("https", True)):
        asking = Asking(app, x_forwarded_proto=proto)
        form = await asking.get("/ui/sign-in")
        answer = await asking.form("/ui/sign-in", csrf=csrf_in(form.text), key=world.secrets["admin"])
        (cookie,) = cookies_of(answer)
        flags = {part.strip().lower() for part in cookie.split(";")[1:]}
        assert {"httponly", "samesite=strict", "path=/ui", "max-age=43200"} <= flags
        assert ("secure" in flags) is secure
        assert world.secrets["admin"] not in cookie


async def test_every_form_needs_its_token(world: World, app: FastAPI, person: Asking) -> None:
    page = (await person.get("/ui")).text
    right = csrf_in(page)
    other = csrf_in((await (await signed_in(world, app, "finance")).get("/ui")).text)
    nobody = Asking(app)
    visitors = csrf_in((await nobody.get("/ui/sign-in")).text)
    for path in ("/ui/sign-out", "/ui/theme", "/ui/sign-in"):
        for wrong in ("", "x", right[:-1], other, visitors):
            answer = await person.form(path, csrf=wrong, theme="dark", key=world.secrets["admin"])
            assert answer.status == 403, (path, wrong)
        assert (await Asking(app).form(path, csrf=visitors, key=world.secrets["admin"])).status == 403, path
    assert (await person.get("/ui")).status == 200, "a refused sign-out signed out"
    world.clock.ms += 13 * 3600 * 1000
    assert (await nobody.form("/ui/sign-in", csrf=visitors, key=world.secrets["admin"])).status == 403


async def test_a_form_from_another_site_is_refused_even_with_a_token(person: Asking) -> None:
    token = csrf_in((await person.get("/ui")).text)
    for site in ("cross-site", "same-site"):
        person.headers["sec-fetch-site"] = site
        assert (await person.form("/ui/sign-out", csrf=token)).status == 403
    person.headers["sec-fetch-site"] = "same-origin"
    json = await person.send("POST", "/ui/sign-out", json={"csrf": token})
    assert json.status == 415


async def test_sign_out_ends_the_session_not_only_the_cookie(person: Asking) -> None:
    kept = dict(person.cookies)
    token = csrf_in((await person.get("/ui")).text)
    answer = await person.form("/ui/sign-out", csrf=token)
    assert (answer.status, answer.header("location")) == (303, "/ui/sign-in")
    assert "faregate_session" not in person.cookies
    person.cookies = kept
    assert (await person.get("/ui")).status == 303


async def test_signing_in_again_ends_the_former_session(world: World, app: FastAPI, person: Asking) -> None:
    old = person.cookies["faregate_session"]
    token = csrf_in((await person.get("/ui")).text)
    await person.form("/ui/sign-in", csrf=token, key=world.secrets["finance"])
    assert person.cookies["faregate_session"] != old
    stolen = Asking(app)
    stolen.cookies["faregate_session"] = old
    assert (await stolen.get("/ui")).status == 303


@pytest.mark.parametrize("change", ["revoke", "pause", "role", "expire", "rotate", "time"])
async def test_what_ends_a_key_or_its_rights_ends_its_sessions(world: World, person: Asking, change: str) -> None:
    key_id, config = world.ids["admin"], world.config
    if change == "revoke":
        await config.revoke_key(key_id, actor="test")
    elif change == "pause":
        await config.set_paused(key_id, True, actor="test")
    elif change == "role":
        await config.update_key(key_id, KeyChange(role="data"), actor="test")
    elif change == "expire":
        await config.update_key(key_id, KeyChange(expires_ms=world.clock.ms - 1), actor="test")
    elif change == "rotate":
        await config.rotate_key(key_id, 0, actor="test")
    else:
        world.clock.ms += 12 * 3600 * 1000 + 1
    world.ring.apply(config.deltas, world.clock.ms)
    answer = await person.get("/ui")
    assert (answer.status, answer.header("location")) == (303, "/ui/sign-in")


async def test_guessing_is_slowed_for_the_guesser_only(world: World, app: FastAPI) -> None:
    guesser = Asking(app)
    form = csrf_in((await guesser.get("/ui/sign-in")).text)
    statuses = [(await guesser.form("/ui/sign-in", csrf=form, key=f"fg_{n}")).status for n in range(11)]
    assert statuses == [401] * 10 + [429]
    right = await guesser.form("/ui/sign-in", csrf=form, key=world.secrets["admin"])
    assert right.status == 429
    assert int(right.header("retry-after")) > 0
    other = Asking(app)
    other.peer = ("198.51.100.9", 1)
    form = csrf_in((await other.get("/ui/sign-in")).text)
    assert (await other.form("/ui/sign-in", csrf=form, key=world.secrets["admin"])).status == 303


async def test_behind_the_worker_the_named_client_is_counted(world: World, app: FastAPI) -> None:
    """Over the desk's socket there is no peer: the worker appends the client's address, and only its word counts."""
    for attempt in range(11):
        guesser = Asking(app)
        guesser.peer = None
        form = csrf_in((await guesser.get("/ui/sign-in")).text)
        guesser.headers = {"x-faregate-client": f"10.0.0.{attempt}", "X-Faregate-Client": "203.0.113.5"}
        answer = await guesser.form("/ui/sign-in", csrf=form, key="wrong")
    assert answer.status == 429


async def test_a_page_asked_for_is_shown_after_signing_in_and_no_other_site(world: World, app: FastAPI) -> None:
    asking = Asking(app)
    first = await asking.get("/ui/requests/req_abc")
    assert first.header("location") == "/ui/sign-in?next=%2Fui%2Frequests%2Freq_abc"
    form = await asking.get("/ui/sign-in", next="/ui/requests/req_abc")
    assert 'name="next" value="/ui/requests/req_abc"' in form.text
    for elsewhere in (
        "https://evil.example",
        "//evil.example",
        "/ui/../admin",
        "/ui\\evil",
        "/ui//evil",
        "javascript:1",
        "/",
    ):
        form = await asking.get("/ui/sign-in", next=elsewhere)
        assert 'name="next" value="/ui"' in form.text, elsewhere
        answer = await asking.form("/ui/sign-in", csrf=csrf_in(form.text), key=world.secrets["admin"], next=elsewhere)
        assert answer.header("location") == "/ui", elsewhere
        asking.cookies.pop("faregate_session")


async def test_the_theme_is_kept_and_only_known_ones(person: Asking) -> None:
    page = (await person.get("/ui")).text
    assert "data-theme" not in page
    answer = await person.form("/ui/theme", csrf=csrf_in(page), theme="dark", next="/ui/requests")
    assert answer.header("location") == "/ui/requests"
    assert '<html lang="en" data-theme="dark">' in (await person.get("/ui")).text
    await person.form("/ui/theme", csrf=csrf_in(page), theme='"><script>')
    assert '<html lang="en" data-theme="dark">' in (await person.get("/ui")).text
    person.cookies["faregate_theme"] = '"><script>'
    assert "data-theme" not in (await person.get("/ui")).text


@pytest.mark.parametrize("token", ["x", "a.b", "." * 600, "é", "AAAA.AAAA"])
async def test_a_forged_session_is_no_session(app: FastAPI, token: str) -> None:
    asking = Asking(app)
    asking.headers["cookie"] = f"faregate_session={token}".encode().decode("latin-1")
    assert (await asking.get("/ui")).status == 303
