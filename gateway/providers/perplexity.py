"""Perplexity's Sonar chat completions, which it calls superseded by its Agent API and may end (docs.perplexity.ai).

Every event of a stream carries running usage beside a choice (langchain-ai/langchain#39924); the last one says what the
call cost, search fees included, as `usage.cost.total_cost`. Searches and citations are billed and have no meter, so
Sonar models are unpriced: that report is what there is. Deep research counts its reasoning nowhere else
(bgeneto/open-webui-cost-tracker#6). It bills a call to its end (openrouter.ai/docs, streaming).
"""

from __future__ import annotations

from gateway.core.quirks import Quirks, ReportedCost
from gateway.providers.row import CHAT, EMBEDDINGS, MAX_TOKENS, USUAL_HEADERS, ProviderRow

MEMBER = ProviderRow(
    kind="perplexity",
    dialect="openai_chat",
    title="Perplexity",
    base_url="https://api.perplexity.ai",
    credential="env:PERPLEXITY_API_KEY",
    on_disconnect="drain",
    reply_headers=USUAL_HEADERS,
    genai_prices="perplexity",
    endpoints=(CHAT, EMBEDDINGS),
    paths=((EMBEDDINGS, "/v1/embeddings"),),
    quirks=Quirks(
        renamed=MAX_TOKENS,
        usage_in="choice_event",
        done=False,
        reasoning_outside=True,
        reported_cost=ReportedCost(("cost", "total_cost")),
    ),
)
