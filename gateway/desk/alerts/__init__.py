"""Alerts over HTTP, pause links, and alerts.yaml."""
