"""Vendors as data: one file with one row each. Pure."""
