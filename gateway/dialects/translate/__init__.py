"""Translations between dialects, through the neutral forms of `core/neutral.py`."""
