"""Durations, sizes and rates: a number without its unit is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telamon.configuration.quantity import (
    Duration,
    Rate,
    Size,
    parse_duration,
    parse_rate,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("200ms", 200),
        ("2s", 2_000),
        ("2 s", 2_000),
        ("0s", 0),
        ("1.5s", 1_500),
        ("1.5m", 90_000),
        ("0.001s", 1),
        ("5m", 300_000),
        ("24h", 86_400_000),
        ("1d", 86_400_000),
    ],
)
def test_durations(text: str, milliseconds: int) -> None:
    assert parse_duration(text) == Duration(milliseconds)


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("512B", 512),
        ("4KiB", 4096),
        ("64MiB", 64 << 20),
        ("1.5GiB", 3 << 29),
        ("10GB", 10**10),
        ("1kB", 1000),
        ("2TB", 2 * 10**12),
    ],
)
def test_sizes(text: str, size_bytes: int) -> None:
    assert parse_size(text) == Size(size_bytes)
    assert parse_rate(f"{text}/s") == Rate(size_bytes)


@pytest.mark.parametrize(
    "text",
    [
        *("2", 2, 2.0, None, True, "", "s", "-1s", "1e3s", "2 sec", "2S", "1s 500ms", "1_0s"),
        *("\u0662s", "0.5ms", "1.0001s", "9999999999999s"),
    ],
)
def test_what_is_no_duration_is_refused_with_an_example(text: object) -> None:
    with pytest.raises(ValueError, match=r"such as 200ms, 2s|finer than the smallest unit"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["64", 64, "64M", "64mib", "64MB/s", "0.1B", "", None])
def test_what_is_no_size_is_refused_with_an_example(text: object) -> None:
    with pytest.raises(ValueError, match=r"such as 512KiB|finer than the smallest unit"):
        parse_size(text)


@pytest.mark.parametrize("text", ["100MiB", "100/s", "100MiB/min", 100, None])
def test_what_is_no_rate_is_refused_with_an_example(text: object) -> None:
    with pytest.raises(ValueError, match=r"such as 100MiB/s"):
        parse_rate(text)


@given(st.integers(0, 10**12))
def test_what_is_shown_is_read_again_as_the_same(amount: int) -> None:
    assert parse_duration(str(Duration(amount))) == Duration(amount)
    assert parse_size(str(Size(amount))) == Size(amount)
    assert parse_rate(str(Rate(amount))) == Rate(amount)


@given(st.text(max_size=20))
def test_any_text_is_read_or_refused(text: str) -> None:
    for parse in (parse_duration, parse_size, parse_rate):
        try:
            parse(text)
        except ValueError as error:
            assert repr(text) in str(error)


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_order_and_multiples(one: int, other: int) -> None:
    assert (Duration(one) < Duration(other)) == (one < other)
    assert Duration(one) * 3 == Duration(3 * one)
    assert Duration(one).seconds * 1000 == pytest.approx(one)
