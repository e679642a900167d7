"""OpenAI's own Python client, pointed at Vectron's embedding service: what was written for it needs a base URL, and no key.

usage: openai_client.py [host:port]     (default: localhost:8000)
"""

import sys

import openai

TEXTS = ["The moon's gravity pulls the oceans and makes the tides.", "Knead the dough and let it rise overnight."]


def cosine(a, b):
    # Embeddings of the default model have unit length.
    return sum(x * y for x, y in zip(a, b))


def main():
    address = sys.argv[1] if len(sys.argv) > 1 else "localhost:8000"
    client = openai.OpenAI(base_url=f"http://{address}/v1", api_key="not needed", timeout=60)
    print("models:", ", ".join(sorted(model.id for model in client.models.list())))

    # The client asks for base64, and unpacks it; with encoding_format="float" the numbers come as JSON.
    answer = client.embeddings.create(model="minilm", input=TEXTS)
    packed = [item.embedding for item in answer.data]
    plain = client.embeddings.create(model="minilm", input=TEXTS, encoding_format="float")
    differ = max(abs(x - y) for item, other in zip(plain.data, packed) for x, y in zip(item.embedding, other))
    print(len(packed), "embeddings of", len(packed[0]), "numbers, the same either way:", differ < 1e-6)
    print("tokens:", answer.usage.prompt_tokens, "of", answer.model)

    # `input_type` is not OpenAI's: some models embed queries and documents differently.
    query = client.embeddings.create(
        model="minilm", input="why does the sea rise and fall", dimensions=384, extra_body={"input_type": "query"}
    )
    scores = [cosine(query.data[0].embedding, embedding) for embedding in packed]
    print("nearest:", TEXTS[scores.index(max(scores))])

    for wrong in ({"model": "gpt"}, {"input": [1, 2, 3]}, {"dimensions": 7}):
        try:
            client.embeddings.create(**{"model": "minilm", "input": "x", **wrong})
        except openai.APIStatusError as error:
            print(type(error).__name__, error.code, error.param)


if __name__ == "__main__":
    main()
