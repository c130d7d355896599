"""Limits over HTTP, and limits.yaml."""
