"""Cohere: its usage."""
