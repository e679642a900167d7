#!/usr/bin/env python3
"""Vectron's engine beside other indexes: queries per second at a recall, on the same files, in turns.

usage: peers.py BASE.npy QUERIES.npy [--truth TRUTH.npy] [--peers NAME,NAME] [--rounds N] ...

It needs the packages of requirements.txt beside it, and the built binary:

  python3 -m venv .venv && .venv/bin/pip install -r benches/peers/requirements.txt
  cargo build --release
  .venv/bin/python benches/peers/peers.py BASE.npy QUERIES.npy

Every index is built once, one after the other. Then they take turns: in each round every index answers all queries at
each of its widths, once for its recall and to warm the caches, once for the clock, one query at a time on one thread.
What counts is the median over the rounds. README.md says what is compared with what.
"""

import argparse
import contextlib
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import time

try:
    import numpy
except ImportError:
    sys.exit(f"peers.py needs numpy and the indexes: pip install -r {pathlib.Path(__file__).with_name('requirements.txt')}")

ROOT = pathlib.Path(__file__).resolve().parents[2]
WIDTHS = [10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512]
RECALLS = [0.90, 0.95, 0.98, 0.99]
REFERENCE = "hnswlib"


class Hnswlib:
    label = "hnswlib, M 16, efConstruction 200"

    def __init__(self, base, threads):
        import hnswlib

        rows, dimension = base.shape
        self.index = hnswlib.Index("ip", dimension)
        self.index.init_index(max_elements=rows, M=16, ef_construction=200)
        self.index.add_items(base, num_threads=threads)

    def search(self, queries, k, width):
        self.index.set_ef(max(width, k))
        return self.index.knn_query(queries, k, num_threads=1)[0]


class Usearch:
    def __init__(self, base, threads, dtype):
        from usearch.index import Index

        rows, dimension = base.shape
        self.index = Index(ndim=dimension, metric="cos", dtype=dtype, connectivity=16, expansion_add=200)
        self.index.add(numpy.arange(rows), base, threads=threads)

    def search(self, queries, k, width):
        self.index.expansion_search = width
        return self.index.search(queries, k, threads=1).keys


class UsearchF32(Usearch):
    label = "usearch, connectivity 16, f32"

    def __init__(self, base, threads):
        super().__init__(base, threads, "f32")


class UsearchBf16(Usearch):
    label = "usearch, connectivity 16, bf16"

    def __init__(self, base, threads):
        super().__init__(base, threads, "bf16")


class UsearchI8(Usearch):
    label = "usearch, connectivity 16, i8"

    def __init__(self, base, threads):
        super().__init__(base, threads, "i8")


class Faiss:
    label = "faiss, HNSW32 on SQ8, f32 refine"

    def __init__(self, base, threads):
        import faiss

        self.faiss = faiss
        faiss.omp_set_num_threads(threads)
        self.index = faiss.index_factory(base.shape[1], "HNSW32_SQ8,RFlat", faiss.METRIC_INNER_PRODUCT)
        self.graph = faiss.downcast_index(self.index.base_index).hnsw
        self.graph.efConstruction = 200
        self.index.train(base)
        self.index.add(base)
        self.index.k_factor = 2

    def search(self, queries, k, width):
        self.faiss.omp_set_num_threads(1)
        self.graph.efSearch = width
        return self.index.search(queries, k)[1]


class SymphonyQg:
    label = "SymphonyQG (rabitqlib), R 32"

    def __init__(self, base, threads):
        import rabitqlib

        self.index = rabitqlib.SymqgIndex(base.shape[1], 32, "ip", 0)
        self.index.build(base, 200, threads)

    def search(self, queries, k, width):
        answers = self.index.search(queries, k, width, 1)
        # Ids and distances, in the order of the version that is installed.
        return next(part for part in answers if part.dtype.kind in "iu")


PEERS = {
    "hnswlib": Hnswlib,
    "usearch-bf16": UsearchBf16,
    "usearch-f32": UsearchF32,
    "usearch-i8": UsearchI8,
    "faiss": Faiss,
    "symphonyqg": SymphonyQg,
}


class Peer:
    """An index of a library, in this process."""

    def __init__(self, kind, data, threads):
        self.label = kind.label
        self.data = data
        started = time.perf_counter()
        self.index = kind(data.base, threads)
        self.build_s = time.perf_counter() - started

    def turn(self):
        """The recall and the rate of each width."""
        points = []
        for width in WIDTHS:
            recall = self.data.recall(self.search(width))
            started = time.perf_counter()
            self.search(width)
            points.append((width, recall, len(self.data.queries) / (time.perf_counter() - started)))
        return points

    def search(self, width):
        return self.index.search(self.data.queries, self.data.k, width)


