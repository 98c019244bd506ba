"""Inputs that the API must refuse."""

NOT_OBJECTS = (
    *(b"", b" ", b"{", b"}", b"[]", b"[{}]", b"null", b"true", b"1", b'"{}"', b"NaN", b"\x00"),
    *(b"{}x", b"{}{}", b"{'a': 1}", b'{"a":1,}', b'{"a"}', b"Component=x1&Status=OK"),
    *(b"\xff\xfe", b"\xef\xbb\xbf{}", b'{"a":Infinity}', b'{"a":"\n"}', b'{"a":01}', b'{"a":1.}'),
    *(
        b'{"a":\xff}',
        b'{"a":"\xff}',
        b'{"a":"\\ud80"}',
        b'{"a":1e999',
        b'{"a":1.5.5}',
        b'{"a":--1e999}',
    ),
    *(b'{"a":1e999 1}', b"[1e999]", b'"\\ud800"', b"1e999", b'{"a":' + b"[" * 3000 + b"}"),
    *(b'{"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}", b'{"a":' + b"[" * 2000 + b"}" * 2000 + b"}"),
    *(b'{"a":' + b"[" * 2000 + b"]" * 2001, b'{"a":' + b"[" * 2000 + b"01" + b"]" * 2000 + b"}"),
)
"""Bodies that are not JSON, or not an object."""

ODD_VALUES = (
    *(b"1e999", b"-1E+999", b"9" * 400, b"-" + b"9" * 5000 + b".5", b'"\xff"', b'"\xed\xa0\x80"'),
    *(
        b'"\\ud800"',
        b'"\\udc00\\ud800"',
        b'"\\\\\\ud800"',
        b'"\xe2\x82"',
        b'{"\xff":1,"\\udfff":2}',
    ),
    *(b"[" * 9999 + b"]" * 9999, b'{"[":' * 5000 + b"1e999" + b"}" * 5000, b'[[],"\xff",[]]'),
    b"[" * 1500 + b'"]\\"]"' + b"]" * 1500,
)
"""JSON values that the original hbtd takes where nobody reads them, and orjson refuses."""

NOT_NAMES = (
    *("x", "nid000083", "x1000c0s0b0n", "x1000c8s0b0n0", "x12345c0s0b0n0", "x1000c0s0b0n0z"),
    *("x1000c0s0b0n0 x", "x1000c0s0b0n0\x00", "x1000c0s0b0n-1", "x1000c0s0b0n1.5", "xé", "💀"),
    *("x\u0661c0s0b0n0", "*", "..", "x1000c0s0b0n0;", "'x1000c0s0b0n0'", "x" * 300),
    "x1000c0s0b0n" + "1" * 400,
)
"""Texts that are no xnames, not even in normal form."""
