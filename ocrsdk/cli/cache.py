"""``ocrsdk cache``."""

from __future__ import annotations

import csv
import io
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ocrsdk.cli.common import ConfigOption, JsonOption, SetOption, load_settings, note, print_json, say, set_up_output, table
from ocrsdk.errors import SettingsError
from ocrsdk.logs import json_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocrsdk.cache.base import VersionInfo
    from ocrsdk.cache_tools.control import CacheControl
    from ocrsdk.cache_tools.reports import CacheHealth, CacheStatus, VersionStatus

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Look at, check and manage the sample cache.\n\n"
    "The settings decide which version is current: give the --run, or the --config and --set, of your training.",
)


RunOption = Annotated[
    Path | None, typer.Option("--run", metavar="RUN", help="With the settings of the run in this folder, or of the last one.")
]


def _control(config: Path | None, sets: Sequence[str] | None, run: Path | None) -> CacheControl:
    from ocrsdk.cache_tools.control import CacheControl
    from ocrsdk.runs.folder import settings_file

    set_up_output()
    if run is not None:
        if config is not None:
            raise SettingsError("--run and --config both name settings; give one of them")
        config = settings_file(run)
    return CacheControl(load_settings(config, sets)[0], _progress)


def _progress(items: object, total: int) -> object:
    """A bar on a terminal."""
    import sys

    if not sys.stderr.isatty():
        return items
    from rich.console import Console
    from rich.progress import track

    return track(items, "", total, console=Console(file=sys.stderr), transient=True)  # type: ignore[arg-type]


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _age(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"


@app.command()
def status(run: RunOption = None, config: ConfigOption = None, sets: SetOption = None, json: JsonOption = False) -> None:
    """Versions: entries, bytes, budget, age, hit rate by run, what tells them apart, and why stale ones are stale."""
    found = _control(config, sets, run).status()
    if json:
        print_json(found.as_dict())
        return
    say(f"cache of backend {found.backend} in {found.folder}; the given settings lead to version {found.version}")
    if not found.versions:
        say("NO CACHE: nothing has been kept there yet")
        return
    now = time.time()
    rows = [
        (
            v.info.version, v.info.owner or "-", _state(v), ", ".join(list(v.sessions)[:2]) or "-",
            f"{v.info.usage.entries:,}", _size(v.info.usage.bytes), _size(v.info.budget),
            _age(now - v.info.created), _age(now - v.info.used), "yes" if v.info.in_use else "no",
        )
        for v in found.versions
    ]  # fmt: skip
    say(table(rows, ("version", "of", "state", "used by", "entries", "bytes", "budget", "created", "last used", "open now")))
    for version in found.versions:
        for reason in version.stale_because:
            say(f"  {version.info.version} is stale: {reason}")
        for difference in version.differs if not version.stale else ():
            say(f"  {version.info.version} differs: {difference}")
    sessions = [
        (name, v.info.version, f"{counts.accesses:,}", f"{counts.hits:,}", _rate(counts.hit_rate), ", ".join(counts.reasons()))
        for v in found.versions for name, (counts, _) in v.sessions.items()
    ]  # fmt: skip
    if sessions:
        say()
        say(table(sessions, ("run", "version", "look-ups", "hits", "hit rate", "made again")))


def _state(version: VersionStatus) -> str:
    if version.current or version.stale:
        return "current" if version.current else "stale"
    return "other settings" if version.differs else ""


def _rate(rate: float | None) -> str:
    return "-" if rate is None else f"{100 * rate:.1f} %"


@app.command()
def health(
    run: RunOption = None,
    config: ConfigOption = None,
    sets: SetOption = None,
    fix: Annotated[bool, typer.Option("--fix", help="Repair what is the cache's own and loses no good value.")] = False,
    json: JsonOption = False,
) -> None:
    """Check folders, index, files and checksums of every version.

    Exit codes: 0 healthy, 1 degraded or no cache at all, 2 broken.
    """
    found = _control(config, sets, run).health(fix)
    if json:
        print_json(found.as_dict())
    else:
        _show_health(found)
    raise typer.Exit(found.exit_code)


def _show_health(found: CacheHealth) -> None:
    if found.state == "absent":
        say(f"NO CACHE: there is nothing to check in {found.folder} (backend {found.backend})")
        say("  to make one: ocrsdk cache warm DATA, or train")
    else:
        say(f"{found.state.upper()}: {found.folder}")
        kept = f"{found.versions} versions, {found.entries:,} entries, {_size(found.bytes)}"
        say(f"  {kept}; {found.checksums_checked:,} checksums checked")
        rate = _rate(found.counts.hit_rate)
        say(f"  current version {found.cache_version}: {found.counts.accesses:,} look-ups, hit rate {rate}")
    for finding in found.findings:
        say(f"  {finding.severity}: {finding.what}" + (" - repaired" if finding.fixed else ""))
        if finding.remedy and not finding.fixed:
            say(f"    try: {finding.remedy}")


@app.command()
def validate(
    run: RunOption = None,
    config: ConfigOption = None,
    sets: SetOption = None,
    sample: Annotated[int, typer.Option(min=1, metavar="N", help="Check so many entries, chosen at random.")] = 100,
    all_: Annotated[bool, typer.Option("--all", help="Check every entry.")] = False,
    json: JsonOption = False,
) -> None:
    """Check checksums, and make samples again from their sources to compare the bytes.

    Exit codes: 0 all equal, 2 damaged or different entries.
    """
    found = _control(config, sets, run).validate(None if all_ else sample)
    if json:
        print_json(asdict(found))
    else:
        say(
            f"{found.entries:,} entries: {found.checksums:,} checksums right, {found.compared:,} made again and compared, "
            f"{found.outdated:,} outdated (never served)"
        )
        for line in found.damaged:
            say(f"damaged: {line}")
        for line in found.different:
            say(f"different from its source: {line}")
        if found.damaged:
            say("they are made again when training next asks for them, or at: ocrsdk cache warm DATA")
        if found.different and found.identity == "path":
            say(
                "these files have changed, and neither size, times nor inode tell so. For such a disk: --set cache.identity=content"
            )
        elif found.different:
            say("try: ocrsdk cache clear --all, and report it: a version should have covered the difference")
    if found.damaged or found.different:
        raise typer.Exit(2)


@app.command()
def clear(
    run: RunOption = None,
    config: ConfigOption = None,
    sets: SetOption = None,
    version: Annotated[str | None, typer.Option(metavar="V", help="This version.")] = None,
    stale: Annotated[bool, typer.Option("--stale", help="Versions that no run will use any more.")] = False,
    all_: Annotated[bool, typer.Option("--all", help="All versions, and the indexes of data sets.")] = False,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Versions whose index is damaged or gone.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: JsonOption = False,
) -> None:
    """Remove versions. Only what is the cache's own is removed; runs that use them go on, and see misses."""
    asked = [
        *(["stale"] if stale else []),
        *(["all"] if all_ else []),
        *(["damaged"] if rebuild else []),
        *([version] if version else []),
    ]
    if len(asked) != 1:
        raise SettingsError("say what to clear: one of --version V, --stale, --all, --rebuild")
    control = _control(config, sets, run)
    _remove(control, control.removable(asked[0]), dry_run, yes, json, control.indexes() if all_ else [])


@app.command()
def prune(
    run: RunOption = None,
    config: ConfigOption = None,
    sets: SetOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed.")] = False,
    json: JsonOption = False,
) -> None:
    """Remove old versions, by cache.keep_versions and cache.max_age; never the current one or one that is open."""
    control = _control(config, sets, run)
    _remove(control, control.prunable(), dry_run, yes=True, json=json)


def _remove(
    control: CacheControl, versions: list[VersionInfo], dry_run: bool, yes: bool, json: bool, indexes: Sequence[Path] = ()
) -> None:
    for info in versions if not json else ():
        used = "; open in a live process" if info.in_use else ""
        what = f"{info.version}: {info.usage.entries:,} entries, {_size(info.usage.bytes)}{used}"
        say(f"{'would remove' if dry_run else 'remove'} {what}")
    if indexes and not json:
        say(f"{'would remove' if dry_run else 'remove'} {len(indexes)} indexes of data sets")
    if not dry_run and (versions or indexes):
        if not yes and not typer.confirm("Remove them?", err=True):
            raise typer.Exit(1)
        control.clear(versions)
        control.remove_indexes(indexes)
    if json:
        told = {"versions": [info.as_dict() for info in versions], "indexes": [str(path) for path in indexes]}
        print_json({"removed": not dry_run, **told})
    elif not versions and not indexes:
        say("nothing to remove")


@app.command()
def export(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="stats.json, .csv or .prom.")],
    run: RunOption = None,
    config: ConfigOption = None,
    sets: SetOption = None,
) -> None:
    """Write counters and sizes to a file; the ending chooses JSON, CSV or Prometheus text."""
    formats = {".json": _as_json, ".csv": _as_csv, ".prom": _as_prom}
    if output.suffix not in formats:
        raise SettingsError(f"--output {output}: the ending must be one of {', '.join(formats)}")
    text = formats[output.suffix](_control(config, sets, run).status())
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"--output {output}: cannot be written ({error.strerror})") from error
    note(f"written: {output}")


