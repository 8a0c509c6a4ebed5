"""Fill a cache before training does."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any

from torch.utils.data import ConcatDataset

from ocrsdk.data.dataset import EvalDataset, KeptPages, KeptSamples, page_names
from ocrsdk.data.loader import Loader, LoaderWatch
from ocrsdk.data.workers import choose_workers
from ocrsdk.plugins.manager import call
from ocrsdk.runs.build import eval_transform, sample_source, train_transform
from ocrsdk.runs.cache import open_run_cache
from ocrsdk.runs.check import read_folder, verification
from ocrsdk.training.loader_errors import loader_error

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ocrsdk.cache.stats import Counts
    from ocrsdk.settings.schema import Settings


def warm(settings: Settings, data: Path, progress: Callable[[Any, int], Any]) -> Counts:
    """See ``CacheControl.warm``.

    Args:
        settings: All settings.
        data: The data folder.
        progress: Wraps the loop over pages.
    """
    cache = open_run_cache(settings, f"warm-{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}")
    found = read_folder(settings, data, verification(settings))
    source = sample_source(settings, cache)
    targets = settings.targets if settings.cache.policy == "maps" else None
    pages = KeptPages(found.train.annotations, train_transform(settings).preparation, source)
    samples = KeptSamples(EvalDataset(found.val.annotations, eval_transform(settings), source, targets))
    both: ConcatDataset[int] = ConcatDataset([pages, samples])
    call(cache.backend.prepare)
    workers = choose_workers(settings.data.workers)
    watch = LoaderWatch(workers, page_names(ConcatDataset([pages, samples.samples])))
    try:
        for _ in progress(Loader(both, watch, int, batch_size=None, num_workers=workers), len(both)):
            pass
    except Exception as error:
        shown = loader_error(error, [watch])
        if shown is None:
            raise
        raise shown from None
    finally:
        watch.kill()
    cache.backend.close()
    counts = cache.counts()
    cache.close()
    return counts
