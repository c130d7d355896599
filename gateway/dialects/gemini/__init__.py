"""The Gemini generateContent dialect: so far its usage."""
