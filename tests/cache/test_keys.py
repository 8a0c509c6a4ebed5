"""A key can be made in any thread and in any fork."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cache.stores import run_script


@pytest.mark.parametrize(
    ("slow", "quick"),
    [
        ('EntryKey("a", Slow(a=1)).digest', "entry(1).digest"),
        ('EntryKey(Text("a"), {}).origin_digest', "entry(1).origin_digest"),
        ('Annotation(Path("a"), (TextInstance(Outline()),)).digest', 'Annotation(Path("a"), ()).digest'),
        ('get_logger("a").info(Text("a"))', 'get_logger("a").info("b")'),
    ],
)
def test_a_fork_inherits_no_taken_lock_from_a_thread_that_makes_a_key_or_logs(slow: str, quick: str, tmp_path: Path):
    """The thread is held inside of what it does, and the child does the same."""
    result = run_script(
        f"""
        from ocrsdk.cache import keys
        from ocrsdk.cache.keys import EntryKey
        from ocrsdk.logs import configure, get_logger
        from ocrsdk.types import Annotation, TextInstance
        parent, inside, go = os.getpid(), threading.Event(), threading.Event()
        def wait():
            if os.getpid() == parent:
                inside.set(); go.wait()
        class Slow(dict):
            def items(self):
                wait(); return super().items()
        class Text(str):
            pass
        class Outline:
            def __len__(self):
                wait(); return 0
            def astype(self, dtype):
                return self
            def tobytes(self):
                return b""
        class Stream:
            def write(self, text):
                wait()
            def flush(self):
                pass
            def isatty(self):
                return False
        find = keys.sha256
        def find_slowly(document):
            if isinstance(document.get("origin"), Text):
                wait()
            return find(document)
        keys.sha256 = find_slowly
        console, sys.stderr = sys.stderr, Stream()
        configure("info", "console"); get_logger("a").debug("set up")
        thread = threading.Thread(target=lambda: {slow}); thread.start()
        assert inside.wait(60)
        pid = os.fork()
        if pid == 0:
            {quick}
            os._exit(0)
        end = time.monotonic() + 60
        while time.monotonic() < end and not (done := os.waitpid(pid, os.WNOHANG))[0]:
            time.sleep(0.01)
        if not done[0]:
            os.kill(pid, signal.SIGKILL); os.waitpid(pid, 0)
        go.set(); thread.join()
        sys.stderr = console
        print(done[1] if done[0] else "hung")
        """
    )
    assert result.stdout == "0\n", result.stderr[-2000:]
