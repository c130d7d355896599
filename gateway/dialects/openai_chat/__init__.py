"""OpenAI chat completions, and what the other OpenAI endpoints share with it."""
