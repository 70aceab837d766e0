import pytest

from adafocus.service.http.callers import caller_at


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2", True),
        ("testclient", "testclient", True),
        ("", "192.0.2.1", False),
    ],
)
def test_a_customer_is_one_caller(one: str, other: str, same: bool) -> None:
    assert (caller_at(one) == caller_at(other)) is same
