"""A DNS question for the text of a name (TXT), as a resolver asks it, and what is answered.
RFC 1035; does no I/O.
"""

import struct

_TXT, _INTERNET = 16, 1
_RECURSION_DESIRED = 0x0100
_HEADER_BYTES = 12
_POINTER = 0xC0


def question(number: int, name: str) -> bytes:
    """The datagram that asks for a name's text."""
    header = struct.pack("!6H", number, _RECURSION_DESIRED, 1, 0, 0, 0)
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return header + labels + b"\0" + struct.pack("!2H", _TXT, _INTERNET)


def text_of(datagram: bytes, number: int) -> str:
    """The text in an answer; what is wrong with it, in brackets, if it has none."""
    answered, _, questions, count, _, _ = struct.unpack_from("!6H", datagram)
    if answered != number or questions != 1 or count < 1:
        return f"<{count} answers to question {answered}>"
    place = _behind_name(datagram, _HEADER_BYTES) + 4
    place = _behind_name(datagram, place)
    kind, _, _, length = struct.unpack_from("!HHIH", datagram, place)
    if kind != _TXT:
        return f"<a record of type {kind}>"
    record = datagram[place + 10 : place + 10 + length]
    return record[1 : 1 + record[0]].decode()


def _behind_name(datagram: bytes, place: int) -> int:
    while (length := datagram[place]) != 0:
        if length & _POINTER == _POINTER:
            return place + 2
        place += 1 + length
    return place + 1
