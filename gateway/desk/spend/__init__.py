"""Spend, calls and usage over HTTP."""
