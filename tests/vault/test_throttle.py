"""Guessing at the sign-in is slowed, per address and in all, in bounded memory."""

from __future__ import annotations

from gateway.vault.throttle import MAX_ADDRESSES, MAX_GLOBAL, MAX_PER_ADDRESS, WINDOW_MS, SignInThrottle
from vault.fakes import Clock


def failing(throttle: SignInThrottle, address: str, times: int) -> None:
    for _ in range(times):
        throttle.failed(address)


def test_an_address_waits_out_its_window() -> None:
    clock = Clock()
    throttle = SignInThrottle(clock)
    failing(throttle, "10.0.0.1", MAX_PER_ADDRESS - 1)
    assert throttle.wait_s("10.0.0.1") == 0
    throttle.failed("10.0.0.1")
    assert throttle.wait_s("10.0.0.1") == WINDOW_MS // 1000
    assert throttle.wait_s("10.0.0.2") == 0
    clock.ms += WINDOW_MS - 1
    assert throttle.wait_s("10.0.0.1") == 1
    clock.ms += 1
    assert throttle.wait_s("10.0.0.1") == 0
    throttle.failed("10.0.0.1")
    assert throttle.wait_s("10.0.0.1") == 0


def test_a_right_key_forgives_its_address() -> None:
    throttle = SignInThrottle(Clock())
    failing(throttle, "10.0.0.1", MAX_PER_ADDRESS)
    throttle.succeeded("10.0.0.1")
    throttle.succeeded("never seen")
    assert throttle.wait_s("10.0.0.1") == 0


def test_many_addresses_together_are_slowed_too() -> None:
    throttle = SignInThrottle(Clock())
    for number in range(MAX_GLOBAL):
        throttle.failed(f"10.0.{number // 250}.{number % 250}")
    assert throttle.wait_s("192.168.0.1") > 0


def test_ipv6_counts_by_network_and_mapped_ipv4_as_ipv4() -> None:
    throttle = SignInThrottle(Clock())
    for number in range(MAX_PER_ADDRESS):
        throttle.failed(f"2001:db8:1:2::{number:x}")
    assert throttle.wait_s("2001:db8:1:2:ffff::1") > 0
    assert throttle.wait_s("2001:db8:1:3::1") == 0
    failing(throttle, "::ffff:10.0.0.9", MAX_PER_ADDRESS)
    assert throttle.wait_s("10.0.0.9") > 0


def test_memory_is_bounded_whatever_addresses_are_claimed() -> None:
    throttle = SignInThrottle(Clock())
    for number in range(MAX_ADDRESSES + 50):
        throttle.failed(f"not an address {number}" + "x" * 1000)
    assert len(throttle._failures) == MAX_ADDRESSES
    assert max(len(name) for name in throttle._failures) <= 64
