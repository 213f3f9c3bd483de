from __future__ import annotations

import subprocess
import sys

import pytest

COUNT_FAULTS = """
import resource, sys
import numpy as np
if sys.argv[1] == "suited":
    from cfrg.devices import suit_process_to_tensors
    suit_process_to_tensors()

def touch():
    for _ in range(8):
        np.ones(6_000_000)  # 48 MB: above the largest threshold that glibc chooses by itself

touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_freed_memory_is_used_again() -> None:
    def faults(how: str) -> int:
        command = [sys.executable, "-c", COUNT_FAULTS, how]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    as_it_comes = faults("as it comes")
    if as_it_comes < 1000:
        pytest.skip("this system's allocator keeps freed memory by itself")
    assert faults("suited") < as_it_comes / 10
