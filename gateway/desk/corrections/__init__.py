"""Calls priced again, and months closed for good."""
