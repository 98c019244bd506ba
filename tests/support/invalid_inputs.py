"""Inputs that the API must refuse."""

NOT_OBJECTS = (
    *(b"", b" ", b"{", b"}", b"[]", b"[{}]", b"null", b"true", b"1", b'"{}"', b"NaN", b"\x00"),
    *(b"{}x", b"{}{}", b"{'a': 1}", b'{"a":1,}', b'{"a"}', b"Component=x1&Status=OK"),
    *(b"\xff\xfe", b"\xef\xbb\xbf{}", b'{"a":"\xff"}', b'{"a":"\xed\xa0\x80"}', b'{"a":"\\ud800"}'),
    *(b'{"a":"\\udc00\\ud800"}', b'{"\\ud800":1}', b'{"a":Infinity}', b'{"a":"\n"}', b'{"a":01}'),
)
"""Bodies that are not JSON, or not an object."""

NOT_NAMES = (
    *("x", "nid000083", "x1000c0s0b0n", "x1000c8s0b0n0", "x12345c0s0b0n0", "x1000c0s0b0n0z"),
    *("x1000c0s0b0n0 x", "x1000c0s0b0n0\x00", "x1000c0s0b0n-1", "x1000c0s0b0n1.5", "xé", "💀"),
    *("x\u0661c0s0b0n0", "*", "..", "x1000c0s0b0n0;", "'x1000c0s0b0n0'", "x" * 300),
    "x1000c0s0b0n" + "1" * 400,
)
"""Texts that are no xnames, not even in normal form."""
