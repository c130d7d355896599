"""`make run-local-model`: a real model on this machine, and a gateway in front of it."""
