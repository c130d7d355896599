"""`anthropic-beta`: what a caller switches on by a header. It is passed on as it came; here only whether it may change
what the call costs is read.

The names are those of the SDKs' list (`AnthropicBetaParam`) and of Claude Code. What costs more shows in the body too
(a speed, a server tool, a compaction, a fallback), and is held for there. Left out on purpose are those that lift a
limit a bound relies on: a longer context window, a longer output.
"""

from __future__ import annotations

BETA_HEADER = "anthropic-beta"
UNKNOWN_BETAS_MAX = 16

KNOWN_BETAS = frozenset({
    "advanced-tool-use-2025-11-20", "advisor-tool-2026-03-01", "claude-code-20250219", "code-execution-2025-05-22",
    "code-execution-2025-08-25", "compact-2026-01-12", "compact-2026-09-04", "computer-use-2024-10-22",
    "computer-use-2025-01-24", "computer-use-2025-11-24", "context-management-2025-06-27",
    "dev-full-thinking-2025-05-14", "effort-2025-11-24", "extended-cache-ttl-2025-04-11", "fast-mode-2026-02-01",
    "files-api-2025-04-14", "fine-grained-tool-streaming-2025-05-14", "inline-tools-2026-09-15",
    "interleaved-thinking-2025-05-14", "mcp-client-2025-04-04", "mcp-client-2025-11-20", "mcp-client-2026-09-15",
    "mid-conversation-output-config-2026-07-01", "mid-conversation-system-clear-at-2026-08-21",
    "mid-conversation-tool-changes-2026-07-01", "model-context-window-exceeded-2025-08-26", "pdfs-2024-09-25",
    "prompt-caching-2024-07-31", "server-side-fallback-2026-06-01", "server-side-fallback-2026-07-01",
    "skills-2025-10-02", "structured-outputs-2025-11-13", "task-budgets-2026-03-13",
    "thinking-binding-controls-2026-08-01", "thinking-display-updates-2026-08-18", "thinking-token-count-2026-05-13",
    "token-counting-2024-11-01", "token-efficient-tools-2025-02-19", "user-profiles-2026-03-24",
    "user-profiles-2026-08-18", "user-profiles-2026-09-04", "web-fetch-2025-09-10",
})  # fmt: skip


def unknown_betas(header: str) -> tuple[str, ...]:
    """The betas of a header's value that may change a price, as names of unknown fields: `anthropic-beta:name`."""
    if not header:
        return ()
    names = [name.strip() for name in header.split(",")]
    unknown = [name for name in names if name and name not in KNOWN_BETAS]
    return tuple([f"{BETA_HEADER}:{name[:48]}" for name in unknown[:UNKNOWN_BETAS_MAX]])
