"""The digest of rows and schema: of what a table says, not of how a file or a batch happens to hold it.

Equal rows in equal order have equal digests, whatever batches they came in, whatever lies behind a null, whether
strings are in a dictionary, and whichever version of pyarrow wrote them. `rows1:` names the way it is made; another way
gets another name, and like is compared with like only.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.types as pt
import xxhash

KIND = "rows1"

Bytes = npt.NDArray[np.uint8]
Present = npt.NDArray[np.bool_] | None


class RowDigest:
    """Takes rows batch by batch.

    Args:
        schema: names, types and nullability of its columns count.
        contract_version: counts as well; empty for a table without contract.
    """

    def __init__(self, schema: pa.Schema, *, contract_version: str = "") -> None:
        self._schema = f"{_named(schema)} {contract_version}"
        self._columns = [_Column(each.type) for each in schema]

    def add(self, rows: pa.Table) -> None:
        """Add rows, given in the schema."""
        for column, values in zip(self._columns, rows.columns, strict=True):
            for chunk in values.chunks:
                column.add(chunk)

    def text(self) -> str:
        """The digest of all rows so far: "rows1:" and 32 hex digits."""
        digest = xxhash.xxh3_128(self._schema.encode())
        for column in self._columns:
            column.add_to(digest)
        return f"{KIND}:{digest.hexdigest()}"


class _Column:
    """Hashes which values are missing, the lengths of those that have one, and their bytes.

    Each of the three in a stream of its own, so that it does not show where one batch ended and the next began.
    """

    def __init__(self, kind: pa.DataType) -> None:
        self._kind = kind = _plain(kind)
        self._count = 0
        self._nulls, self._lengths, self._values = (xxhash.xxh3_128() for _ in range(3))
        self._children = [_Column(kind.field(index).type) for index in range(kind.num_fields)]

    def add(self, array: pa.Array) -> None:
        """Add values of any encoding of the column's type."""
        if isinstance(array, pa.ExtensionArray):
            array = array.storage
        if array.type != self._kind and not _is_of_bytes(array.type):  # those need no other offsets, only their bytes
            array = array.cast(self._kind)
        present = None
        if array.null_count:
            present = np.asarray(array.is_valid())
            self._nulls.update((np.flatnonzero(~present) + self._count).data)
        self._count += len(array)
        if pt.is_struct(self._kind):
            for column, child in zip(self._children, array.flatten(), strict=True):
                column.add(child)
        elif pt.is_large_list(self._kind):
            self._lengths.update(_lengths(array, present).data)
            self._children[0].add(array.flatten())
        elif pt.is_large_binary(self._kind):
            self._lengths.update(_lengths(array, present).data)
            self._values.update(_content(array).data)
        elif pt.is_boolean(self._kind):
            self._values.update(np.asarray(array.fill_null(pa.scalar(value=False))).view(np.uint8).data)
        elif not pt.is_null(self._kind):
            self._values.update(_fixed_width(array, present).data)

    def add_to(self, digest: xxhash.xxh3_128) -> None:
        """Add the digests of all streams to another one."""
        digest.update(b"%d" % self._count)
        for stream in (self._nulls, self._lengths, self._values):
            digest.update(stream.digest())
        for child in self._children:
            child.add_to(digest)


def _named(fields: Iterable[pa.Field]) -> str:
    return repr([(each.name, _name(each.type), each.nullable) for each in fields])


def _name(kind: pa.DataType) -> str:
    """As Arrow has it; of what a list or a map is made of without the names, which a Parquet file changes."""
    if isinstance(kind, pa.BaseExtensionType):
        return f"{kind.extension_name} {_name(kind.storage_type)}"
    if pt.is_dictionary(kind):
        return _name(kind.value_type)
    if pt.is_struct(kind):
        return f"struct {_named(kind)}"
    if kind.num_fields:
        plain = _plain(kind).value_field
        return f"{str(kind).partition('<')[0]} {_name(plain.type)} {plain.nullable}"
    return str(kind)


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type that values are hashed in: one for all encodings of the same values."""
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    if pt.is_dictionary(kind):
        kind = kind.value_type
    if _is_of_bytes(kind) or pt.is_string_view(kind) or pt.is_binary_view(kind):
        return pa.large_binary()
    if pt.is_map(kind):
        return pa.large_list(pa.struct([kind.key_field, kind.item_field]))
    if any(test(kind) for test in (pt.is_list, pt.is_fixed_size_list, pt.is_list_view, pt.is_large_list_view)):
        return pa.large_list(kind.value_field)
    return kind


def _is_of_bytes(kind: pa.DataType) -> bool:
    return kind in (pa.string(), pa.binary(), pa.large_string(), pa.large_binary())


def _lengths(array: pa.Array, present: Present) -> npt.NDArray[np.uint32]:
    """Lengths of values that lie one after the other; 0 where there is none."""
    lengths = np.diff(_offsets(array)).astype(np.uint32)
    return lengths if present is None else lengths * present


def _offsets(array: pa.Array) -> npt.NDArray[Any]:
    width = np.int32 if array.type in (pa.string(), pa.binary()) else np.int64
    if len(array) == 0:  # it may have no buffer at all
        return np.zeros(1, width)
    return np.frombuffer(array.buffers()[1], width)[array.offset : array.offset + len(array) + 1]


def _content(array: pa.Array) -> Bytes:
    """The bytes of values that lie one after the other, without what lies behind nulls."""
    if array.null_count:
        array = array.drop_null()
    offsets, content = _offsets(array), array.buffers()[2]
    return np.frombuffer(content or b"", np.uint8)[offsets[0] : offsets[-1]]


def _fixed_width(array: pa.Array, present: Present) -> Bytes:
    """The bytes of values of one width, zeros for nulls."""
    width = array.type.bit_width // 8
    start = array.offset * width
    values = np.frombuffer(array.buffers()[1] or b"", np.uint8)[start : start + len(array) * width]
    return values if present is None else (values.reshape(-1, width) * present[:, None]).ravel()
