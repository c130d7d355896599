"""The OpenAI Responses dialect: so far its usage."""
