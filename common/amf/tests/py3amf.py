"""Reads and writes AMF with Py3AMF for the tests of this crate.

Each line of the input is a format (amf0 or amf3) and a message in hexadecimal. Each line of the output is what Py3AMF made of the
message, as text, a tab, and the message as Py3AMF writes it.
"""

import datetime
import json
import sys

import pyamf
from pyamf.amf3 import ByteArray
from pyamf.flex import ArrayCollection, ObjectProxy


class Item:
    """An object of a class that both sides know."""


pyamf.register_class(Item, "test.Item")

EPOCH = datetime.datetime(1970, 1, 1)


def text(value):
    """A name, which Py3AMF gives as bytes now and then."""
    return value.decode() if isinstance(value, bytes) else str(value)


def properties(pairs, enclosing):
    return ",".join(f"{text(name)}:{describe(value, enclosing)}" for name, value in sorted(pairs, key=lambda pair: text(pair[0])))


def describe(value, enclosing=()):
    """One spelling for each value, with properties in the order of their names."""
    if value is pyamf.Undefined:
        return "undefined"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(float(value))
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, datetime.datetime):
        return f"date {(value - EPOCH) / datetime.timedelta(milliseconds=1)!r}"
    if isinstance(value, ByteArray):
        return f"bytes {value.getvalue().hex()}"
    if id(value) in enclosing:
        return f"up {enclosing[::-1].index(id(value))}"
    enclosing = (*enclosing, id(value))
    if isinstance(value, ArrayCollection):
        return "ArrayCollection [" + ",".join(describe(item, enclosing) for item in value) + "]"
    if isinstance(value, ObjectProxy):
        return f"ObjectProxy {describe(value._amf_object, enclosing)}"
    if isinstance(value, Item):
        return "test.Item {" + properties(vars(value).items(), enclosing) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(describe(item, enclosing) for item in value) + "]"
    if isinstance(value, pyamf.MixedArray):
        return "array {" + properties(value.items(), enclosing) + "}"
    if isinstance(value, pyamf.TypedObject):
        return f"{text(value.alias)} {{" + properties(value.items(), enclosing) + "}"
    if isinstance(value, dict):
        return "{" + properties(value.items(), enclosing) + "}"
    return f"xml <{value.tag}>"


def main():
    for line in sys.stdin:
        name, wire = line.split()
        encoding = {"amf0": pyamf.AMF0, "amf3": pyamf.AMF3}[name]
        values = list(pyamf.decode(bytes.fromhex(wire), encoding=encoding))
        written = pyamf.encode(*values, encoding=encoding).getvalue()
        print(";".join(describe(value) for value in values), written.hex(), sep="\t")


main()
