"""How long a frame is, for every way RFC 6455 has to say it."""

import pytest

from maitred.worker.websocket import frame_size

MASKED = 0x80


@pytest.mark.parametrize(
    ("head", "size"),
    [
        (b"\x81\x00", 2),
        (b"\x81" + bytes([MASKED | 5]), 2 + 4 + 5),
        (b"\x82" + bytes([MASKED | 126]) + b"\x01\x00", 4 + 4 + 256),
        (b"\x82\x7e\x00\x7e", 4 + 126),
        (b"\x82" + bytes([MASKED | 127]) + bytes(5) + b"\x01\x00\x00", 10 + 4 + 65536),
    ],
)
def test_frame_size(head, size):
    """It is known with the last byte of the length, and not before."""
    assert frame_size(head) == frame_size(head + b"more") == size
    assert all(frame_size(head[:end]) is None for end in range(len(head)))
