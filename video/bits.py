"""Reads the bits of parameter sets and picture headers. Pure."""

from __future__ import annotations

_LONGEST_CODE = 32


class UnreadableError(Exception):
    """The bytes end too early, or hold a value that the format does not permit."""


class Bits:
    """Reads the bits of a payload, most significant first."""

    def __init__(self, payload: bytes) -> None:
        """Prepares for a payload that still holds its emulation prevention bytes."""
        plain = payload.replace(b"\0\0\3", b"\0\0")
        self._value = int.from_bytes(plain)
        self._left = 8 * len(plain)

    def take(self, count: int) -> int:
        """Reads u(n): the next bits as a number.

        Raises:
            UnreadableError: fewer bits are left.
        """
        if count > self._left:
            raise UnreadableError
        self._left -= count
        return self._value >> self._left & (1 << count) - 1

    def number(self) -> int:
        """Reads ue(v): an Exp-Golomb code.

        Raises:
            UnreadableError: the code is too long, or cut.
        """
        zeros = 0
        while not self.take(1):
            zeros += 1
            if zeros > _LONGEST_CODE:
                raise UnreadableError
        return (1 << zeros) - 1 + self.take(zeros)

    def numbers(self, count: int) -> None:
        """Skips so many codes, either ue(v) or se(v)."""
        for _ in range(count):
            self.number()

    def signed(self) -> int:
        """Reads se(v)."""
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
