"""SGLang. Errors are flat (sgl-project/sglang#33504); a bad request to a stream is a 200 with an error event in it
(sgl-project/sglang#12081), which counts as a failed attempt as long as nothing else came before it.
"""

from __future__ import annotations

from gateway.providers.row import LOOPBACK, SHORT_KEEPALIVE_S, USUAL_HEADERS, ProviderRow

MEMBER = ProviderRow(
    kind="sglang",
    dialect="openai_chat",
    title="SGLang",
    base_url="http://127.0.0.1:30000/v1",
    credential_required=False,
    keepalive_s=SHORT_KEEPALIVE_S,
    reply_headers=USUAL_HEADERS,
    free=True,
    networks=LOOPBACK,
)
