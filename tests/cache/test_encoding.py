"""Arrays come back equal, or are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ocrsdk.cache.encoding import decode_arrays, encode_arrays


@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.bool_, np.int64, np.float32, np.float64, np.dtype(">i4")]),
        hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=9),
    ),
    st.sampled_from(["none", "lz4", "zstd"]),
)
def test_arrays_come_back_equal(array: np.ndarray, codec: Any):
    found = decode_arrays(encode_arrays({"a": array, "b": np.arange(3)}, codec))
    assert found["a"].dtype == array.dtype
    np.testing.assert_array_equal(found["a"], array)
    np.testing.assert_array_equal(found["b"], np.arange(3))


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_compression_makes_even_pages_smaller(codec: Any):
    page = np.full((400, 300, 3), 255, np.uint8)
    assert len(encode_arrays({"a": page}, codec)) < 0.05 * page.nbytes


def test_cut_arrays_are_refused():
    data = encode_arrays({"a": np.arange(100)})
    for bad in (b"", data[:6], data[:40], data[:-80], b"NOPE" + data[4:]):
        with pytest.raises(ValueError, match="bytes|magic|cut|Expecting|buffer"):
            decode_arrays(bad)
