"""Augmentation of one's own, made of transforms of albumentations.

What they do to the geometry has to be a 3x3 matrix, as for everything else that is done to a view: it is found from a grid of
points that goes through them, takes part in the one warp of the page's pixels, and moves the polygons. A transform that bends the
page is refused. What they do to pixels is done to the view, after the warp.
"""

from __future__ import annotations

import json
import os
import warnings
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np

from ocrsdk.errors import SettingsError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

SETTING = "augment.transforms"
_FARTHEST = 0.5
"""Pixels that a point may lie beside where the matrix puts it."""
_TRIES = 4


class OwnTransforms:
    """Transforms in their order.

    Args:
        transforms: A table with one name and its options for each: ``[{"MotionBlur": {"p": 0.3}}]``.

    Raises:
        SettingsError: A name or an option is wrong, or albumentations is not installed.
    """

    def __init__(self, transforms: Sequence[Mapping[str, Mapping[str, Any]]]) -> None:
        albumentations = _library()
        self._steps = [_Step(albumentations, at, table) for at, table in enumerate(transforms)]

    def draw(self, side: int, rng: np.random.Generator) -> DrawnTransforms:
        """What is to be done to one view.

        Args:
            side: Of the square view in pixels.
            rng: All randomness comes from here.

        Raises:
            SettingsError: A transform fails, changes the size, or does what no matrix can do.
        """
        matrix, pixels = np.eye(3), list[tuple[_Step, int]]()
        for step in self._steps:
            seed = int(rng.integers(2**31))
            moved = None if step.is_of_pixels else step.matrix(side, seed)
            if moved is None:
                pixels.append((step, seed))
            else:
                matrix = moved @ matrix
        return DrawnTransforms(matrix, pixels)

    def check(self, side: int) -> None:
        """Try each transform on a view.

        Raises:
            SettingsError: One cannot be used.
        """
        image = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
        for step in self._steps:
            with step.always():
                for seed in range(_TRIES):
                    if step.is_of_pixels or step.matrix(side, seed) is None:
                        step.pixels(image, seed)


class DrawnTransforms(NamedTuple):
    """What is done to one view."""

    matrix: NDArray[np.float64]
    """(3, 3) of all that move points."""
    steps: Sequence[tuple[_Step, int]]
    """Those that change pixels alone, with their seeds."""

    def __call__(self, view: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB, changed."""
        for step, seed in self.steps:
            view = step.pixels(view, seed)
        return view


class _Step:
    """One transform."""

    def __init__(self, albumentations: Any, at: int, table: Mapping[str, Mapping[str, Any]]) -> None:
        self._made = _make(albumentations, at, table)
        self.name = f"{SETTING}[{at}] ({type(self._made).__name__})"
        self.is_of_pixels = isinstance(self._made, albumentations.ImageOnlyTransform)
        points = albumentations.KeypointParams(format="xy", remove_invisible=False)
        self._alone = albumentations.Compose([self._made], keypoint_params=None if self.is_of_pixels else points)

    @contextmanager
    def always(self) -> Iterator[None]:
        """Whatever its probability is."""
        before, self._made.p = self._made.p, 1.0
        try:
            yield
        finally:
            self._made.p = before

    def matrix(self, side: int, seed: int) -> NDArray[np.float64] | None:
        """Where it moves the points of a view; None if it does not."""
        grid = np.stack(np.meshgrid(*[np.linspace(0, side - 1, 4)] * 2), axis=-1).reshape(-1, 2)
        done = self._run(np.zeros((side, side, 3), np.uint8), seed, keypoints=grid)
        points = np.asarray(done["keypoints"], np.float64).reshape(-1, 2)
        if len(points) == len(grid) and np.abs(points - grid).max() < 1e-3:
            return None
        matrix = cv2.findHomography(grid, points)[0] if len(points) == len(grid) else None  # bent beyond the border, some get lost
        if matrix is None or not np.abs(cv2.perspectiveTransform(grid[None], matrix)[0] - points).max() <= _FARTHEST:
            raise SettingsError(
                f"{self.name}: bends the page, which no 3x3 matrix can describe; polygons could not follow. Leave it out"
            )
        return np.asarray(matrix, np.float64)

    def pixels(self, view: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
        """The view, changed."""
        more = {} if self.is_of_pixels else {"keypoints": np.empty((0, 2))}
        return np.ascontiguousarray(self._run(view, seed, **more)["image"])

    def _run(self, image: NDArray[np.uint8], seed: int, **more: Any) -> Any:
        self._alone.set_random_seed(seed)
        try:
            done = self._alone(image=image, **more)
        except Exception as error:  # whatever a transform raises
            size = f"{image.shape[1]} x {image.shape[0]}"
            raise SettingsError(f"{self.name}: failed on a view of {size}: {type(error).__name__}: {error}") from error
        changed = done["image"]
        if changed.shape != image.shape or changed.dtype != np.uint8:
            told = f"makes {changed.dtype} {changed.shape} of a view of uint8 {image.shape}"
            raise SettingsError(f"{self.name}: {told}; use transforms that keep both")
        return done


@lru_cache(maxsize=8)
def _from_text(text: str) -> OwnTransforms:
    return OwnTransforms(json.loads(text))


def own_transforms(transforms: Sequence[Mapping[str, Mapping[str, Any]]]) -> OwnTransforms:
    """As ``OwnTransforms``, made once for a process."""
    return _from_text(json.dumps(list(transforms)))


def _library() -> Any:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else it asks the net for a newer version of itself
    try:
        import albumentations
    except ImportError as error:
        raise SettingsError(
            f"{SETTING}: albumentations is not there ({error}). Try: pip install 'ocrsdk[albumentations]'"
        ) from error
    return albumentations


def _make(albumentations: Any, at: int, table: Mapping[str, Mapping[str, Any]]) -> Any:
    place = f"{SETTING}[{at}]"
    if len(table) != 1:
        raise SettingsError(
            f"{place}: {len(table)} names; expected one table for each transform, as in [{{MotionBlur: {{p: 0.3}}}}]"
        )
    ((name, options),) = table.items()
    kind: Any = getattr(albumentations, name, None)
    known = [other for other in dir(albumentations) if _is_transform(albumentations, getattr(albumentations, other))]
    if name not in known:
        raise SettingsError(f"{place}: albumentations has no transform {name!r}.{nearest(name, known)}")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # so it tells of options that it does not know
        try:
            return kind(**options)
        except (UserWarning, TypeError, ValueError) as error:
            raise SettingsError(f"{place}: {name}: {' '.join(str(error).split())}") from error


def _is_transform(albumentations: Any, thing: object) -> bool:
    return isinstance(thing, type) and issubclass(thing, albumentations.BasicTransform) and not thing.__name__.endswith(
        ("BasicTransform", "DualTransform", "ImageOnlyTransform", "Transform3D", "NoOp")
    )  # fmt: skip
