from __future__ import annotations

import pytest

from sidecar.config.document import BYTES_AT_MOST, DocumentError, parse

LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcde", "bcdef", strict=True)
)


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("", None),
        ("# nothing\n", None),
        ("---\n", None),
        ("a: 0123\nb: yes\nc: 1.0\n", {"a": "0123", "b": "yes", "c": "1.0"}),
        ("d: 2024-99-99\ne: 1:30\n", {"d": "2024-99-99", "e": "1:30"}),
        ("a:\nb: ~\nc: null\nd: 'null'\ne: ''\n", {"a": None, "b": None, "c": None, "d": "null", "e": ""}),
        ("a: [1, {b: c}]\n", {"a": ["1", {"b": "c"}]}),
        ("a: &x {b: c}\nd: *x\n", {"a": {"b": "c"}, "d": {"b": "c"}}),
        ("\ufeffa: b\r\n", {"a": "b"}),
        ("a: !!str 5\n", {"a": "5"}),
        ("- a\n", ["a"]),
    ],
)  # fmt: skip
def test_every_scalar_is_the_text_that_was_written(text: str, data: object) -> None:
    assert parse(text.encode()) == data


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "a: 1\nb: c: d\n",
            "the file is not valid YAML at line 2, column 5 (mapping values are not allowed here); "
            "correct that line or the one before it",
        ),
        (
            "a: 1\n\tb: 2\n",
            "the file is not valid YAML at line 2, column 1 (a tab where YAML takes spaces only); "
            "correct that line or the one before it",
        ),
        (
            "a: [1\nb: 2\n",
            "the file is not valid YAML at line 2, column 2; correct that line or the one before it",
        ),
        (
            "vhid: 1\npassword hunter2\nvips: x\n",
            "the file is not valid YAML at line 3, column 1 (could not find expected ':'); "
            "correct that line or the one before it",
        ),
        (
            "password: *hunter2\n",
            "the file is not valid YAML at line 1, column 11 (found undefined alias); "
            "correct that line or the one before it",
        ),
        (
            "a: 1\n---\nb: 2\n",
            "the file is not valid YAML at line 2, column 1 (found another document); "
            "correct that line or the one before it",
        ),
        ("a: 1\npassword: !hunter2 x\n", "line 2 has a type tag (!...); remove it"),
        ("a: 1\nb: 2\na: 3\n", "line 3 has the key 'a' for the second time; keep one of the two"),
        ("a:\n  b: 1\n  b: 1\n", "line 3 has the key 'b' for the second time; keep one of the two"),
        ("? [a]\n: b\n", "line 1 has a list or mapping as a key; use a plain word"),
        ("a: 1\nb: \x01\n", "line 2 holds a control character; remove it"),
        ('a: "\\UFFFFFFFF"\n', "a quoted text has an escape that is no character; write the character itself"),
        ('a: "\\U00110000"\n', "a quoted text has an escape that is no character; write the character itself"),
        ("[" * 5000, "the file is nested too deeply; keep to the keys of the reference"),
        (LAUGHS, "the file unfolds to over 20000 values or 16 levels; use less, and fewer aliases"),
        ("a: &a [*a]\n", "the file unfolds to over 20000 values or 16 levels; use less, and fewer aliases"),
    ],
)
def test_one_line_that_quotes_no_value(text: str, line: str) -> None:
    with pytest.raises(DocumentError) as raised:
        parse(text.encode())
    assert str(raised.value) == line
    assert raised.value.__context__ is None


def test_bytes_that_are_not_utf8() -> None:
    with pytest.raises(DocumentError) as raised:
        parse(b"a: 1\nb: \xff\n")
    assert str(raised.value) == "line 2 is not UTF-8; save the file as UTF-8"


def test_too_large() -> None:
    parse(b"#" * BYTES_AT_MOST)
    with pytest.raises(
        DocumentError, match=r"^the file is larger than 1024 KiB; keep only this sidecar's settings in it$"
    ):
        parse(b"#" * (BYTES_AT_MOST + 1))
