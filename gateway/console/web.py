"""The console's pages: who is signed in, what is answered, how errors look. No script runs in any of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NoReturn
from urllib.parse import quote

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from gateway.console import words
from gateway.console.assets import STATIC_PATH, Assets, templates
from gateway.console.calls import older_calls, one_call
from gateway.console.overview import look
from gateway.console.parts import ConsoleParts, OpenSession, Page
from gateway.console.periods import asked_month
from gateway.core.caller import KeyRecord, Permission, permits
from gateway.core.errors import FaregateError, NotAuthenticated, NotPermitted, UnsupportedMediaType
from gateway.core.money import print_cents
from gateway.settings import bundled

HOME = "/ui"
SIGN_IN = "/ui/sign-in"
SESSION_COOKIE = "faregate_session"
VISITOR_COOKIE = "faregate_visitor"
THEME_COOKIE = "faregate_theme"
_THEMES = ("system", "light", "dark")
_YEAR_S = 365 * 86_400
_MAX_FIELDS = 10
_MAX_KEY = 512
_VISITOR = re.compile(r"^[0-9a-f]{32}$")
_HOST = re.compile(r"^[A-Za-z0-9.\-]{1,253}(:\d{1,5})?$|^\[[0-9a-fA-F:]{2,39}\](:\d{1,5})?$")
_INSIDE = re.compile(r"^/ui(/[A-Za-z0-9_\-]+)*(\?[A-Za-z0-9_\-.=&]*)?\Z")


class WebConsole:
    """Sign-in, overview, calls. The desk mounts `pages` behind its guard, which asks `asker` who is there."""

    def __init__(self, parts: ConsoleParts) -> None:
        self._parts = parts
        folder = bundled("dashboards/console")
        self._assets = Assets(folder)
        shared: dict[str, Any] = {
            "asset": self._assets.path,
            "count": words.count,
            "tokens": words.tokens,
            "duration": words.duration,
            "byte_size": words.byte_size,
            "cents": print_cents,
            "dash": words.NOTHING,
        }
        self._templates = templates(folder, shared)

    @property
    def stylesheet(self) -> str:
        return self._assets.path("console.css")

    @property
    def icon(self) -> str:
        return self._assets.path("icon.svg")

    @property
    def pages(self) -> Sequence[Page]:
        public, seen = Permission.PUBLIC, Permission.OPEN_CONSOLE
        return (
            Page("GET", HOME, seen, self.overview),
            Page("GET", "/ui/requests", seen, self.calls),
            Page("GET", "/ui/requests/{id}", seen, self.call),
            Page("GET", SIGN_IN, public, self.sign_in_form),
            Page("POST", SIGN_IN, public, self.sign_in),
            Page("POST", "/ui/sign-out", public, self.sign_out),
            Page("POST", "/ui/theme", public, self.theme),
            Page("GET", f"{STATIC_PATH}/{{name}}", public, self.static),
        )

    # ------------------------------------------------------------ who asks

    async def asker(self, request: Request) -> KeyRecord | None:
        """The signed-in key with its rights of this moment. A form without its page's token is refused here."""
        session = self._session(request)
        request.state.session = session
        if request.method == "POST":
            await self._check_form(request, session)
        return None if session is None else session.key

    def _session(self, request: Request) -> OpenSession | None:
        token = request.cookies.get(SESSION_COOKIE)
        if not token:
            return None
        try:
            return self._parts.sessions.check(token)
        except NotAuthenticated:
            return None

    async def _check_form(self, request: Request, session: OpenSession | None) -> None:
        site = request.headers.get("sec-fetch-site", "same-origin")
        if site not in ("same-origin", "none"):
            raise NotPermitted("This form was sent from another site.")
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/x-www-form-urlencoded":
            raise UnsupportedMediaType("Forms are sent as application/x-www-form-urlencoded.")
        form = await request.form(max_fields=_MAX_FIELDS)
        binding = request.cookies.get(VISITOR_COOKIE, "") if session is None else session.session_id
        if not binding or not self._parts.sessions.csrf_valid(_field(form, "csrf"), binding):
            raise NotPermitted("This form is out of date. Open the page again and send it from there.")

    # ------------------------------------------------------------ pages

    async def overview(self, request: Request) -> Response:
        now_ms = self._parts.clock.now_ms()
        month = asked_month(request.query_params.get("month"), now_ms)
        view = await look(self._parts, _signed_in(request), month, now_ms)
        return self._page(
            request, "overview.html", here="overview", view=view, now_ms=now_ms, base_url=self._base(request)
        )

    async def calls(self, request: Request) -> Response:
        now_ms = self._parts.clock.now_ms()
        before = request.query_params.get("before")
        lines, following = await older_calls(self._parts, _signed_in(request), before, now_ms)
        return self._page(
            request,
            "calls.html",
            here="calls",
            calls=lines,
            following=following,
            newest=before is None,
            base_url=self._base(request),
        )

    async def call(self, request: Request) -> Response:
        view = await one_call(self._parts, _signed_in(request), request.path_params["id"], self._parts.clock.now_ms())
        return self._page(request, "call.html", here="calls", view=view)

    async def static(self, request: Request) -> Response:
        return self._assets.answer(request.path_params["name"])

    # ------------------------------------------------------------ signing in and out

    async def sign_in_form(self, request: Request) -> Response:
        if request.state.asker is not None:
            return RedirectResponse(HOME, status_code=303)
        return self._sign_in_page(request, "", 200)

    async def sign_in(self, request: Request) -> Response:
        form = await request.form(max_fields=_MAX_FIELDS)
        address = _address(request)
        wait_s = self._parts.throttle.wait_s(address)
        if wait_s:
            return self._sign_in_page(request, f"Too many attempts. Try again in {wait_s} seconds.", 429, wait_s)
        now_ms = self._parts.clock.now_ms()
        presented = _field(form, "key").strip()
        found = self._parts.ring.match(presented, now_ms) if presented and len(presented) <= _MAX_KEY else None
        if found is None:
            self._parts.throttle.failed(address)
            return self._sign_in_page(request, "This key is not known, or it was revoked.", 401)
        key, digest = found
        refusal = _why_not(key, now_ms)
        if refusal:
            return self._sign_in_page(request, refusal, 403)
        self._parts.throttle.succeeded(address)
        old = request.cookies.get(SESSION_COOKIE)
        if old:
            self._parts.sessions.close(old)
        reply = RedirectResponse(_inside(_field(form, "next")), status_code=303)
        lasts_s = self._parts.settings.session_hours * 3600
        self._set(request, reply, SESSION_COOKIE, self._parts.sessions.open(key, digest), lasts_s)
        return reply

    async def sign_out(self, request: Request) -> Response:
        token = request.cookies.get(SESSION_COOKIE)
        if token:
            self._parts.sessions.close(token)
        reply = RedirectResponse(SIGN_IN, status_code=303)
        self._set(request, reply, SESSION_COOKIE, "", 0)
        return reply

    async def theme(self, request: Request) -> Response:
        form = await request.form(max_fields=_MAX_FIELDS)
        reply = RedirectResponse(_inside(_field(form, "next")), status_code=303)
        chosen = _field(form, "theme")
        if chosen in _THEMES:
            self._set(request, reply, THEME_COOKIE, chosen, _YEAR_S)
        return reply

    def refuse(self, request: Request, error: FaregateError) -> Response:
        """Not signed in: to the sign-in page and back afterwards. Everything else: a page that says what happened."""
        if isinstance(error, NotAuthenticated) and request.method == "GET":
            asked = request.scope["path"]
            query = request.scope["query_string"].decode("latin-1")
            wanted = f"{asked}?{query}" if query else asked
            tail = f"?next={quote(wanted, safe='')}" if _inside(wanted) == wanted != HOME else ""
            return RedirectResponse(f"{SIGN_IN}{tail}", status_code=303)
        return self._page(request, "error.html", status=error.status, headers=error.headers, here="", error=error)

    # ------------------------------------------------------------ making a page

    def _sign_in_page(self, request: Request, problem: str, status: int, wait_s: int = 0) -> Response:
        headers = {"retry-after": str(wait_s)} if wait_s else {}
        following = _inside(request.query_params.get("next", ""))
        return self._page(request, "sign_in.html", status, headers, here="", problem=problem, following=following)

    def _page(
        self, request: Request, name: str, status: int = 200, headers: dict[str, str] | None = None, **values: Any
    ) -> Response:
        session: OpenSession | None = getattr(request.state, "session", None)
        visitor = ""
        if session is None:
            cookie = request.cookies.get(VISITOR_COOKIE, "")
            visitor = cookie if _VISITOR.match(cookie) else self._parts.entropy.bytes(16).hex()
        theme = request.cookies.get(THEME_COOKIE, "system")
        html = self._templates.get_template(name).render(
            asker=None if session is None else session.key,
            csrf=self._parts.sessions.csrf_token(visitor if session is None else session.session_id),
            theme=theme if theme in _THEMES else "system",
            themes=_THEMES,
            self_path=_inside(_path_and_query(request)),
            **values,
        )
        reply = HTMLResponse(html, status_code=status, headers=headers)
        if visitor and visitor != request.cookies.get(VISITOR_COOKIE):
            self._set(request, reply, VISITOR_COOKIE, visitor, 12 * 3600)
        return reply

    def _set(self, request: Request, reply: Response, name: str, value: str, max_age_s: int) -> None:
        reply.set_cookie(
            name, value, max_age=max_age_s, path=HOME, secure=_is_https(request), httponly=True, samesite="strict"
        )

    def _base(self, request: Request) -> str:
        """This server's address for the line a newcomer pastes: as the browser called it. Decides nothing."""
        host = request.headers.get("host", "")
        if not _HOST.match(host):
            host = f"{self._parts.settings.host}:{self._parts.settings.port}"
        return f"{'https' if _is_https(request) else 'http'}://{host}"


