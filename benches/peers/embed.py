#!/usr/bin/env python3
"""Vectron's embedding service beside sentence-transformers and ONNX Runtime: texts per second, on the same texts, in turns.

usage: embed.py TEXTS.txt [--rounds N] [--model FOLDER]

TEXTS.txt has one text in each line; the model's folder has config.json, tokenizer.json and model.safetensors. It needs the
packages of requirements-embed.txt beside it, and the built example:

  python3 -m venv .venv-embed && .venv-embed/bin/pip install -r benches/peers/requirements-embed.txt
  cargo build --release -p vectron-embedding --example embed
  .venv-embed/bin/python benches/peers/embed.py TEXTS.txt

Every peer embeds all texts once to warm up. Then they take turns, and what counts is the median over the rounds. README.md
says what is compared with what.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

try:
    import numpy
    import onnxruntime
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers import AutoTokenizer, BertModel
except ImportError as error:
    needs = pathlib.Path(__file__).with_name("requirements-embed.txt")
    sys.exit(f"embed.py needs its peers ({error}): pip install -r {needs}")

ROOT = pathlib.Path(__file__).resolve().parents[2]
REFERENCE = "sentence-transformers f32"
# The service lowers the priority of the threads that run models by so much; here everybody has that of the others.
NICENESS = 10
# What sentence-transformers takes if it is not told.
BATCH = 32


class SentenceTransformers:
    def __init__(self, model, threads):
        torch.set_num_threads(threads)
        self.model = SentenceTransformer(str(model), device="cpu")
        self.model.max_seq_length = 256

    def embed(self, texts):
        return self.model.encode(texts, batch_size=BATCH, normalize_embeddings=True)


class LastStates(torch.nn.Module):
    """What is exported: three arrays in, the states of the last layer out."""

    def __init__(self, bert):
        super().__init__()
        self.bert = bert

    def forward(self, input_ids, attention_mask, token_type_ids):
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
        return self.bert(**inputs).last_hidden_state


class OnnxRuntimeInt8:
    """Exported by torch, weights quantized per channel, activations dynamically: as its documentation says it for
    transformers. Texts are sorted by length, as sentence-transformers sorts them."""

    def __init__(self, model, threads, folder):
        from onnxruntime.quantization import QuantType, quantize_dynamic

        bert = BertModel.from_pretrained(model, attn_implementation="eager").eval()
        self.tokenizer = AutoTokenizer.from_pretrained(model)
        example = dict(self.tokenizer(["an example", "of two"], return_tensors="pt"))
        axes = {name: {0: "texts", 1: "tokens"} for name in [*example, "last_hidden_state"]}
        plain, quantized = folder / "f32.onnx", folder / "int8.onnx"
        torch.onnx.export(
            LastStates(bert),
            tuple(example[name] for name in ("input_ids", "attention_mask", "token_type_ids")),
            str(plain),
            input_names=["input_ids", "attention_mask", "token_type_ids"],
            output_names=["last_hidden_state"],
            dynamic_axes=axes,
            opset_version=17,
            dynamo=False,
        )
        quantize_dynamic(plain, quantized, per_channel=True, weight_type=QuantType.QInt8)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(str(quantized), options, providers=["CPUExecutionProvider"])

    def embed(self, texts):
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        vectors = numpy.empty((len(texts), 384), dtype=numpy.float32)
        for first in range(0, len(texts), BATCH):
            batch = order[first : first + BATCH]
            inputs = self.tokenizer(
                [texts[index] for index in batch], padding=True, truncation=True, max_length=256, return_tensors="np"
            )
            (states,) = self.session.run(None, dict(inputs))
            mask = inputs["attention_mask"][:, :, None].astype(numpy.float32)
            vectors[batch] = (states * mask).sum(1) / mask.sum(1)
        return vectors / numpy.linalg.norm(vectors, axis=1, keepdims=True)


class Vectron:
    """A process of its own, which waits for its turn on its standard input."""

    def __init__(self, binary, precision, texts, threads, model, out):
        self.out = out
        command = [binary, "--interactive", "--offline", "--precision", precision, "--out", out]
        command += ["--embedding-threads", str(threads), "--model-cache", model.parent, texts]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        print(f"vectron {precision}: {self.line()}")

    def line(self):
        line = self.process.stdout.readline().strip()
        return line or sys.exit("vectron ended early: what it printed says why")

    def embed(self, _):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.line()

    def vectors(self):
        self.process.stdin.close()
        if self.process.wait() != 0:
            sys.exit("vectron failed: what it printed says why")
        return numpy.fromfile(self.out, "<f4").reshape(-1, 384)

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("texts", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--model", type=pathlib.Path, default=ROOT / "model_cache" / "minilm")
    parser.add_argument("--binary", default=ROOT / "target" / "release" / "examples" / "embed")
    arguments = parser.parse_args()
    texts = arguments.texts.read_text().splitlines()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="embed-"))

    # Before this process lowers its priority: the others' is lowered by themselves.
    ours = {
        f"vectron {precision}": Vectron(
            arguments.binary,
            precision,
            arguments.texts,
            arguments.threads,
            arguments.model,
            folder / f"{precision}.f32",
        )
        for precision in ("f32", "int8")
    }
    os.nice(NICENESS)
    peers = {
        REFERENCE: SentenceTransformers(arguments.model, arguments.threads),
        "onnxruntime int8": OnnxRuntimeInt8(arguments.model, arguments.threads, folder),
        **ours,
    }

    vectors = {name: peer.embed(texts) for name, peer in peers.items()}
    seconds = {name: [] for name in peers}
    cpu_seconds = {name: [] for name in peers}
    for _ in range(arguments.rounds):
        for name, peer in peers.items():
            cpu = getattr(peer, "cpu_seconds", time.process_time)
            started, cpu_started = time.perf_counter(), cpu()
            peer.embed(texts)
            seconds[name].append(time.perf_counter() - started)
            cpu_seconds[name].append(cpu() - cpu_started)
    vectors.update({name: peer.vectors() for name, peer in ours.items()})

    reference = vectors[REFERENCE]
    rate = {name: len(texts) / statistics.median(seconds[name]) for name in peers}
    cost = {name: statistics.median(cpu_seconds[name]) / len(texts) * 1e6 for name in peers}
    print(f"{len(texts)} texts, {arguments.threads} threads, medians of {arguments.rounds} rounds in turns")
    print(f"{'':28} {'texts/s':>8} {'times':>6} {'CPU us/text':>12} {'times':>6} {'cosine mean':>12} {'least':>8}")
    for name in peers:
        cosine = (vectors[name] * reference).sum(1)
        print(
            f"{name:28} {rate[name]:8.0f} {rate[name] / rate[REFERENCE]:6.2f} {cost[name]:12.0f} "
            f"{cost[REFERENCE] / cost[name]:6.2f} {cosine.mean():12.5f} {cosine.min():8.5f}"
        )


if __name__ == "__main__":
    main()
