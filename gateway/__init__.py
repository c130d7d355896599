"""Faregate: an LLM gateway and cost manager. `docs/architecture.md` is the map; `flow/run.py` is the request path."""

__version__ = "0.1.0"
