"""How each vendor-shaped API is read, rewritten and answered. Pure: bytes in, values and bytes out."""