def _as_json(found: CacheStatus) -> str:
    return json_text(found.as_dict(), indent=2) + "\n"


def _as_csv(found: CacheStatus) -> str:
    from ocrsdk.cache.stats import Counts

    names = list(Counts().as_dict())
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["version", "session", *names])
    for v in found.versions:
        for session, (counts, _) in v.sessions.items():
            writer.writerow([v.info.version, session, *("" if x is None else x for x in counts.as_dict().values())])
    return out.getvalue()


def _as_prom(found: CacheStatus) -> str:
    from ocrsdk.cache.stats import Counts

    lines = ["# TYPE ocrsdk_cache_entries gauge", "# TYPE ocrsdk_cache_bytes gauge"]
    for v in found.versions:
        label = f'version="{v.info.version}",current="{str(v.current).lower()}"'
        lines += [f"ocrsdk_cache_entries{{{label}}} {v.info.usage.entries}", f"ocrsdk_cache_bytes{{{label}}} {v.info.usage.bytes}"]
    for name in asdict(Counts()):
        lines.append(f"# TYPE ocrsdk_cache_{name}_total counter")
        for v in found.versions:
            for session, (counts, _) in v.sessions.items():
                escaped = session.replace("\\", "\\\\").replace('"', '\\"')
                lines.append(f'ocrsdk_cache_{name}_total{{version="{v.info.version}",session="{escaped}"}} {getattr(counts, name)}')
    return "\n".join(lines) + "\n"


