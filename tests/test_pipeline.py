"""The door: what ``fit`` and ``predict`` take, and how mistakes in Python are answered."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_lightning import Callback
from torch.utils.data import ConcatDataset, DataLoader, Subset

from ocrsdk import (
    DBNet,
    DetectionDataModule,
    Detector,
    EvalDataset,
    ImageError,
    Pipeline,
    RowLogger,
    Settings,
    SettingsError,
    TrainDataset,
    load_annotations,
    make_sample,
)
from ocrsdk.data.datamodule import collate
from ocrsdk.data.transforms import EvalTransform, TrainTransform
from ocrsdk.loggers.rows import read_rows
from ocrsdk.types import Annotation, Sample


def small(tmp_path: Path, **more: Any) -> Settings:
    return Settings(
        run_dir=tmp_path / "run", data={"workers": 0, "short_side": 96, "crop": 64, "batch_size": 2},
        trainer={"epochs": 1, "accelerator": "cpu", "overlays": 1}, **more,
    )  # fmt: skip


def datasets(pages: Path) -> tuple[TrainDataset, EvalDataset]:
    train, val = (load_annotations(pages / split)[0] for split in ("train", "val"))
    return TrainDataset(train, TrainTransform(64, page=EvalTransform(96))), EvalDataset(val, EvalTransform(96))


# ----------------------------------------------------------------------------------- fit


class Seen(Callback):
    def __init__(self) -> None:
        self.steps, self.names = 0, list[str]()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.steps += 1
        self.names += [sample.annotation.image.name for sample in batch.samples]


class Rows(RowLogger):
    def __init__(self) -> None:
        super().__init__("mine")
        self.rows: list[dict[str, Any]] = []

    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        self.rows.append(metrics)


@pytest.mark.slow
def test_datasets_callbacks_and_loggers_of_ones_own(tmp_path: Path, synth_pages: Path):
    train, val = datasets(synth_pages)
    seen, rows = Seen(), Rows()
    pipeline = Pipeline(small(tmp_path))
    both = ConcatDataset([Subset(train, [0, 1]), Subset(train, [2, 3, 4])])
    result = pipeline.fit((both, val), callbacks=[seen], loggers=[rows])
    assert (result.steps, seen.steps) == (3, 3)
    assert sorted(seen.names) == sorted(a.image.name for a in train.annotations[:5])
    assert [r["row"] for r in rows.rows] == [r["row"] for r in read_rows(tmp_path / "run" / "metrics.jsonl")]
    assert len(pipeline.predict(val.annotations[0].image)) == 1
    with pytest.raises(Exception, match="are not those that it was started with"):
        Pipeline(small(tmp_path)).fit((train, val), resume=tmp_path / "run")


@pytest.mark.slow
def test_a_data_module_and_the_same_data_as_a_folder_train_alike(tmp_path: Path, synth_pages: Path):
    train, val = datasets(synth_pages)
    module = DetectionDataModule(train, val, batch_size=2)
    one = Pipeline(small(tmp_path / "a")).fit(module)
    two = Pipeline(small(tmp_path / "b")).fit(synth_pages)
    state = [torch.load(r.last_checkpoint, weights_only=True)["state_dict"] for r in (one, two)]
    assert all(torch.equal(value, state[1][name]) for name, value in state[0].items())


@pytest.mark.slow
def test_any_dataset_of_samples_will_do(tmp_path: Path):
    class Blocks(torch.utils.data.Dataset[Sample]):
        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> Sample:
            image = np.full((64, 64, 3), 220, np.uint8)
            image[20:40, 10 : 40 + index] = 20
            polygon = np.array([[10, 20], [40 + index, 20], [40 + index, 40], [10, 40]], np.float32)
            return make_sample(image, [polygon], name=f"block {index}")

    result = Pipeline(small(tmp_path)).fit((Blocks(), Blocks()))
    assert (result.steps, result.status) == (2, "finished")
    plan = Pipeline(small(tmp_path / "b")).plan((Blocks(), Blocks()))
    assert (plan.train_pages, plan.train_regions) == (4, None)


def test_a_dataset_is_a_map_style_dataset(synth_pages: Path):
    train, val = datasets(synth_pages)
    assert train[0].image.shape == (64, 64, 3)
    torch.manual_seed(3)
    first = train[0].image
    assert not np.array_equal(first, train[0].image)  # another view each time
    torch.manual_seed(3)
    np.testing.assert_array_equal(first, train[0].image)
    (batch, *_) = DataLoader(train, batch_size=4, shuffle=True, collate_fn=collate)
    assert batch.image.shape == (4, 3, 64, 64)
    assert batch.targets.prob_map.shape == (4, 1, 64, 64)
    assert len(ConcatDataset([Subset(val, [0]), val])) == 3


@pytest.mark.parametrize(
    ("data", "told"),
    [(7, "a int cannot be trained on"), ((1, 2, 3), "a tuple cannot be trained on"), ({"a": 1}, "a dict cannot be trained on")],
)
def test_other_data_are_refused(tmp_path: Path, data: Any, told: str):
    with pytest.raises(TypeError, match=told):
        Pipeline(small(tmp_path)).fit(data)


# ------------------------------------------------------------------------------- predict


@pytest.fixture(scope="module")
def detector() -> Detector:
    from ocrsdk.models.checkpoint import LoadedCheckpoint

    torch.manual_seed(0)
    return Detector(LoadedCheckpoint(Path("x"), DBNet().eval(), {"short_side": 96}, {}, {}, 0, 0))


@pytest.fixture(scope="module")
def pipeline(detector: Detector) -> Pipeline:
    made = Pipeline()
    made._detector = detector
    return made


def test_an_image_is_the_same_wherever_it_comes_from(pipeline: Pipeline, synth_pages: Path, detector: Detector):
    path = synth_pages / "val" / "images" / "0000.png"
    pixels, picture = np.asarray(Image.open(path)), Image.open(path)
    wanted, _ = detector.probability_map(pixels)
    seen: list[np.ndarray] = []
    original = detector.detect
    detector.detect = lambda image: (seen.append(image), original(image))[1]  # type: ignore[method-assign]
    try:
        pages = pipeline.predict([path, str(path), path.read_bytes(), io.BytesIO(path.read_bytes()), pixels, picture])
        with path.open("rb") as file:
            pages += pipeline.predict(file)
    finally:
        detector.detect = original  # type: ignore[method-assign]
    assert len(pages) == 7
    for image in seen:
        np.testing.assert_array_equal(image, pixels)
    assert [str(page.image) for page in pages[:6]] == [str(path), str(path), "image 2", "image 3", "image 4", str(path)]
    assert {page.size for page in pages} == {pixels.shape[:2]}
    assert wanted.shape[0] % 32 == 0


def test_one_or_many_or_a_folder(pipeline: Pipeline, synth_pages: Path):
    folder = synth_pages / "val" / "images"
    assert [page.image.name for page in pipeline.predict(folder)] == ["0000.png", "0001.png"]
    assert len(pipeline.predict([folder, folder / "0000.png"])) == 3
    grey = np.full((40, 60), 200, np.uint8)
    assert pipeline.predict(grey)[0].size == (40, 60)
    assert [page.size for page in pipeline.predict(np.zeros((2, 40, 60, 3), np.uint8))] == [(40, 60)] * 2


@pytest.mark.parametrize(
    ("images", "told"),
    [
        (np.zeros((4, 4, 3), np.float32), r"image: an array of float32 \(4, 4, 3\); expected uint8"),
        (np.zeros((4, 4, 4), np.uint8), r"an array of uint8 \(4, 4, 4\)"),
        ([7], "image 0: a int is no image; give paths, folders, bytes"),
        (7, "a int is no image"),
        (b"nothing", "image: not an image that can be read"),
        (b"", "image: the file is empty"),
    ],
)
def test_what_is_no_image_is_named(pipeline: Pipeline, images: Any, told: str):
    with pytest.raises(ImageError, match=told):
        pipeline.predict(images)


# ----------------------------------------------------------------- mistakes in Python's terms


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Settings(trainer={"epochs": 0}), r"^Settings\(trainer.epochs=0\): input should be greater than or equal to 1"),
        (lambda: Settings(tariner={}), r"^Settings\(tariner=\{\}\): there is no such parameter. Did you mean 'trainer'"),
        (lambda: Settings(model={"backbone": "resnet81"}), "Did you mean 'resnet18'"),
        (lambda: Settings(data={"image_sise": 3}), "there is no such parameter.* There are: root, train, val, format"),
        (lambda: DBNet("resnet81"), r"^DBNet\(backbone='resnet81'\): there are mobilenet, .*Did you mean 'resnet18'"),
        (lambda: Pipeline().precision.check(margin=12), "^margin=12: expected more than 0 and at most 10$"),
        (lambda: Pipeline().precision.check(epochs=0), "^epochs=0: expected 1 or more$"),
    ],
)
def test_a_wrong_value_is_answered_with_parameter_allowed_values_and_nearest_name(make: Any, told: str):
    with pytest.raises(SettingsError, match=told):
        make()


def test_from_checkpoint_takes_a_device(tmp_path: Path):
    from ocrsdk.models.checkpoint import make_metadata
    from ocrsdk.training.checkpoint import AtomicCheckpointIO

    model = DBNet()
    content = {f"model.{k}": v for k, v in model.state_dict().items()}
    metadata = make_metadata(model, {"short_side": 96, "max_side": 2560}, {}, {}, "fp32")
    AtomicCheckpointIO().save_checkpoint({"state_dict": content, "ocrsdk": metadata}, tmp_path / "a.ckpt")
    made = Pipeline.from_checkpoint(tmp_path / "a.ckpt", device="cpu")
    assert made.predict(np.zeros((40, 60, 3), np.uint8))[0].size == (40, 60)
    with pytest.raises(SettingsError, match="no device 'gpu'"):
        Pipeline.from_checkpoint(tmp_path / "a.ckpt", device="gpu")


def test_annotations_are_evaluated_without_a_folder(pipeline: Pipeline, synth_pages: Path):
    annotations, _ = load_annotations(synth_pages / "val")
    assert pipeline.evaluate(annotations[:1]).score.images == 1
    assert isinstance(annotations[0], Annotation)
