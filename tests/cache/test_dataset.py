"""``CachedDataset``: any map-style dataset, by every backend, never stale."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from structlog.testing import capture_logs
from torch.utils.data import ConcatDataset, DataLoader, Subset

from ocrsdk import CachedDataset, CacheError, PluginError, content_identity, file_identity
from ocrsdk.cache.values import class_table, decode_value, encode_value
from tests.conftest import CLI


class Cells:
    """Squares of arrays; counts how often an item is made."""

    def __init__(self, arrays: list[np.ndarray]) -> None:
        self.arrays, self.made = arrays, 0

    def __len__(self) -> int:
        return len(self.arrays)

    def __getitem__(self, index: int) -> dict[str, Any]:
        self.made += 1
        return {"image": self.arrays[index] ** 2, "mask": torch.from_numpy(self.arrays[index] > 3), "index": index}


def cells(folder: Path, arrays: list[np.ndarray], **changes: Any) -> CachedDataset[dict[str, Any]]:
    given = {"name": "cells", "manifest": {"power": 2}, "identity": lambda i: content_identity(arrays[i]), "folder": folder}
    return CachedDataset(Cells(arrays), **{**given, **changes})


@pytest.fixture
def arrays() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 9, (16, 16)).astype(np.float32) for _ in range(6)]


def test_items_are_kept_and_equal(tmp_path: Path, arrays: list[np.ndarray]):
    data = cells(tmp_path, arrays)
    first = [data[i] for i in range(6)]
    again = cells(tmp_path, arrays)
    for i, item in enumerate(first):
        kept = again[i]
        np.testing.assert_array_equal(kept["image"], item["image"])
        assert torch.equal(kept["mask"], item["mask"])
        assert kept["index"] == i
        kept["image"][:] = 0  # one's own: it may be changed
        np.testing.assert_array_equal(again[i]["image"], item["image"])
    assert again.dataset.made == 0
    assert (again.counts().hits, again.counts().regenerated) == (12, 0)


def test_a_changed_source_is_made_again_and_explained(tmp_path: Path, arrays: list[np.ndarray]):
    data = cells(tmp_path, arrays, identity=lambda i: {"path": f"/cells/{i}", **content_identity(arrays[i])})
    list(data[i] for i in range(6))
    arrays[2] = arrays[2] + 1
    found = data.explain(2)
    assert (found.hit, found.reason) == (False, "changed since it was kept")
    assert [change.partition(":")[0] for change in found.changed] == ["source.content"]
    np.testing.assert_array_equal(data[2]["image"], arrays[2] ** 2)
    assert (data.counts().stale_source, data.dataset.made) == (1, 7)
    assert data.explain(1).hit


def prepare(array: np.ndarray) -> np.ndarray:
    return array + 1


def prepare_otherwise(array: np.ndarray) -> np.ndarray:
    return array + 2


@pytest.mark.parametrize(
    "changes", [{"manifest": {"power": 3}}, {"code": [prepare]}, {"compress": "lz4"}, {"name": "others"}], ids=" ".join
)
def test_whatever_belongs_to_the_version_makes_another(tmp_path: Path, arrays: list[np.ndarray], changes: dict[str, Any]):
    plain, other = cells(tmp_path, arrays), cells(tmp_path, arrays, **changes)
    assert plain.version != other.version
    plain[0], other[0]
    assert (plain.dataset.made, other.dataset.made) == (1, 1)


def test_code_is_its_source_text(tmp_path: Path, arrays: list[np.ndarray]):
    one, two = (cells(tmp_path, arrays, code=[f]) for f in (prepare, prepare_otherwise))
    assert one.version != two.version
    assert cells(tmp_path, arrays, code=[prepare]).version == one.version
    with pytest.raises(CacheError, match="the source of .* is not there; state a version of it in the manifest"):
        cells(tmp_path, arrays, code=[len])


def test_another_manifest_is_explained(tmp_path: Path, arrays: list[np.ndarray]):
    cells(tmp_path, arrays)[0]
    found = cells(tmp_path, arrays, manifest={"power": 3}).explain(0)
    assert found.changed == ["manifest.power: 2 -> 3"]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_loader_workers_share_it(tmp_path: Path, workers: int, method: str):
    if workers == 0 and method == "spawn":
        pytest.skip("no process to start")
    data = CachedDataset(Squares(), name="squares", manifest={}, identity=str, folder=tmp_path)
    context = method if workers else None
    for _ in range(2):
        loader = DataLoader(data, batch_size=4, num_workers=workers, multiprocessing_context=context)
        assert torch.equal(torch.cat([batch for batch in loader]), torch.arange(20) ** 2)
    assert (data.counts().new, data.counts().hits) == (20, 20)


class Squares:
    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor(index**2)


def test_it_is_a_map_style_dataset(tmp_path: Path):
    data = CachedDataset(Squares(), name="squares", manifest={}, identity=str, folder=tmp_path)
    both = ConcatDataset([Subset(data, [3, 1]), data])
    assert [int(both[i]) for i in range(4)] == [9, 1, 0, 1]
    assert sorted(int(x) for x in DataLoader(data, batch_size=None, shuffle=True)) == [i**2 for i in range(20)]


def test_a_damaged_item_is_made_again(tmp_path: Path, arrays: list[np.ndarray]):
    data = cells(tmp_path, arrays)
    data[0]
    data.backend.set(data._key(0).digest, b"\0" * 100)
    with capture_logs() as logs:
        np.testing.assert_array_equal(data[0]["image"], arrays[0] ** 2)
    assert [entry["event"] for entry in logs] == ["damaged cache entry: made again from its source"]
    assert data.counts().corrupt == 1


def test_validate_finds_what_the_manifest_leaves_out(tmp_path: Path):
    class Moody(Squares):
        mood = 0

        def __getitem__(self, index: int) -> torch.Tensor:
            return torch.tensor(index + self.mood * (index == 7))

    source = Moody()
    data = CachedDataset(source, name="moody", manifest={}, identity=str, folder=tmp_path)
    list(data[i] for i in range(20))
    assert data.validate(None).different == []
    source.mood = 1
    assert (data.validate(None).compared, data.validate(None).different) == (20, [7])


def test_the_budget_admits_no_more(tmp_path: Path):
    arrays = [np.full((100, 100), i, np.float64) for i in range(30)]
    data = CachedDataset(
        arrays, name="large", manifest={}, identity=lambda i: content_identity(arrays[i]), folder=tmp_path, budget="1MB"
    )
    for i in range(30):
        np.testing.assert_array_equal(data[i], arrays[i])
    assert data.counts().not_admitted > 0
    assert data.backend.usage().bytes <= 1.1e6


def test_status_health_and_clear_know_it_and_leave_it_alone(cli: CLI, tmp_path: Path, arrays: list[np.ndarray]):
    import json

    data = cells(tmp_path / "cache", arrays)
    for i in range(6):
        data[i]
    data.close()
    at = ("--set", f"cache.dir={tmp_path / 'cache'}")
    (version,) = json.loads(cli("cache", "status", "--json", *at).stdout)["versions"]
    assert (version["owner"], version["stale"], version["stale_because"]) == ("cells", False, [])
    (session,) = version["sessions"].values()
    assert session["new"] == 6
    assert "cells" in cli("cache", "status", *at).stdout
    assert json.loads(cli("cache", "health", "--json", *at).stdout)["checksums_checked"] == 12
    assert json.loads(cli("cache", "clear", "--stale", "-y", "--json", *at).stdout)["versions"] == []
    assert json.loads(cli("cache", "prune", "--json", *at).stdout)["versions"] == []
    assert cells(tmp_path / "cache", arrays).explain(0).hit


@pytest.mark.parametrize(
    ("changes", "error", "told"),
    [
        ({"name": "My Cells"}, CacheError, "use lower case"),
        ({"name": "ocrsdk"}, CacheError, "ocrsdk's own"),
        ({"manifest": {"a": object()}}, CacheError, "manifest: is not JSON-ready"),
        ({"backend": "dikscache"}, PluginError, "Did you mean 'diskcache'"),
        ({"types": (int,)}, TypeError, "neither a dataclass nor a named tuple"),
    ],
)
def test_what_cannot_be_is_refused_at_once(
    tmp_path: Path, arrays: list[np.ndarray], changes: dict[str, Any], error: type[Exception], told: str
):
    with pytest.raises(error, match=told):
        cells(tmp_path / "new", arrays, **changes)
    assert not (tmp_path / "new").exists()


def test_none_keeps_nothing(tmp_path: Path, arrays: list[np.ndarray]):
    data = cells(tmp_path, arrays, backend="none")
    data[0], data[0]
    assert data.dataset.made == 2


def test_a_file_is_told_by_path_size_and_time(tmp_path: Path):
    path = tmp_path / "a"
    path.write_text("1")
    before = file_identity(path)
    path.write_text("12")
    assert before["path"] == str(path)
    assert file_identity(path) != before


# ----------------------------------------------------------------------------- values


@dataclass
class Sample:
    image: np.ndarray
    name: str
    box: tuple[int, ...] = ()


class Pair(NamedTuple):
    a: Any
    b: Any


TYPES = class_table((Sample, Pair))
ARRAYS = hnp.arrays(
    st.sampled_from([np.uint8, np.int64, np.float16, np.float32, np.bool_]), hnp.array_shapes(min_dims=0, min_side=0, max_side=4)
)
TREES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats() | st.text() | st.binary(max_size=9) | ARRAYS
    | ARRAYS.map(torch.from_numpy) | ARRAYS.map(lambda a: torch.from_numpy(a).to(torch.bfloat16)),
    lambda inner: st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple)
    | st.dictionaries(st.text(), inner, max_size=3)
    | st.tuples(inner, inner).map(lambda pair: Pair(*pair)) | st.tuples(ARRAYS, st.text()).map(lambda pair: Sample(*pair, (1, 2))),
    max_leaves=6,
)  # fmt: skip


def same(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, torch.Tensor):
        bits = [x.reshape(-1).view(torch.uint8).numpy() if x.numel() else np.zeros(0) for x in (a, b)]
        return a.dtype == b.dtype and a.shape == b.shape and same(*bits)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, Sample):
        return same(vars(a), vars(b))
    return a == b or (a != a and b != b)


@settings(max_examples=200, deadline=None)
@given(TREES, st.sampled_from(["none", "lz4", "zstd"]))
def test_any_tree_comes_back_as_it_was(value: Any, codec: Any):
    encoded = encode_value(value, TYPES, codec)
    assert same(decode_value(encoded, TYPES), value)
    assert encode_value(value, TYPES, codec) == encoded


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (object(), "value: a object cannot be kept"),
        ({"a": [np.array(["x"])]}, r"value\['a'\]\[0\]: an array of <U1 cannot be kept"),
        ({1: 2}, "the key 1 is no text"),
        (Sample(np.zeros(1), "a"), r"a Sample is kept only if its class is given: types=\(Sample,\)"),
        (torch.ones(1, requires_grad=True), r"without a gradient can be kept; try .detach\(\).cpu\(\)"),
        (Path("a"), "cannot be kept"),
    ],
)
def test_what_cannot_be_kept_is_named(value: Any, told: str):
    with pytest.raises(TypeError, match=told):
        encode_value(value, {})


def test_a_class_that_was_not_given_is_never_built():
    with pytest.raises(TypeError, match=r"the value holds a Sample; give its class"):
        decode_value(encode_value(Sample(np.zeros(1), "a"), TYPES), {})


def test_several_items_of_one_file_do_not_replace_each_other(tmp_path: Path):
    path = tmp_path / "table.txt"
    path.write_text("3 1 4 1 5")

    class Rows(Cells):
        def __init__(self) -> None:
            super().__init__([np.full(3, int(word)) for word in path.read_text().split()])

    def kept() -> CachedDataset[dict[str, Any]]:
        return CachedDataset(
            Rows(), name="rows", manifest={}, identity=lambda i: {**file_identity(path), "row": i}, folder=tmp_path / "cache"
        )

    for _ in range(3):
        data = kept()
        assert [int(item["image"][0]) for item in data] == [9, 1, 16, 1, 25]
    assert data.counts().hits == 5
    path.write_text("2 7 1 8 2 8")
    changed = kept()
    assert changed.explain(1).reason == "changed since it was kept"
    assert [int(item["image"][0]) for item in changed] == [4, 49, 1, 64, 4, 64]


def test_an_index_beyond_the_dataset_is_an_error_though_an_item_was_kept(tmp_path: Path, arrays: list[np.ndarray]):
    list(cells(tmp_path, arrays))
    fewer = cells(tmp_path, arrays[:2])
    assert len(list(fewer)) == 2
    with pytest.raises(IndexError):
        fewer[2]
    assert fewer[-1]["index"] == 1


def test_fields_of_kept_classes_belong_to_the_version(tmp_path: Path):
    made = [dataclass(type("Kept", (), {"__annotations__": names, "b": 0})) for names in ({"a": int}, {"a": int, "b": int})]
    versions = set()
    for cls in made:
        data = CachedDataset([cls(1)], name="kept", manifest={}, identity=str, types=[cls], folder=tmp_path)
        assert data[0] == data[0] == cls(1)
        versions.add(data.version)
    assert len(versions) == 2


@pytest.mark.parametrize("part", [Path("a"), None, object()])
def test_a_content_identity_is_of_content_and_not_of_addresses(part: Any):
    with pytest.raises(TypeError, match="no array of numbers or texts"):
        content_identity(part)
    with pytest.raises(TypeError, match="MaskedArray"):
        encode_value(np.ma.masked_array([1, 2], [True, False]), {}, "none")
