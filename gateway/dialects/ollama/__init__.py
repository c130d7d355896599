"""The native API of Ollama: its usage."""
