"""Load on ``cfrg serve``: requests a second, latencies, memory, and whether answers are right.

    python tools/bench/serve.py RUN IMAGES --requests 1000 --clients 32 --workers 2

Clients keep their connection and ask one request after the other; a 429 is asked again after what
it says. Every answer is held against ``Predictor``'s. ``--processes 2`` starts as many servers and
shares the clients between them.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.parse
from pathlib import Path

import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("images", type=Path)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--queue", type=int, default=64)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="torch's, in all")
    parser.add_argument("--kinds", type=int, default=50, help="different images")
    options = parser.parse_args()
    files = sorted(p for p in options.images.rglob("*") if p.suffix in (".jpg", ".png"))
    files = files[:: max(1, len(files) // options.kinds)][: options.kinds]
    contents = [path.read_bytes() for path in files]
    share = max(1, options.threads // options.processes // options.workers)
    expected = predict(options.run, files, share)

    servers = [start(options) for _ in range(options.processes)]
    try:
        addresses = [address for _, address in servers]
        ask_all(addresses, contents, options.clients, options.clients)  # warm
        memory = [resident(servers)]
        begun, computed = time.perf_counter(), processor_seconds(servers)
        answers = ask_all(addresses, contents, min(200, options.requests), options.clients)
        memory.append(resident(servers))
        rest = max(0, options.requests - 200)
        answers += ask_all(addresses, contents, rest, options.clients)
        seconds = time.perf_counter() - begun
        computed = processor_seconds(servers) - computed
        memory.append(resident(servers))
    finally:
        for process, _ in servers:
            process.terminate()
            process.wait(60)
    latencies = np.array([answer[2] for answer in answers])
    wrong = [
        abs(said["score"] - expected[number]["score"])
        for number, said, _, _ in answers
        if {**said, "milliseconds": 0, "id": 0} != {**expected[number], "milliseconds": 0, "id": 0}
    ]
    p50, p99 = np.percentile(latencies, (50, 99))
    print(
        f"{options.processes} process(es), {options.workers} worker(s), batch "
        f"{options.batch_size}, {share} torch thread(s) each: {len(answers)} answers, "
        f"{len(answers) / seconds:.1f} a second, p50 {1000 * p50:.0f} ms, p99 {1000 * p99:.0f} ms, "
        f"{1000 * computed / len(answers):.1f} ms of the processor each, "
        f"{sum(answer[3] for answer in answers)} × 429, memory "
        f"{' → '.join(f'{each:.0f}' for each in memory)} MB, {len(wrong)} answers differ"
        + (f" (scores by up to {max(wrong):.1e})" if wrong else "")
    )


def predict(run: str, files: list[Path], threads: int) -> list[dict[str, object]]:
    import torch

    from cfrg import Predictor

    torch.set_num_threads(threads)
    predictor = Predictor.from_pretrained(run, device="cpu", batch_size=1)
    return [prediction.to_dict() for prediction in predictor.predict(files)]


def start(options: argparse.Namespace) -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, "-m", "cfrg.cli", "serve", options.run, "--port", "0"]
    command += ["--device", "cpu", "--workers", str(options.workers)]
    command += ["--batch-size", str(options.batch_size), "--queue", str(options.queue)]
    threads = str(max(1, options.threads // options.processes))
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": threads},
    )
    assert process.stdout is not None
    return process, urllib.parse.urlsplit(process.stdout.readline().split()[0]).netloc


def ask_all(
    addresses: list[str], contents: list[bytes], requests: int, clients: int
) -> list[tuple[int, dict[str, object], float, int]]:
    """Return image, answer, seconds and refusals of every request."""
    numbers = iter(range(requests))
    turn = threading.Lock()
    answers: list[tuple[int, dict[str, object], float, int]] = []

    def ask(address: str) -> None:
        connection = http.client.HTTPConnection(address, timeout=120)
        while True:
            with turn:
                number = next(numbers, None)
            if number is None:
                return
            kind = number % len(contents)
            begun, refusals = time.perf_counter(), 0
            while True:
                headers = {"Content-Type": "image/jpeg"}
                connection.request("POST", "/predict", contents[kind], headers)
                answer = connection.getresponse()
                body = answer.read()
                if answer.status != 429:
                    break
                refusals += 1
                time.sleep(float(answer.headers["Retry-After"]))
            assert answer.status == 200, body
            seconds = time.perf_counter() - begun
            answers.append((kind, json.loads(body), seconds, refusals))

    shared = itertools.cycle(addresses)
    threads = [threading.Thread(target=ask, args=(next(shared),)) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def resident(servers: list[tuple[subprocess.Popen[str], str]]) -> float:
    """Return the memory of the servers together, in MB."""
    texts = [Path(f"/proc/{process.pid}/status").read_text() for process, _ in servers]
    return sum(int(re.search(r"VmRSS:\s+(\d+)", text)[1]) for text in texts) / 1e3  # type: ignore[index]


def processor_seconds(servers: list[tuple[subprocess.Popen[str], str]]) -> float:
    """Return the processor time that the servers have taken together."""
    texts = [Path(f"/proc/{process.pid}/stat").read_text() for process, _ in servers]
    ticks = sum(sum(map(int, text.rpartition(")")[2].split()[11:13])) for text in texts)
    return ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
