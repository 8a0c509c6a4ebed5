"""Nested values of arrays to bytes and back, without pickle: what ``CachedDataset`` keeps.

A value is a tree of numbers, texts, None, NumPy arrays, torch tensors, lists, tuples, named tuples, dicts with text keys and
dataclasses. Its shape is kept as JSON, its arrays beside it (``encoding.py``). Classes are never looked up by a name that was read:
a dataclass or named tuple is built only if its class was given.
"""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ocrsdk.cache.encoding import decode_arrays, encode_arrays

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from ocrsdk.settings.sections import Codec

_TREE = "tree"


def class_table(types: Sequence[type]) -> dict[str, type]:
    """Name -> class, of the dataclasses and named tuples that values may hold.

    Raises:
        TypeError: One is neither, or two have one name.
    """
    table: dict[str, type] = {}
    for cls in types:
        if not (isinstance(cls, type) and (is_dataclass(cls) or _is_named_tuple(cls))):
            raise TypeError(f"types: {cls!r} is neither a dataclass nor a named tuple")
        if table.setdefault(cls.__qualname__, cls) is not cls:
            raise TypeError(f"types: two classes are called {cls.__qualname__}")
    return table


def encode_value(value: object, types: Mapping[str, type], codec: Codec = "none") -> bytes:
    """Bytes that ``decode_value`` turns back into an equal value.

    Args:
        value: See the module.
        types: From ``class_table``.
        codec: Compression of arrays that it makes smaller.

    Raises:
        TypeError: Something in it cannot be kept; the message says where it is.
    """
    arrays: dict[str, NDArray[Any]] = {}
    tree = _encode(value, "value", types, arrays)
    text = json.dumps(tree, separators=(",", ":"), allow_nan=True).encode("utf-8", "surrogatepass")
    return encode_arrays({_TREE: np.frombuffer(text, np.uint8), **arrays}, codec)


def decode_value(data: bytes | memoryview, types: Mapping[str, type]) -> object:
    """The value, in memory of its own: it may be changed.

    Raises:
        ValueError: The bytes are not what ``encode_value`` gives.
        TypeError: It holds a dataclass or named tuple that is not among ``types``.
    """
    arrays = decode_arrays(data)
    return _decode(json.loads(arrays.pop(_TREE).tobytes().decode("utf-8", "surrogatepass")), types, arrays)


def _encode(value: Any, place: str, types: Mapping[str, type], arrays: dict[str, NDArray[np.generic]]) -> object:
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        return {"scalar": _keep(np.asarray(value), place, arrays)}
    if isinstance(value, np.ndarray) and not isinstance(value, np.ma.MaskedArray):
        return {"array": _keep(value, place, arrays)}
    if type(value) is bytes:
        return {"bytes": _keep(np.frombuffer(value, np.uint8), place, arrays)}
    if type(value) is dict:
        for key in value:
            if type(key) is not str:
                raise TypeError(f"{place}: the key {key!r} is no text; a kept dict has text keys")
        return {"dict": {key: _encode(item, f"{place}[{key!r}]", types, arrays) for key, item in value.items()}}
    if type(value) in (list, tuple):
        items = [_encode(item, f"{place}[{i}]", types, arrays) for i, item in enumerate(value)]
        return {"list" if type(value) is list else "tuple": items}
    if is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in fields(value) if field.init]
        return {
            "class": _known(type(value), place, types),
            "fields": {name: _encode(getattr(value, name), f"{place}.{name}", types, arrays) for name in names},
        }
    if _is_named_tuple(type(value)):
        return {
            "class": _known(type(value), place, types),
            "fields": {name: _encode(getattr(value, name), f"{place}.{name}", types, arrays) for name in value._fields},
        }
    if _is_tensor(value):
        return _encode_tensor(value, place, arrays)
    raise TypeError(
        f"{place}: a {type(value).__name__} cannot be kept; arrays, tensors, numbers, texts, None, and dicts, lists, tuples and "
        "dataclasses of them can"
    )


def _keep(array: NDArray[np.generic], place: str, arrays: dict[str, NDArray[np.generic]]) -> str:
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{place}: an array of {array.dtype} cannot be kept; booleans, integers and floats can")
    name = str(len(arrays))
    arrays[name] = array
    return name


def _encode_tensor(value: Any, place: str, arrays: dict[str, NDArray[np.generic]]) -> dict[str, object]:
    import torch

    if value.device.type != "cpu" or value.layout is not torch.strided or value.requires_grad or value.is_complex():
        raise TypeError(f"{place}: only dense, real tensors on the CPU without a gradient can be kept; try .detach().cpu()")
    dtype = str(value.dtype).removeprefix("torch.")
    if not value.numel():
        body = torch.empty(0, dtype=torch.uint8)
    elif hasattr(np, dtype):
        body = value.contiguous()
    else:  # bfloat16 and others that NumPy does not know
        body = value.reshape(-1).view(torch.uint8)
    return {"tensor": _keep(body.numpy(), place, arrays), "dtype": dtype, "shape": list(value.shape)}


def _known(cls: type, place: str, types: Mapping[str, type]) -> str:
    if types.get(cls.__qualname__) is not cls:
        raise TypeError(f"{place}: a {cls.__name__} is kept only if its class is given: types=({cls.__name__},)")
    return cls.__qualname__


def _decode(node: object, types: Mapping[str, type], arrays: Mapping[str, NDArray[np.generic]]) -> object:
    if not isinstance(node, dict):
        return node
    if "array" in node:
        return arrays[node["array"]].copy()
    if "scalar" in node:
        return arrays[node["scalar"]][()].copy()
    if "bytes" in node:
        return arrays[node["bytes"]].tobytes()
    if "dict" in node:
        return {key: _decode(item, types, arrays) for key, item in node["dict"].items()}
    if "list" in node:
        return [_decode(item, types, arrays) for item in node["list"]]
    if "tuple" in node:
        return tuple(_decode(item, types, arrays) for item in node["tuple"])
    if "tensor" in node:
        import torch

        dtype, flat = getattr(torch, node["dtype"]), torch.from_numpy(arrays[node["tensor"]].copy()).reshape(-1)
        return (flat.view(dtype) if flat.numel() else torch.empty(0, dtype=dtype)).reshape(node["shape"])
    if (cls := types.get(node["class"])) is None:
        raise TypeError(f"the value holds a {node['class']}; give its class: types=({node['class']},)")
    return cls(**{name: _decode(item, types, arrays) for name, item in node["fields"].items()})


def _is_named_tuple(cls: type) -> bool:
    return issubclass(cls, tuple) and hasattr(cls, "_fields")


def _is_tensor(value: object) -> bool:
    import sys

    torch = sys.modules.get("torch")
    return torch is not None and type(value) in (torch.Tensor, torch.nn.Parameter)