@app.command()
def explain(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="An image of a data folder.")],
    run: RunOption = None,
    config: ConfigOption = None,
    sets: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Hit or miss for one image, the parts of its key, what changed since it was kept, and the other versions that hold it."""
    found = _control(config, sets, run).explain(image)
    if json:
        print_json([asdict(e) for e in found])
        return
    for e in found:
        say(f"{e.kind}: {'hit' if e.hit else 'miss'}  key {e.key[:16]}" + (f"  ({e.reason})" if e.reason else ""))
        for change in e.changed:
            say(f"  changed  {change}")
        for version, differences in e.elsewhere.items():
            say(f"  kept in version {version}" + ("" if differences else ", in the same state"))
            for difference in differences:
                say(f"    {difference}")
        for name, value in e.parts.items():
            say(f"  {name:12} {json_text(value)}")


@app.command()
def warm(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder with train/ and val/.")],
    run: RunOption = None,
    config: ConfigOption = None,
    sets: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Make and keep everything that training on DATA would; continues where it was stopped."""
    counts = _control(config, sets, run).warm(data)
    if json:
        print_json(counts.as_dict())
        return
    say(f"{counts.writes:,} made and kept, {counts.hits:,} were there already")
    if counts.not_admitted:
        say(f"{counts.not_admitted:,} beyond the budget; raise it with --set cache.budget=20GB")
    if counts.errors or counts.write_errors:
        say(f"{counts.errors + counts.write_errors:,} failed; see the warnings above")
        raise typer.Exit(1)


@app.command()
def bench(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder with train/ and val/, or with images/ and labels/.")],
    run: RunOption = None,
    config: ConfigOption = None,
    sets: SetOption = None,
    pages: Annotated[int, typer.Option(min=1, metavar="N", help="Measure on at most so many pages.")] = 24,
    json: JsonOption = False,
) -> None:
    """Measure making against keeping, on your pages and your disk, and say whether a cache is worth it."""
    found = _control(config, sets, run).bench(data, pages)
    if json:
        print_json(found.as_dict())
        return
    say(f"medians over {found.pages} pages, in microseconds")
    say(f"decode {found.decode_us:,.0f}   shrink {found.prepare_us:,.0f}   target maps of a whole page {found.maps_us:,.0f}")
    rows = [
        (kind, c.codec, f"{c.bytes:,}", f"{c.encode_us:,.0f}", f"{c.write_us:,.0f}", f"{c.read_us:,.0f}")
        for kind, costs in (("page", found.codecs), ("maps", found.maps_codecs))
        for c in costs
    ]
    say(table(rows, ("kept", "compress", "bytes", "encode", "write", "read to arrays")))
    say(found.verdict)
