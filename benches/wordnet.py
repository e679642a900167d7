"""The main job at full size: every text of a data set through Upsert, then its queries through Search.

usage: wordnet.py DATA [--limit N]

DATA is a folder with wordnet_base.jsonl.gz (one JSON a line: id, text, metadata), and the reference to compare with:
wordnet_base.f16.npy and wordnet_queries.f16.npy (embeddings by the model's authors' code), wordnet_truth.i32.npy (rows
of the nearest base vectors of each query, by exact search). Prints one JSON line for each part.
"""

import argparse
import concurrent.futures
import gzip
import itertools
import json
import pathlib
import random
import sys
import tempfile
import time

import numpy

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "examples"))
from server import generate, serve  # noqa: E402

COLLECTION = "wordnet"
BATCH_TEXTS = 500
BATCHES_IN_FLIGHT = 2


def show(part, **figures):
    print(json.dumps({"part": part, **figures}), flush=True)


def unit(path):
    vectors = numpy.load(path).astype(numpy.float32)
    return vectors / numpy.linalg.norm(vectors, axis=1, keepdims=True)


def peak_mb(process):
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) // 1024


def load(store, texts):
    from vectron.v1 import record_pb2, value_pb2, vector_service_pb2

    def record(text):
        kinds = {int: "int_value", str: "string_value"}
        metadata = {name: value_pb2.Value(**{kinds[type(value)]: value}) for name, value in text["metadata"].items()}
        return record_pb2.RecordInput(id=text["id"], text=text["text"], metadata=metadata)

    def upsert(batch):
        request = vector_service_pb2.UpsertRequest(collection=COLLECTION, records=map(record, batch), create_missing=True)
        return store.Upsert(request, timeout=600).record_count

    batches = (texts[start : start + BATCH_TEXTS] for start in range(0, len(texts), BATCH_TEXTS))
    started = time.time()
    count = 0
    with concurrent.futures.ThreadPoolExecutor(BATCHES_IN_FLIGHT) as pool:
        # A few at a time, so that the whole data set does not wait in memory as requests.
        while group := list(itertools.islice(batches, 20)):
            count += sum(pool.map(upsert, group))
            print(f"\r{count} of {len(texts)}", end="", file=sys.stderr)
    print(file=sys.stderr)
    seconds = time.time() - started
    return {"texts": count, "seconds": round(seconds, 1), "texts_per_s": round(count / seconds, 1)}


def compare_embeddings(store, texts, base):
    from vectron.v1 import vector_service_pb2

    rows = random.Random(7).sample(range(len(texts)), min(1000, len(texts)))
    request = vector_service_pb2.GetRequest(collection=COLLECTION, ids=[texts[row]["id"] for row in rows])
    records = store.Get(request).records
    stored = numpy.stack([numpy.frombuffer(record.vector.f32_le, numpy.float32) for record in records])
    cosines = (stored * base[rows]).sum(1) / numpy.linalg.norm(stored, axis=1)
    return {"rows": len(rows), "cosine_least": float(cosines.min()), "cosine_mean": float(cosines.mean())}


def search(store, texts, base, queries, truth):
    from google.protobuf.field_mask_pb2 import FieldMask
    from vectron.v1 import record_pb2, search_pb2

    row_of_id = {text["id"]: row for row, text in enumerate(texts)}
    recalls, times_ms = [], []
    for query, nearest in zip(queries, truth):
        vector = record_pb2.Vector(f32_le=query.tobytes())
        mask = FieldMask(paths=["id"])
        request = search_pb2.SearchRequest(collection=COLLECTION, vector=vector, top_k=10, read_mask=mask)
        started = time.perf_counter()
        hits = store.Search(request).hits
        times_ms.append(1e3 * (time.perf_counter() - started))
        # A hit counts if its true score is within 1e-5 of the tenth: the reference is rounded to 16 bits.
        scores = base[[row_of_id[hit.record.id] for hit in hits]] @ query
        recalls.append((scores >= base[nearest[9]] @ query - 1e-5).mean())
    p50, p99 = numpy.percentile(times_ms, [50, 99])
    return {
        "queries": len(queries),
        "recall_at_10": round(float(numpy.mean(recalls)), 5),
        "p50_ms": round(float(p50), 2),
        "p99_ms": round(float(p99), 2),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("--limit", type=int, help="only the first so many texts; recall is then not measured")
    arguments = parser.parse_args()
    with gzip.open(arguments.data / "wordnet_base.jsonl.gz", "rt") as lines:
        texts = [json.loads(line) for line in itertools.islice(lines, arguments.limit)]
    base, queries = (unit(arguments.data / f"wordnet_{name}.f16.npy") for name in ("base", "queries"))
    truth = numpy.load(arguments.data / "wordnet_truth.i32.npy")

    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        generate(folder)
        import grpc
        from vectron.v1 import vector_service_pb2_grpc

        def connect(server):
            limit = [("grpc.max_receive_message_length", -1)]
            return vector_service_pb2_grpc.VectorServiceStub(grpc.insecure_channel(server.store, limit))

        with serve(folder) as server:
            show("load", **load(connect(server), texts), peak_mb=peak_mb(server.process))
            show("embeddings", **compare_embeddings(connect(server), texts, base))
            if arguments.limit is None:
                show("search", **search(connect(server), texts, base, queries, truth))
        data_bytes = sum(path.stat().st_size for path in (folder / "data").rglob("*") if path.is_file())
        with serve(folder) as server:
            ready_s = float(server.find(r"ready after ([0-9.]+) s"))
            show("restart", ready_s=ready_s, peak_mb=peak_mb(server.process), data_mb=data_bytes // 1000000)


if __name__ == "__main__":
    main()