class Vectron:
    """Our engine, in a process that keeps its index and waits for its turn."""

    def __init__(self, options):
        command = [options.vectron, "bench", "ann", "--interactive", "--repeat", "1", "-k", options.k]
        command += ["--base", options.base, "--queries", options.queries, "--build-threads", options.build_threads]
        for name in ("truth", "limit_base", "reach"):
            if getattr(options, name):
                command += ["--" + name.replace("_", "-"), getattr(options, name)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen([str(word) for word in command], text=True, bufsize=1, **pipes)
        self.ready = self.read()["ready"]
        self.label = f"Vectron ({self.ready['cpu']})"
        self.build_s = self.ready["load_s"] + self.ready["build_s"]

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit("peers.py: vectron bench ann has ended; it says why above")
        return json.loads(line)

    def turn(self):
        self.process.stdin.write("\n")
        points = []
        while "at" not in (line := self.read()):
            if "reach" in line:
                points.append((line["reach"], line["recall"], line["queries_per_s"]))
        return points

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Data:
    """What is measured on, at unit length."""

    def __init__(self, options):
        self.k = options.k
        self.base = unit(options.base)[: options.limit_base]
        self.queries = unit(options.queries)
        self.truth = numpy.load(options.truth)[:, : self.k] if options.truth else self.exact()

    def exact(self):
        import faiss

        index = faiss.IndexFlatIP(self.base.shape[1])
        index.add(self.base)
        return index.search(self.queries, self.k)[1]

    def recall(self, answers):
        shares = [len(set(found) & set(true)) for found, true in zip(answers.tolist(), self.truth.tolist())]
        return statistics.fmean(shares) / self.k


def unit(path):
    vectors = numpy.load(path).astype(numpy.float32)
    return vectors / numpy.linalg.norm(vectors, axis=1, keepdims=True)


def medians(turns):
    """Of the turns of an index, the median recall and rate of each width."""
    widths = zip(*turns)
    return [(statistics.median(p[1] for p in points), statistics.median(p[2] for p in points)) for points in widths]


def rate_at(target, points):
    """The rate at a recall: its logarithm is interpolated between the points around. None where it was not reached."""
    points = sorted(points)
    for (recall, rate), (more_recall, more_rate) in reversed(list(zip(points, points[1:]))):
        if recall <= target <= more_recall and recall < more_recall:
            share = (target - recall) / (more_recall - recall)
            return math.exp(math.log(rate) * (1 - share) + math.log(more_rate) * share)
    return points[0][1] if points[0][0] >= target else None


def table(indexes, rates):
    reference = rates.get(REFERENCE, [None] * len(RECALLS))

    def cell(rate, beside):
        if rate is None:
            return "not reached"
        return f"{rate:,.0f}" + (f" ({rate / beside:.2f})" if beside else "")

    yield f"| index | build s | {' | '.join(f'{recall:.2f}'.lstrip('0') for recall in RECALLS)} |"
    yield "|---" * (len(RECALLS) + 2) + "|"
    for name, index in indexes.items():
        cells = [cell(rate, beside) for rate, beside in zip(rates[name], reference)]
        yield f"| {index.label} | {index.build_s:.1f} | {' | '.join(cells)} |"


def read_options():
    first, *rest = __doc__.split("\n\n")
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=first, epilog="\n\n".join(rest[1:]), formatter_class=raw)
    parser.add_argument("base", help="vectors to search in (.npy)")
    parser.add_argument("queries", help="vectors to search for (.npy)")
    parser.add_argument("--truth", help="rows of the nearest of each query by cosine (.npy); computed where it is not given")
    parser.add_argument("-k", type=int, default=10, help="hits of each answer (default: 10)")
    parser.add_argument("--limit-base", type=int, help="take the first rows of the base only")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each index, of which the median counts (default: 3)")
    names = ["vectron", *PEERS]
    default = "hnswlib,usearch-bf16,faiss,symphonyqg,vectron"
    parser.add_argument("--peers", default=default, help=f"of {', '.join(names)} (default: {default})")
    parser.add_argument("--build-threads", type=int, default=os.cpu_count(), help="threads that build (default: all cores)")
    parser.add_argument("--reach", help="widths of ours, as for vectron bench ann")
    parser.add_argument("--vectron", default=ROOT / "target" / "release" / "vectron", help="the binary")
    parser.add_argument("--json", metavar="FILE", help="write all measurements here")
    options = parser.parse_args()
    options.peers = options.peers.split(",")
    if unknown := [name for name in options.peers if name not in names]:
        parser.error(f"no index is called {unknown[0]}: choose of {', '.join(names)}")
    if options.truth and options.limit_base:
        parser.error("--truth is that of the whole base: leave it out with --limit-base")
    if "vectron" in options.peers and not pathlib.Path(options.vectron).exists():
        parser.error(f"there is no {options.vectron}: cargo build --release, or --vectron FILE")
    return options


def main():
    options = read_options()
    data = Data(options)
    tell = lambda message: print(message, file=sys.stderr, flush=True)
    tell(f"{len(data.base)} x {data.base.shape[1]}, {len(data.queries)} queries, recall@{data.k}")
    with contextlib.ExitStack() as stack:
        indexes = {}
        for name in options.peers:
            tell(f"building {name}")
            if name == "vectron":
                indexes[name] = stack.enter_context(contextlib.closing(Vectron(options)))
            else:
                indexes[name] = Peer(PEERS[name], data, options.build_threads)
        turns = {name: [] for name in indexes}
        for round_number in range(options.rounds):
            for name, index in indexes.items():
                tell(f"round {round_number + 1} of {options.rounds}: {name}")
                turns[name].append(index.turn())
    rates = {name: [rate_at(recall, medians(turns[name])) for recall in RECALLS] for name in indexes}
    if options.json:
        figures = {name: {"build_s": index.build_s, "turns": turns[name]} for name, index in indexes.items()}
        if "vectron" in indexes:
            figures["vectron"]["index"] = indexes["vectron"].ready
        pathlib.Path(options.json).write_text(json.dumps(figures))
    print(f"queries/s at recall@{data.k} (in brackets: to {REFERENCE}), one thread; medians of {options.rounds} rounds\n")
    print("\n".join(table(indexes, rates)))


if __name__ == "__main__":
    main()
