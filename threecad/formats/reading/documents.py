"""Texts of any encoding and JSON of any shape: what is in them, or who is at fault and where."""

from __future__ import annotations

import codecs
import csv
import io
import json
import math
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import yaml

from threecad.dataset.naming import is_good_name
from threecad.errors import ConversionError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "Record",
    "decode_text",
    "numbers",
    "parse_json",
    "parse_table",
    "parse_xml",
    "parse_yaml",
    "read_label",
    "whole_number",
]

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

_DEFECTIVE = frozenset({
    "abnormal", "anomalous", "anomaly", "bad", "defect", "defective", "faulty", "ko", "ng", "nio",
    "nok", "notgood", "notok",
})  # fmt: skip


def decode_text(data: bytes, name: object) -> str:
    """Return a text in UTF-8, or in UTF-16 or UTF-32 that says so by a byte order mark.

    Raises:
        ConversionError: If it is in another encoding, which nobody can know.
    """
    encoding = next((encoding for mark, encoding in _MARKS if data.startswith(mark)), "utf-8")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise ConversionError(
            f"{name} is not in {encoding.removesuffix('-sig').upper()} (byte {error.start}). Save "
            "it as UTF-8."
        ) from error


def parse_json(data: bytes, name: object) -> Any:
    """Return the content of a JSON file.

    Raises:
        ConversionError: If it is none.
    """
    try:
        return json.loads(decode_text(data, name))
    except (ValueError, RecursionError) as error:
        raise ConversionError(f"{name} is not JSON: {error}. Get it again.") from error


def parse_yaml(data: bytes, name: object) -> Any:
    """Return the content of a YAML file.

    Raises:
        ConversionError: If it is none.
    """
    try:
        return yaml.safe_load(decode_text(data, name))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        told = " ".join(str(error).split())
        raise ConversionError(f"{name} is not YAML: {told}. Get it again.") from error


def parse_xml(data: bytes, name: object) -> ET.Element:
    """Return the root of an XML file: in the encoding of its byte order mark, or as it declares.

    Raises:
        ConversionError: If it is none, or declares entities, which annotations never do.
    """
    marked = any(data.startswith(mark) for mark, _ in _MARKS)
    try:
        if b"<!DOCTYPE" in (plain := data.replace(b"\0", b"")) or b"<!ENTITY" in plain:
            raise ConversionError(f"{name} declares entities, which annotations never do.")
        return ET.fromstring(decode_text(data, name) if marked else data)
    except (ET.ParseError, ValueError, LookupError) as error:
        raise ConversionError(f"{name} is not XML: {error}. Get it again.") from error


def parse_table(data: bytes, name: object) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the line in the file and the cells by column of every row of a CSV file.

    Raises:
        ConversionError: If it is none, or a row has another number of cells than the first line.
    """
    reader = csv.DictReader(io.StringIO(decode_text(data, name), newline=""), restval=None)
    try:
        for row in reader:
            if None in row or None in row.values():
                raise ConversionError(
                    f"{name}, line {reader.line_num}: expected {len(reader.fieldnames or [])} "
                    "cells, as in the first line."
                )
            yield reader.line_num, row
    except csv.Error as error:
        raise ConversionError(f"{name}, line {reader.line_num}: {error}. Get it again.") from error


def read_label(value: object, where: str) -> int:
    """Return 0 for good and 1 for defective, as tables write it.

    Raises:
        ConversionError: If it is neither; ``where`` says who writes it.

    >>> [read_label(value, "") for value in ("0.0", False, "normal", "1", "True", "defect")]
    [0, 0, 0, 1, 1, 1]
    """
    text = str(value).strip().casefold()
    plain = "".join(filter(str.isalnum, text))
    if text in ("0", "0.0", "false") or is_good_name(text):
        return 0
    if text in ("1", "1.0", "true") or plain in _DEFECTIVE:
        return 1
    raise ConversionError(
        f"{where}: the label is {value!r}; expected 0 or 1, false or true, good or defective."
    )


@dataclass(frozen=True)
class Record:
    """A JSON object whose fields are asked for by kind; whoever asks need not check.

    Attributes:
        content: The object.
        where: How messages name it.
    """

    content: dict[str, Any]
    where: str

    @classmethod
    def of(cls, value: object, where: str) -> Record:
        """Return it as a record.

        Raises:
            ConversionError: If it is no object.
        """
        if not isinstance(value, dict):
            raise ConversionError(f"{where} is {_shown(value)}; expected an object {{…}}.")
        return cls(cast("dict[str, Any]", value), where)

    def __contains__(self, field: str) -> bool:
        return field in self.content

    def get(self, field: str) -> Any:
        """Return a field as it is, ``None`` where there is none."""
        return self.content.get(field)

    def text(self, field: str) -> str:
        """Return a text that is not empty.

        Raises:
            ConversionError: If it is none.
        """
        value = self.get(field)
        if not isinstance(value, str) or not value:
            raise self.unexpected(field, "a text")
        return value

    def key(self, field: str) -> str:
        """Return an id as text: 1, 1.0 and "1" are one id.

        Raises:
            ConversionError: If it is neither a whole number nor a text.
        """
        value = self.get(field)
        number = whole_number(value)
        if number is None and not (isinstance(value, str) and value.strip()):
            raise self.unexpected(field, "an id")
        return str(number) if number is not None else str(value).strip()

    def records(self, field: str) -> list[Record]:
        """Return the objects of a list; empty where there is none.

        Raises:
            ConversionError: If it is no list, or holds something else.
        """
        value = self.get(field)
        if field in self.content and not isinstance(value, list):
            raise self.unexpected(field, "a list")
        return [
            Record.of(entry, f"{self.where}, {field}[{number}]")
            for number, entry in enumerate(value or [])
        ]

    def record(self, field: str) -> Record:
        """Return an object; one without fields where there is none.

        Raises:
            ConversionError: If it is something else.
        """
        return Record.of(self.get(field) or {}, f"{self.where}, {field}")

    def side(self, field: str) -> int | None:
        """Return a number of pixels; ``None`` where what is there is none above 0."""
        number = whole_number(self.get(field))
        return number if number is not None and number > 0 else None

    def unexpected(self, field: str, wanted: str) -> ConversionError:
        """Return the error that says what a field should be."""
        if field not in self.content:
            return ConversionError(f"{self.where} has no {field}; expected {wanted}.")
        return ConversionError(
            f"{self.where}: {field} is {_shown(self.get(field))}; expected {wanted}."
        )


def whole_number(value: object) -> int | None:
    """Return a whole number that is written as such, as a float or as a text, or ``None``."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return int(number) if math.isfinite(number) and number == int(number) else None


def numbers(values: object, where: str) -> tuple[float, ...]:
    """Return a list of finite numbers.

    Raises:
        ConversionError: If it is none.
    """
    if isinstance(values, (list, tuple)) and all(
        isinstance(v, (int, float)) and not isinstance(v, bool) and abs(v) < 1e9 for v in values
    ):
        return tuple(float(v) for v in values)
    raise ConversionError(f"{where} is {_shown(values)}; expected a list of numbers.")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
