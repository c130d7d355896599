"""The store's whole suite on the PostgreSQL that the distribution ships, which is some years older than the wheel's."""

from __future__ import annotations

from servers import Distribution
from test_pgbouncer import run_suite


def test_the_store_suite_on_the_distributions_server(debian: Distribution) -> None:
    print(f"PostgreSQL {debian.version}")
    run_suite(debian.url, "tests/store", "tests/bookkeeper/test_loading.py")
