"""Any server that speaks OpenAI's API and has no row of its own. What it costs is for price overrides to say.

A closed connection is taken to stop it, as it does on servers one runs oneself; a vendor that bills on needs
`on_disconnect: drain`.
"""

from __future__ import annotations

from gateway.providers.row import SHORT_KEEPALIVE_S, USUAL_HEADERS, ProviderRow

MEMBER = ProviderRow(
    kind="openai_compatible",
    dialect="openai_chat",
    title="Any OpenAI-compatible server",
    credential_required=False,
    keepalive_s=SHORT_KEEPALIVE_S,
    reply_headers=USUAL_HEADERS,
)
