"""The price book over HTTP, prices.yaml, and what goes into force."""