def _signed_in(request: Request) -> KeyRecord:
    asker: KeyRecord | None = request.state.asker
    if asker is None:
        _not_signed_in()
    return asker


def _not_signed_in() -> NoReturn:
    raise NotAuthenticated("Sign in first.")


def _why_not(key: KeyRecord, now_ms: int) -> str:
    """Why a key that is known may not sign in; empty: it may."""
    if key.expires_ms and key.expires_ms <= now_ms:
        return "This key has expired. Ask for a new one."
    if key.paused:
        return "This key is paused."
    if not permits(key, Permission.OPEN_CONSOLE):
        return (
            f"This key cannot open the console (role {key.role}). "
            "Keys of the roles admin, finance, team, auditor and prompt_engineer can."
        )
    return ""


def _field(form: FormData, name: str) -> str:
    value = form.get(name, "")
    return value if isinstance(value, str) else ""


def _inside(path: str) -> str:
    """Where a form may lead back to: a page of the console, never elsewhere."""
    return path if _INSIDE.match(path) and not path.startswith((SIGN_IN, STATIC_PATH)) else HOME


def _path_and_query(request: Request) -> str:
    query = request.scope["query_string"].decode("latin-1")
    path: str = request.scope["path"]
    return f"{path}?{query}" if query else path


def _is_https(request: Request) -> bool:
    """Whether the browser's own connection is encrypted. Claiming it falsely only makes one's own cookie stricter."""
    forwarded = request.headers.get("x-forwarded-proto", "").rpartition(",")[2].strip().lower()
    return "https" in (request.scope.get("scheme"), forwarded)


def _address(request: Request) -> str:
    """The peer. Over the desk's socket there is none: the worker appends the one it saw, after whatever was sent."""
    if request.client is not None and request.client.host:
        return request.client.host
    named = request.headers.getlist("x-faregate-client")
    return named[-1] if named else "local"
