"""The Anthropic Messages dialect: so far its usage."""
