"""Values and ports. Pure data and protocols; imports nothing of Faregate and nothing that does I/O."""
