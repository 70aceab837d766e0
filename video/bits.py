"""Reads the bits of parameter sets and picture headers. Pure."""

from __future__ import annotations

_LONGEST_CODE = 32


class UnreadableError(Exception):
    """The bytes end too early, or hold a value that the format does not permit."""


class Bits:
    """Bits of a NAL unit's payload, most significant first."""

    def __init__(self, payload: bytes) -> None:
        """Of a payload from which the emulation prevention bytes have not been removed yet."""
        plain = payload.replace(b"\0\0\3", b"\0\0")
        self._value = int.from_bytes(plain)
        self._left = 8 * len(plain)

    def take(self, count: int) -> int:
        """The next bits as a number, the format's u(n).

        Raises:
            UnreadableError: there are fewer.
        """
        if count > self._left:
            raise UnreadableError
        self._left -= count
        return self._value >> self._left & (1 << count) - 1

    def number(self) -> int:
        """The format's ue(v), an Exp-Golomb code.

        Raises:
            UnreadableError: there is none.
        """
        zeros = 0
        while not self.take(1):
            zeros += 1
            if zeros > _LONGEST_CODE:
                raise UnreadableError
        return (1 << zeros) - 1 + self.take(zeros)

    def numbers(self, count: int) -> None:
        """Passes over so many ue(v) or se(v), which are equally long."""
        for _ in range(count):
            self.number()

    def signed(self) -> int:
        """The format's se(v)."""
        code = self.number()
        return (code + 1) // 2 if code % 2 else -(code // 2)


def at_most(value: int, most: int) -> int:
    """Returns the value.

    Raises:
        UnreadableError: it is greater than the format permits.
    """
    if value > most:
        raise UnreadableError
    return value
