"""What a backup of Redis data costs: throughput, memory, and what those who use the server notice.

    python -m benchmarks.backup_pipeline --json benchmarks/results/backup_pipeline.json    # 1 and 4 GB
    python -m benchmarks.backup_pipeline --gigabytes 0.1 --rounds 1                        # a look
    python -m benchmarks.backup_pipeline --page                                            # the page

A Valkey with random, half compressible values is backed up to a real S3 server with TLS on this machine: by
Phoenix (replication stream, zstd, age, S3), by `redis-cli --rdb - | zstd | age | rclone`, and by restic.
The bound by CPU is the processor time of all that took part (server and its child, client, storage), over the
cores: no arrangement of the same work is quicker. Restores end in nothing, decrypted and proven: ours by both
digests, restic's by its blobs, the shell's by `openssl dgst` (`restoreByShellUnproven` is not).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import redis
from benchmarks.backup_page import PAGE, RESULT, page
from benchmarks.conditions import conditions, end_in_order, write
from tests import debian
from tests.integration.s3_server import ACCESS, SECRET, S3Server, s3_server

from phoenix_orch.recovery import keys
from phoenix_orch.recovery.object_store import BucketStore
from phoenix_orch.recovery.pipeline import seal, unseal
from phoenix_orch.recovery.redis_address import RedisAddress
from phoenix_orch.recovery.s3_location import S3Location
from phoenix_orch.recovery.sources.replication import replicate
from phoenix_orch.runtime.valkey_program import find_binary

BARS = {"ofCpuBound": 0.85, "residentMiB": 150.0, "p99Times": 1.5}
VALUE = 2000
"""Bytes of a value."""
LOAD_SECONDS = 8.0
ROUNDS = 3


class Nothing:
    def write(self, data: bytes, /) -> int:
        return len(data)


def child(words: list[str]) -> None:
    """One backup or restore by Phoenix, in a process of its own: its memory and that of the process in which
    age works are all it takes."""
    act, port, bucket, endpoint, ca_file, key_file = words
    location = S3Location(
        bucket, endpoint=endpoint, ca_file=Path(ca_file), access_key=ACCESS, secret_key=SECRET
    )
    store, identities = BucketStore(location), keys.read(Path(key_file))
    recipients = [keys.Recipient(one.public) for one in identities]
    resident: list[int] = []
    threading.Thread(target=remember_memory, args=(resident,), daemon=True).start()
    print("ready", flush=True)
    sys.stdin.readline()
    begun, spent = time.perf_counter(), time.process_time()
    if act == "backup":
        with replicate(RedisAddress(port=int(port))) as source, store.writer("ours") as sink:
            told = seal(source, sink, recipients)
    else:
        with store.reader("ours") as reader:
            told = unseal(reader, Nothing(), identities, None)
    seconds, helped = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = time.process_time() - spent + helped.ru_utime + helped.ru_stime
    print(told.raw_bytes, max(resident) // 2**20, seconds, used)


def remember_memory(resident: list[int]) -> None:
    """Bytes of this process and its children, twenty times a second."""
    mine = psutil.Process()
    while True:
        with contextlib.suppress(psutil.NoSuchProcess):
            resident.append(sum(one.memory_info().rss for one in [mine, *mine.children()]))
        time.sleep(0.05)


@contextlib.contextmanager
def valkey(folder: Path) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    import socket  # noqa: PLC0415

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [
        str(find_binary(None)),
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--dir",
        str(folder),
    ]
    more = ["--repl-diskless-sync-delay", "0", "--rdbcompression", "no"]
    process = subprocess.Popen([*command, *more], stdout=subprocess.DEVNULL)
    try:
        client = redis.Redis(port=port)
        for _ in range(200):
            with contextlib.suppress(redis.ConnectionError):
                client.ping()
                break
            time.sleep(0.05)
        client.close()
        yield port, process
    finally:
        process.terminate()
        process.wait()


def filled(port: int, size: int) -> None:
    client, source = redis.Redis(port=port), random.Random(1)
    words = [source.randbytes(VALUE // 2) for _ in range(50)]
    for start in range(0, size // VALUE, 1000):
        with client.pipeline(transaction=False) as pipe:
            for number in range(start, min(start + 1000, size // VALUE)):
                pipe.set(f"key:{number}", source.randbytes(VALUE // 2) + words[number % 50])
            pipe.execute()
    client.close()


def cpu(*processes: psutil.Process) -> float:
    """Seconds of these and of the children that they have waited for."""
    total = 0.0
    for process in processes:
        times = process.cpu_times()
        total += times.user + times.system + times.children_user + times.children_system
    return total


def timed(name: str, raw: int, act: Any, *servers: psutil.Process) -> dict[str, Any]:
    """Of Phoenix without the start of a process: it runs all the time."""
    before, ended, begun = cpu(*servers), os.times(), time.perf_counter()
    said = act() or {}
    wall = said.get("seconds", time.perf_counter() - begun)
    times = os.times()
    programs = times.children_user + times.children_system - ended.children_user - ended.children_system
    spent = cpu(*servers) - before + said.get("ownCpuSeconds", programs)
    found = {
        **said,
        "seconds": round(wall, 2),
        "rawMBs": round(raw / wall / 1e6, 1),
        "cpuSeconds": round(spent, 2),
        "ofCpuBound": round(spent / (os.cpu_count() or 1) / wall, 2),
    }
    print(name, found, flush=True)
    return found


def ours(act: str, port: int, bucket: str, s3: S3Server, key_file: Path) -> Callable[[], dict[str, Any]]:
    """A process that is started already; what this gives makes it act."""
    words = [act, str(port), bucket, s3.endpoint, str(s3.ca_file), str(key_file)]
    line = [sys.executable, "-m", "benchmarks.backup_pipeline", "--child", *words]
    process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"

    def acted() -> dict[str, Any]:
        said, _ = process.communicate("go\n")
        if process.returncode != 0:
            raise RuntimeError(f"{act} by Phoenix ended with {process.returncode}")
        raw, resident, seconds, spent = said.split()
        return {
            "rawBytes": int(raw),
            "residentMiB": int(resident),
            "seconds": float(seconds),
            "ownCpuSeconds": round(float(spent), 2),
        }

    return acted


def shell(line: str, env: dict[str, str]) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    subprocess.run(
        ["bash", "-euo", "pipefail", "-c", line], check=True, env={**clean, **env}, stdout=subprocess.DEVNULL
    )


def latencies(port: int, stop: threading.Event) -> list[float]:
    client, source, found = redis.Redis(port=port), random.Random(2), []
    while not stop.is_set():
        begun = time.perf_counter()
        client.set(f"key:{source.randrange(10_000)}", b"x" * VALUE)
        found.append(time.perf_counter() - begun)
        time.sleep(0.001)
    client.close()
    return found


def extra_memory(port: int, stop: threading.Event) -> int:
    """MiB at most that the server held for the backup: pages its child shares no longer, and what it keeps
    for whoever copies."""
    client, most = redis.Redis(port=port), 0
    while not stop.wait(0.1):
        told = client.info("everything")
        most = max(most, told["current_cow_peak"] + told["mem_clients_slaves"])
    client.close()
    return most // 2**20


Ready = Callable[[], Callable[[], dict[str, Any]]]
"""Starts a process; what it gives makes it act."""


def noticed(port: int, ready: Ready) -> dict[str, Any]:
    """99th percentile of a SET, in milliseconds, without a backup and during one, in turns."""
    without, during = list[float](), list[float]()
    for _ in range(ROUNDS):
        without += watched(port, lambda: time.sleep(LOAD_SECONDS))
        during += watched(port, ready())
    times = round(p99(during) / p99(without), 2)
    return {"p99WithoutMs": p99(without), "p99DuringMs": p99(during), "p99Times": times}


@contextlib.contextmanager
def replica_of(port: int, folder: Path) -> Iterator[tuple[int, psutil.Process]]:
    """It has all the data of the server at `port`."""
    with valkey(folder) as (own, server):
        client = redis.Redis(port=own)
        client.replicaof("127.0.0.1", port)
        while client.info("replication")["master_link_status"] != "up":
            time.sleep(0.1)
        client.close()
        yield own, psutil.Process(server.pid)


def watched(port: int, act: Any) -> list[float]:
    """Seconds of each SET while it acts."""
    found: list[float] = beside(lambda stop: latencies(port, stop), act)
    return found


def p99(seconds: list[float]) -> float:
    return round(sorted(seconds)[int(len(seconds) * 0.99)] * 1000, 3)


def read_and_drop(port: int) -> None:
    """What no backup by replication goes below: the server forks and sends, and nothing is made of it."""
    with replicate(RedisAddress(port=port)) as source:
        while source.read(1024 * 1024):
            pass


@contextlib.contextmanager
def elsewhere(*servers: psutil.Process) -> Iterator[None]:
    """A storage and a replica stand on other machines, as a rule: here they keep off the lower half of the
    processors. They write MiB at once, and a kernel that is built for servers lets nobody in between.
    """
    every = sorted(os.sched_getaffinity(0))
    for server in servers:
        _bind(server, every[len(every) // 2 :])
    yield
    for server in servers:
        _bind(server, every)


def _bind(process: psutil.Process, processors: list[int]) -> None:
    for thread in process.threads():
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(thread.id, processors)


def beside(watch: Any, act: Any) -> Any:
    """What `watch` has found while `act` ran."""
    stop, found = threading.Event(), []
    watcher = threading.Thread(target=lambda: found.append(watch(stop)))
    watcher.start()
    act()
    stop.set()
    watcher.join()
    return found[0]


def middle(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """The round of the median time, the quicker one of two; with the most memory that any of them took."""
    found = sorted(rounds, key=lambda one: one["seconds"])[(len(rounds) - 1) // 2]
    if "residentMiB" in found:
        found = {**found, "residentMiB": max(one["residentMiB"] for one in rounds)}
    return found


def of_size(gigabytes: float, folder: Path, rounds: int) -> dict[str, Any]:
    age, zstd = debian.program("age", "age"), debian.program("zstd", "zstd")
    rclone, restic = debian.program("rclone", "rclone"), debian.program("restic", "restic")
    cli = debian.program("redis-cli", "redis-tools")
    libraries = ":".join(sorted({str(one.parent) for one in cli.parents[1].glob("lib/*/*.so*")}))
    one, other = keys.generate(), keys.generate()
    key_file = folder / "keys"
    key_file.write_text(f"{one.secret}\n{other.secret}\n")
    for name in ("valkey", "replica", "s3", "cache"):
        (folder / name).mkdir()
    with s3_server(folder / "s3") as s3, valkey(folder / "valkey") as (port, server):
        filled(port, int(gigabytes * 1e9))
        bucket = s3.new_bucket()
        weed = next(p for p in psutil.Process().children() if p.name() == "weed")
        servers = (weed, psutil.Process(server.pid))
        env = {
            "RCLONE_CONFIG_S3_TYPE": "s3",
            "RCLONE_CONFIG_S3_PROVIDER": "Other",
            "RCLONE_CONFIG_S3_ENDPOINT": s3.endpoint,
            "RCLONE_CONFIG_S3_ACCESS_KEY_ID": ACCESS,
            "RCLONE_CONFIG_S3_SECRET_ACCESS_KEY": SECRET,
            "RCLONE_CA_CERT": str(s3.ca_file),
            "RESTIC_REPOSITORY": f"s3:{s3.endpoint}/{bucket}/restic",
            "RESTIC_PASSWORD": "benchmark",
            "RESTIC_CACHE_DIR": str(folder / "cache"),
            "AWS_ACCESS_KEY_ID": ACCESS,
            "AWS_SECRET_ACCESS_KEY": SECRET,
        }
        dump = f"LD_LIBRARY_PATH={libraries} {cli} -p {port} --rdb - 2>/dev/null"
        to = f"{rclone} --config /dev/null rcat s3:{bucket}/byhand"
        back = f"{rclone} --config /dev/null cat s3:{bucket}/byhand"
        opened = f"{back} | {age} -d -i {key_file} | {zstd} -dc"
        sealed = f"{zstd} -1 -c | {age} -r {one.public} -r {other.public}"
        certs = f"--cacert {s3.ca_file}"

        def at_once(act: str) -> dict[str, Any]:
            return ours(act, port, bucket, s3, key_file)()

        def ready(server: int = port) -> Callable[[], dict[str, Any]]:
            return ours("backup", server, bucket, s3, key_file)

        raw = at_once("backup")["rawBytes"]
        shell(f"{restic} {certs} init", env)
        acts = {
            "backup": lambda: at_once("backup"),
            "backupByShell": lambda: shell(f"{dump} | {sealed} | {to}", env),
            "backupByRestic": lambda: shell(f"{dump} | {restic} {certs} backup --stdin", env),
            "restore": lambda: at_once("restore"),
            "restoreByShell": lambda: shell(f"{opened} | openssl dgst -sha256", env),
            "restoreByShellUnproven": lambda: shell(opened, env),
            "restoreByRestic": lambda: shell(f"{restic} {certs} dump latest stdin", env),
        }
        told: dict[str, Any] = {"rawBytes": raw, "rounds": rounds}
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in acts}
        for _ in range(rounds):
            for name, act in acts.items():
                found[name].append(timed(name, raw, act, *servers))
        told |= {name: middle(ones) for name, ones in found.items()}
        with elsewhere(weed):
            told["noticed"] = {
                **noticed(port, ready),
                "p99ByShellMs": p99(watched(port, acts["backupByShell"])),
                "p99ReadAndDroppedMs": p99(watched(port, lambda: read_and_drop(port))),
            }
            go = ready()
            more = beside(lambda stop: extra_memory(port, stop), lambda: watched(port, go))
            told["noticed"]["extraMemoryMiB"] = more
            print(told["noticed"], flush=True)
        with replica_of(port, folder / "replica") as (replica, process), elsewhere(weed, process):
            told["noticedFromReplica"] = noticed(port, lambda: ready(replica))
            print(told["noticedFromReplica"], flush=True)
    return told


def misses(told: dict[str, Any]) -> list[str]:
    found = []
    for size, one in told.items():
        for act in ("backup", "restore"):
            if one[act]["residentMiB"] > BARS["residentMiB"]:
                found.append(f"{act} of {size} takes {one[act]['residentMiB']} MiB")
            if one[act]["ofCpuBound"] < BARS["ofCpuBound"]:
                found.append(f"{act} of {size} is at {one[act]['ofCpuBound']} of the bound by CPU")
            found += [
                f"{act} of {size} is slower than {rival[2:].lower()}"
                for rival in ("ByShell", "ByRestic")
                if one[act]["seconds"] > one[act + rival]["seconds"]
            ]
        for name, source in (("noticed", ""), ("noticedFromReplica", " from a replica")):
            if (times := one[name]["p99Times"]) > BARS["p99Times"]:
                found.append(f"p99 during a backup of {size}{source} is {times} times that without")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--gigabytes", type=float, nargs="*", default=[1.0, 4.0])
    parser.add_argument("--rounds", type=int, default=3, help="of which the median counts")
    parser.add_argument("--page", action="store_true", help="write the page from the JSON, measure nothing")
    parser.add_argument("--directory", type=Path, help="with room for thrice the size")
    parser.add_argument("--child", nargs=6, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(given.child)
        return 0
    if given.page:
        PAGE.write_text(page(json.loads(RESULT.read_text("utf-8"))), "utf-8")
        return 0
    end_in_order()
    result: dict[str, Any] = {"conditions": conditions(), "bars": BARS, "sizes": {}}
    for gigabytes in given.gigabytes:
        folder = Path(tempfile.mkdtemp(dir=given.directory))
        try:
            result["sizes"][f"{gigabytes:g}GB"] = of_size(gigabytes, folder, given.rounds)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    result["missed"] = misses(result["sizes"])
    print(*result["missed"] or ["every bar is kept"], sep="\n")
    if given.json:
        write(given.json, result)
    return 1 if result["missed"] else 0


if __name__ == "__main__":
    sys.exit(main())
