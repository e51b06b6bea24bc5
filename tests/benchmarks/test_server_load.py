import argparse
from pathlib import Path

import pytest

from benchmarks.server_load import run


@pytest.mark.slow
def test_a_small_load_loses_nothing_and_takes_little_memory(tmp_path: Path):
    arguments = argparse.Namespace(
        browsers=4, uploads=2, upload_mb=10.0, poll_s=0.3, seconds=3.0, warm_up_s=1.0, no_job=True, tls=False
    )

    found = run(tmp_path, arguments)

    assert found["errors"] == []
    assert (found["uploaded"], found["lost_uploads"]) == (2, 0)
    assert found["list_requests"] > 8
    assert found["events"] >= 8
    assert found["rss_peak_mb"] < 400
    assert found["list_p95_ms"] is not None
