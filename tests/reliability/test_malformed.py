"""Files that are not what they should be: the reason is said in a ValueError, and little memory is taken."""

import re

import pytest
import safetensors
from safetensors_support import LOADERS, blob, entry, load_mapped, one, whole

import fastnn
from fastnn.serialize import MAX_HEADER
from fastnn.train import load_checkpoint


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.safetensors"


# ---- what a file may say that is wrong: what is wrong, the file, what is said ----

W = entry()
HUGE = 2**62
MALFORMED = {
    # the first eight bytes
    "empty": (b"", "the file has 0 bytes, expected 8"),
    "seven bytes": (bytes(7), "the file has 7 bytes, expected 8"),
    "no header": (bytes(8), "the header begins with b'', expected '{'"),
    "length alone": (blob("", length=2), "length is 2, expected at most 0, as the file has 8 bytes"),
    "length one too large": (blob("{}", length=3), "length is 3, expected at most 2, as the file has 10 bytes"),
    "length 10^8 + 1": (blob("{}", length=MAX_HEADER + 1), "is 100000001, expected at most 100000000"),
    "length 2^63": (blob("{}", length=2**63), "is 9223372036854775808, expected at most"),
    "length 2^64 - 1": (blob("{}", length=2**64 - 1), "is 18446744073709551615, expected at most"),
    "big-endian length": ((2).to_bytes(8, "big") + b"{}", "is 144115188075855872, expected at most"),
    "a pickle": (b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00}\x94", "no safetensors file?"),
    "a zip": (b"PK\x03\x04\x14\x00\x08\x08rest", "no safetensors file?"),
    "a gzip": (b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03", "length is 559903, expected at most 2, as the file has"),
    "text": (b"hello, world", "no safetensors file?"),
    # JSON
    "space in front": (blob(" {}"), "the header begins with b' {}', expected '{'"),
    "byte-order mark": (blob(b"\xef\xbb\xbf{}"), "the header begins with"),
    "UTF-16": (blob("{}".encode("utf-16")), "the header begins with"),
    "UTF-32": (blob("{}".encode("utf-32")), "the header begins with"),
    "a list": (blob("[]"), "the header begins with b'[]'"),
    "null": (blob("null"), "the header begins with b'null'"),
    "zeros": (blob(bytes(16)), "the header begins with"),
    "no UTF-8": (blob(b'{"\xff":' + W.encode() + b"}", b"1234"), "byte 2 of the header is no UTF-8"),
    "UTF-8 of a surrogate": (blob(b'{"\xed\xa0\x80":' + W.encode() + b"}", b"1234"), "is no UTF-8"),
    "overlong UTF-8": (blob(b'{"\xc0\xaf":' + W.encode() + b"}", b"1234"), "is no UTF-8"),
    "brace alone": (blob("{"), "header: a key is the end of the header, expected a string"),
    "brace missing": (blob(f'{{"w":{W}', b"1234"), "header: got the end of the header, expected '}'"),
    "two objects": (blob("{}{}"), "header: got '{}' behind it, expected spaces"),
    "letter behind": (blob("{}x"), "header: got 'x' behind it"),
    "zeros behind": (blob(b"{}\x00\x00"), r"header: got '\x00\x00' behind it"),
    "comma at the end": (blob(f'{{"w":{W},}}', b"1234"), "header: a key is '}', expected a string"),
    "comma at the front": (blob(f'{{,"w":{W}}}', b"1234"), "header: a key is ',\"w\":"),
    "comma missing": (blob(f'{{"v":{entry(shape="[0]", data_offsets="[0,0]")} "w":{W}}}', b"1234"),
                      "header: got '\"w\":{\"dtype\":\"F32\",\"', expected '}'"),
    "colon missing": (blob(f'{{"w" {W}}}', b"1234"), "header: behind key 'w': got '{\"dtype\"", ),
    "single quotes": (blob(f"{{'w':{W}}}", b"1234"), r"header: a key is '\'w\':{"),
    "comment": (blob(f'{{"w":{W}/**/}}', b"1234"), "header: got '/**/}', expected '}'"),
    "number as key": (blob(f"{{1:{W}}}", b"1234"), "header: a key is '1:{"),
    "string without end": (blob('{"w'), "expected a string of JSON (without an end)"),
    "bad escape": (blob(f'{{"\\x":{W}}}', b"1234"), "expected a string of JSON (invalid escape)"),
    "bad Unicode escape": (blob(f'{{"\\u12g4":{W}}}', b"1234"), "expected a string of JSON (invalid escape)"),
    "control character": (blob(f'{{"a\nb":{W}}}', b"1234"), "expected a string of JSON (invalid control character)"),
    "NUL in a name": (blob(f'{{"a\0b":{W}}}', b"1234"), "expected a string of JSON (invalid control character)"),
    "the other half": (blob(f'{{"\\udc00\\ud800":{W}}}', b"1234"), "got half a surrogate pair"),
    "half a surrogate pair": (blob(f'{{"\\ud800":{W}}}', b"1234"), "got half a surrogate pair"),
    "deep lists": (blob('{"w":' + "[" * 100_000), "tensor 'w': got '[[[[[[[[[[[[[[[[[[[[', expected '{'"),
    "deep objects": (blob('{"a":' * 100_000), "tensor 'a': got key 'a', expected dtype, shape and data_offsets"),
    "deep shape": (one(shape="[" * 100_000), "tensor 'w': shape[0] is '[[["),
    # objects
    "a tensor twice": (blob(f'{{"w":{W},"w":{W}}}', b"1234"), "header: got key 'w' twice, expected it once"),
    "an escaped name twice": (blob(f'{{"w":{W},"\\u0077":{W}}}', b"1234"), "header: got key 'w' twice"),
    "metadata twice": (blob('{"__metadata__":{},"__metadata__":{}}'), "got key '__metadata__' twice"),
    "a key of metadata twice": (blob('{"__metadata__":{"a":"","a":""}}'), "__metadata__: got key 'a' twice"),
    "dtype twice": (blob('{"w":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}', b"1234"),
                    "tensor 'w': got key 'dtype' twice"),
    "metadata a string": (blob('{"__metadata__":"a"}'), "__metadata__: got '\"a\"}', expected '{'"),
    "metadata a list": (blob('{"__metadata__":[]}'), "__metadata__: got '[]}', expected '{'"),
    "metadata nulls": (blob('{"__metadata__":nullnull}'), "header: got 'null}', expected '}'"),
    "metadata a tensor": (blob(f'{{"__metadata__":{W}}}', b"1234"), "__metadata__['shape'] is '[1],"),
    "metadata of a number": (blob('{"__metadata__":{"a":1}}'), "__metadata__['a'] is '1}}', expected a string"),
    "metadata of NaN": (blob('{"__metadata__":{"a":NaN}}'), "__metadata__['a'] is 'NaN}}', expected a string"),
    "metadata of an object": (blob('{"__metadata__":{"a":{}}}'), "__metadata__['a'] is '{}}}', expected a string"),
    "tensor null": (blob('{"w":null}'), "tensor 'w': got 'null}', expected '{'"),
    "tensor a number": (blob('{"w":1}'), "tensor 'w': got '1}', expected '{'"),
    "tensor a string": (blob('{"w":"F32"}'), "tensor 'w': got '\"F32\"}', expected '{'"),
    "tensor a list": (blob('{"w":["F32",[1],[0,4]]}', b"1234"), "tensor 'w': got '[\"F32\",[1],[0,4]]}', expected '{'"),
    "tensor empty": (blob('{"w":{}}'), "tensor 'w': dtype is missing"),
    "dtype missing": (blob('{"w":{"shape":[1],"data_offsets":[0,4]}}', b"1234"), "tensor 'w': dtype is missing"),
    "shape missing": (blob('{"w":{"dtype":"F32","data_offsets":[0,4]}}', b"1234"), "tensor 'w': shape is missing"),
    "offsets missing": (blob('{"w":{"dtype":"F32","shape":[1]}}', b"1234"), "tensor 'w': data_offsets is missing"),
    "old name of offsets": (blob('{"w":{"dtype":"F32","shape":[1],"offsets":[0,4]}}', b"1234"),
                            "tensor 'w': got key 'offsets', expected dtype, shape and data_offsets"),
    # dtypes
    "dtype unknown": (one(dtype='"F128"'), "tensor 'w': dtype is 'F128', expected one of U64, I64,"),
    "dtype in lower case": (one(dtype='"f32"'), "tensor 'w': dtype is 'f32', expected one of"),
    "dtype of NumPy": (one(dtype='"<f4"'), "tensor 'w': dtype is '<f4', expected one of"),
    "dtype object": (one(dtype='"O"'), "tensor 'w': dtype is 'O', expected one of"),
    "dtype empty": (one(dtype='""'), "tensor 'w': dtype is '', expected one of"),
    "dtype and NUL": (one(dtype='"F32\\u0000"'), r"tensor 'w': dtype is 'F32\x00', expected one of"),
    "dtype of 10^5 letters": (one(dtype=f'"{"F" * 100_000}"'), "F…', expected one of"),
    "dtype null": (one(dtype="null"), "tensor 'w': dtype is 'null,\"shape\":[1],\"da', expected a string"),
    "dtype a number": (one(dtype="32"), "tensor 'w': dtype is '32,"),
    "dtype a list": (one(dtype='["F32"]'), "tensor 'w': dtype is '[\"F32\"],"),
    "F8_E4M3": (one(b"1", dtype='"F8_E4M3"', data_offsets="[0,1]"), "'w': dtype is 'F8_E4M3', a float of 8 bits or"),
    "F8_E5M2": (one(b"1", dtype='"F8_E5M2"', data_offsets="[0,1]"), "'w': dtype is 'F8_E5M2', a float of 8 bits or"),
    "F4": (one(b"1", dtype='"F4"', shape="[2]", data_offsets="[0,1]"), "'w': dtype is 'F4', a float of 8 bits or"),
    "BOOL of 2": (one(b"\1\0\2\1", dtype='"BOOL"', shape="[4]"), "tensor 'w': got a byte above 1, expected 0 or 1"),
    "BOOL of 255": (one(b"\xff", dtype='"BOOL"', data_offsets="[0,1]"), "tensor 'w': got a byte above 1"),
    # shapes
    "shape null": (one(shape="null"), "tensor 'w': shape: got 'null,\"data_offsets\":', expected '['"),
    "shape a number": (one(shape="1"), "tensor 'w': shape: got '1,"),
    "shape an object": (one(shape="{}"), "tensor 'w': shape: got '{},"),
    "shape a string": (one(shape='"1"'), "tensor 'w': shape: got '\"1\","),
    "shape without end": (one(shape="[1"), "tensor 'w': shape[1] is '\"data_offsets\":[0,4]', expected an integer"),
    "size negative": (one(shape="[-1]"), "'w': shape[0] is '-1],\"data_offsets\":[', expected an integer in [0,"),
    "size minus zero": (one(b"", shape="[-0]", data_offsets="[0,0]"), "tensor 'w': shape[0] is '-0],"),
    "size a float": (one(shape="[1.0]"), "tensor 'w': shape[0] is '1.0],"),
    "size with exponent": (one(shape="[1e0]"), "tensor 'w': shape[0] is '1e0],"),
    "size with leading zero": (one(shape="[01]"), "tensor 'w': shape[0] is '01],"),
    "size with plus": (one(shape="[+1]"), "tensor 'w': shape[0] is '+1],"),
    "size in hexadecimal": (one(shape="[0x1]"), "tensor 'w': shape: got 'x1],"),
    "size in Arabic digits": (one(shape="[١]"), "tensor 'w': shape[0] is '١],"),
    "size true": (one(shape="[true]"), "tensor 'w': shape[0] is 'true],"),
    "size null": (one(shape="[1,null]"), "tensor 'w': shape[1] is 'null],"),
    "size a string": (one(shape='["1"]'), "tensor 'w': shape[0] is '\"1\"],"),
    "size NaN": (one(shape="[NaN]"), "tensor 'w': shape[0] is 'NaN],"),
    "size Infinity": (one(shape="[Infinity]"), "tensor 'w': shape[0] is 'Infinity],"),
    "size 10^5000": (one(shape=f"[1{'0' * 5000}]"), "shape[0] is '10000000000000000000', expected an"),
    "size 1e400": (one(shape="[1e400]"), "tensor 'w': shape[0] is '1e400],"),
    "size a space": (one(shape="[1 1]"), "tensor 'w': shape: got '1],"),
    "size twice a comma": (one(shape="[1,,1]"), "tensor 'w': shape[1] is ',1],"),
    "65 axes": (one(shape=str([1] * 65)), "tensor 'w': shape has more than 64 elements, expected at most 64"),
    "shape too large": (one(shape="[2]"), "tensor 'w': data_offsets are [0, 4], expected 8 bytes for F32 of shape [2]"),
    "shape too small": (one(shape="[0]"), "tensor 'w': data_offsets are [0, 4], expected 0 bytes for F32 of shape [0]"),
    "shape of a scalar": (one(b"12345678", shape="[]", data_offsets="[0,8]"), "expected 4 bytes for F32 of shape []"),
    "product 0 modulo 2^64": (one(b"", shape=f"[{HUGE}]", data_offsets="[0,0]"), "expected fewer than 2^63 bytes"),
    "product 4 modulo 2^64": (one(shape=f"[{HUGE + 1}]"), "expected fewer than 2^63 bytes"),
    "product of many": (one(shape=str([2**32] * 64)), "expected fewer than 2^63 bytes"),
    "product of bytes": (one(dtype='"F64"', shape=f"[{2**60}]"), "expected fewer than 2^63 bytes"),
    "empty and huge": (one(b"", shape=f"[0,{2**61}]", data_offsets="[0,0]"), "expected fewer than 2^63 bytes"),
    "huge for the file": (one(shape=f"[{2**40}]", data_offsets=f"[0,{2**42}]"), "expected at most 4, the bytes behind"),
    # offsets
    "offsets null": (one(data_offsets="null"), "tensor 'w': data_offsets: got 'null}}', expected '['"),
    "no offsets": (one(data_offsets="[]"), "tensor 'w': data_offsets are [], expected [begin, end]"),
    "one offset": (one(data_offsets="[4]"), "tensor 'w': data_offsets are [4], expected [begin, end]"),
    "three offsets": (one(data_offsets="[0,4,8]"), "tensor 'w': data_offsets has more than 2 elements"),
    "offset negative": (one(data_offsets="[-4,0]"), "tensor 'w': data_offsets[0] is '-4,0]}}', expected an integer"),
    "offset a float": (one(data_offsets="[0,4.0]"), "tensor 'w': data_offsets[1] is '4.0]}}', expected an integer"),
    "offset true": (one(data_offsets="[false,4]"), "tensor 'w': data_offsets[0] is 'false,4]}}', expected an integer"),
    "offset 1e400": (one(data_offsets="[0,1e400]"), "tensor 'w': data_offsets[1] is '1e400]}}', expected an integer"),
    "offsets a nested list": (one(data_offsets="[[0,4]]"), "tensor 'w': data_offsets[0] is '[0,4]]}}'"),
    "offset 2^64": (one(data_offsets=f"[{2**64},{2**64 + 4}]"), "tensor 'w': data_offsets[0] is '18446744073709551616"),
    "offset 2^63": (one(data_offsets=f"[{2**63},{2**63 + 4}]"), "tensor 'w': data_offsets are [9223372036854775808, 9"),
    "offsets swapped": (one(data_offsets="[4,0]"), "tensor 'w': data_offsets are [4, 0], expected 4 bytes for F32"),
    "offsets from the file's start": (one(data_offsets="[67,71]"), "[67, 71], expected at most 4, the bytes behind"),
    "gap at the front": (one(b"12345678", data_offsets="[4,8]"), "[4, 8] and leave a gap, expected the data"),
    "gap between": (blob(f'{{"v":{W},"w":{entry(data_offsets="[8,12]")}}}', bytes(12)),
                    "tensor 'w': data_offsets are [8, 12] and leave a gap, expected the data to begin at 4"),
    "overlap": (blob(f'{{"v":{W},"w":{entry(data_offsets="[2,6]")}}}', bytes(6)),
                "'w': data_offsets are [2, 6] and overlap those of another tensor, expected the data to begin at 4"),
    "the same data": (blob(f'{{"v":{W},"w":{W}}}', b"1234"), "and overlap those of another tensor"),
    "empty inside another": (blob(f'{{"v":{W},"w":{entry(shape="[0]", data_offsets="[2,2]")}}}', b"1234"),
                             "tensor 'w': data_offsets are [2, 2] and overlap"),
    "empty past the end": (one(b"", shape="[0]", data_offsets="[4,4]"), "'w': data_offsets are [4, 4], expected at"),
    # data
    "data missing": (one(b""), "tensor 'w': data_offsets are [0, 4], expected at most 0, the bytes behind the header"),
    "data cut off": (one(b"123"), "tensor 'w': data_offsets are [0, 4], expected at most 3"),
    "byte behind": (one(b"12345"), "the file has 5 bytes behind the header, expected 4"),
    "bytes and no tensor": (blob("{}", b"1"), "the file has 1 bytes behind the header, expected 0"),
}  # fmt: skip


IN_THE_DATA = {"BOOL of 2", "BOOL of 255"}
"""What load_metadata does not see."""

STRICTER = {
    "space in front",  # the format says that a header begins with a brace
    "a tensor twice",  # one of them would be lost, which one is up to the reader
    "an escaped name twice",
    "a key of metadata twice",
    "tensor a list",  # Rust's JSON reads a list as an object without keys
    "BOOL of 2",  # NumPy computes nonsense with it
    "BOOL of 255",
    "F8_E4M3",  # NumPy lacks them
    "F8_E5M2",
    "F4",
    "65 axes",  # NumPy has 64
    "empty and huge",  # NumPy counts bytes without axes of length 0
}
"""What the safetensors package takes."""


@pytest.mark.parametrize("kind", MALFORMED)
def test_malformed(path, kind):
    data, message = MALFORMED[kind]
    path.write_bytes(data)
    for load in LOADERS:
        if load is fastnn.load_metadata and kind in IN_THE_DATA:
            assert load(path) == {}
            continue
        if load is load_checkpoint and kind in IN_THE_DATA:
            continue  # whose metadata are read first
        with pytest.raises(ValueError, match=re.escape(message)) as error:
            load(path)
        assert type(error.value) is ValueError
        assert str(error.value).startswith(f"load: {path}: ") and len(str(error.value)) < len(str(path)) + 400


@pytest.mark.parametrize("kind", MALFORMED)
def test_the_package_refuses_it_too(kind):
    data, _ = MALFORMED[kind]
    if kind in STRICTER:
        assert safetensors.deserialize(data) is not None
    else:
        with pytest.raises(safetensors.SafetensorError):
            safetensors.deserialize(data)


EMPTY = entry(shape="[0]", data_offsets="[0,0]")
UNUSUAL = {
    "nothing": blob("{}"),
    "metadata null": blob('{"__metadata__":null}'),
    "metadata behind": blob(f'{{"w":{W},"__metadata__":{{"":""}}}}', b"1234"),
    "NUL in a name, escaped": blob(f'{{"a\\u0000b":{W}}}', b"1234"),
    "a name of nothing": blob(f'{{"":{W}}}', b"1234"),
    "a name and a key of metadata": blob(f'{{"__metadata__":{{"w":"w"}},"w":{W}}}', b"1234"),
    "all escapes": blob(f'{{"\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\ud83d\\ude00":{W}}}', b"1234"),
    "a pair of surrogates behind many": blob('{"' + "\\n" * 999 + r'\ud83d\ude00":' + W + "}", b"1234"),
    "white space": blob(f'{{ \n"w"\t:\r{W.replace(",", " , ").replace("[", "[ ").replace("]", " ]")} }} \n ', b"1234"),
    "keys in another order": blob('{"w":{"data_offsets":[0,4],"shape":[],"dtype":"F32"}}', b"1234"),
    "data in another order": blob(f'{{"b":{entry(data_offsets="[4,8]")},"a":{W}}}', b"12345678"),
    "a scalar": one(shape="[]"),
    "64 axes": one(shape=str([1] * 64)),
    "empty tensors at one place": blob("{" + ",".join(f'"{i}":{EMPTY}' for i in range(9)) + "}"),
    "empty and large": one(b"", shape=f"[0,{2**60}]", data_offsets="[0,0]"),
    "a header of spaces": blob("{}" + " " * 10_000),
}  # fmt: skip


@pytest.mark.parametrize("kind", UNUSUAL)
def test_unusual_files_load_as_with_the_package(path, kind):
    data = UNUSUAL[kind]
    path.write_bytes(data)
    theirs = {name: (bytes(x["data"]), x["shape"]) for name, x in safetensors.deserialize(data)}
    for load in (fastnn.load, load_mapped):
        assert {name: (x.tobytes(), list(x.shape)) for name, x in load(path).items()} == theirs
    with safetensors.safe_open(path, "np") as file:
        assert fastnn.load_metadata(path) == (file.metadata() or {})


def test_truncated_anywhere(path):
    data = whole(path)
    for size in range(len(data)):
        path.write_bytes(data[:size])
        for load in LOADERS:
            with pytest.raises(ValueError, match=r"^load: .*weights\.safetensors: .*expected"):
                load(path)


def test_a_checkpoint_of_something_else(path):
    whole(path)
    with pytest.raises(ValueError, match="a file without it, such as one of"):
        load_checkpoint(path)
