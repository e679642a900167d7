//! Other shapes of the architecture, with random weights, beside a definition in plain loops.

use safetensors::tensor::{Dtype, TensorView};

use super::*;

/// Sizes of a BERT; the rest of config.json is the same for all.
struct Shape {
    hidden: usize,
    wide: usize,
    heads: usize,
    layers: usize,
}

const POSITIONS: usize = 32;
const WORDS: [&str; 9] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c", "d"];
/// bge-small has 384 / 1,536 with 12 heads, bge-base 768 / 3,072 with 12; here with fewer layers.
const SHAPES: [Shape; 3] = [
    Shape { hidden: 384, wide: 1536, heads: 12, layers: 3 },
    Shape { hidden: 768, wide: 3072, heads: 12, layers: 2 },
    Shape { hidden: 64, wide: 192, heads: 4, layers: 4 },
];

/// Named tensors with their shapes.
type Weights = Vec<(String, Vec<usize>, Vec<f32>)>;

fn noise(count: usize, seed: usize, scale: f32, middle: f32) -> Vec<f32> {
    let mut state = seed as u64 * 0x9e37_79b9_7f4a_7c15 + 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    // A sum of three is nearer to what trained weights look like than one.
    (0..count).map(|_| middle + scale * (next() + next() + next())).collect()
}

fn weights(shape: &Shape) -> Weights {
    let mut all = Weights::new();
    let mut add = |name: String, sizes: &[usize], scale: f32, middle: f32| {
        let tensor = noise(sizes.iter().product(), all.len() + 1, scale, middle);
        all.push((name, sizes.to_vec(), tensor));
    };
    let (hidden, wide) = (shape.hidden, shape.wide);
    add("embeddings.word_embeddings.weight".into(), &[WORDS.len(), hidden], 1.0, 0.0);
    add("embeddings.position_embeddings.weight".into(), &[POSITIONS, hidden], 0.3, 0.0);
    add("embeddings.token_type_embeddings.weight".into(), &[2, hidden], 0.1, 0.0);
    let mut norms = vec!["embeddings".to_owned()];
    for layer in 0..shape.layers {
        let name = |part: &str| format!("encoder.layer.{layer}.{part}");
        let linears = [
            ("attention.self.query", hidden, hidden),
            ("attention.self.key", hidden, hidden),
            ("attention.self.value", hidden, hidden),
            ("attention.output.dense", hidden, hidden),
            ("intermediate.dense", wide, hidden),
            ("output.dense", hidden, wide),
        ];
        for (part, outputs, inputs) in linears {
            add(format!("{}.weight", name(part)), &[outputs, inputs], 1.0 / (inputs as f32).sqrt(), 0.0);
            add(format!("{}.bias", name(part)), &[outputs], 0.1, 0.0);
        }
        norms.extend([name("attention.output"), name("output")]);
    }
    for name in norms {
        add(format!("{name}.LayerNorm.weight"), &[hidden], 0.1, 1.0);
        add(format!("{name}.LayerNorm.bias"), &[hidden], 0.1, 0.0);
    }
    all
}

fn load(shape: &Shape, weights: &Weights, pooling: Pooling, precision: Precision) -> Result<Encoder, LoadError> {
    let config = serde_json::json!({
        "model_type": "bert", "hidden_size": shape.hidden, "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads, "intermediate_size": shape.wide, "max_position_embeddings": POSITIONS,
        "vocab_size": WORDS.len(), "hidden_act": "gelu",
    });
    let vocabulary: serde_json::Map<_, _> =
        WORDS.iter().enumerate().map(|(id, word)| ((*word).to_owned(), id.into())).collect();
    let tokenizer = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "BertPreTokenizer"}, "decoder": null,
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocabulary},
    });
    let bytes: Vec<Vec<u8>> =
        weights.iter().map(|(_, _, tensor)| tensor.iter().flat_map(|x| x.to_le_bytes()).collect()).collect();
    let views = weights
        .iter()
        .zip(&bytes)
        .map(|((name, sizes, _), bytes)| (name.as_str(), TensorView::new(Dtype::F32, sizes.clone(), bytes).unwrap()));
    let checkpoint = Checkpoint {
        config: &serde_json::to_vec(&config).unwrap(),
        tokenizer: &serde_json::to_vec(&tokenizer).unwrap(),
        weights: &safetensors::serialize(views, None).unwrap(),
        pooling,
        tokens_max: POSITIONS,
        precision,
    };
    Encoder::load(&checkpoint)
}

/// The definition, in f64.
struct Definition<'a> {
    shape: &'a Shape,
    weights: &'a Weights,
}

impl Definition<'_> {
    fn get(&self, name: &str) -> &[f32] {
        &self.weights.iter().find(|(other, _, _)| other == name).unwrap().2
    }

    fn linear(&self, name: &str, rows: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let (weights, bias) = (self.get(&format!("{name}.weight")), self.get(&format!("{name}.bias")));
        let output = |row: &[f64], weights: &[f32], bias: f32| {
            row.iter().zip(weights).map(|(x, weight)| x * f64::from(*weight)).sum::<f64>() + f64::from(bias)
        };
        let outputs = |row: &Vec<f64>| {
            weights.chunks_exact(row.len()).zip(bias).map(|(weights, bias)| output(row, weights, *bias)).collect()
        };
        rows.iter().map(outputs).collect()
    }

    fn add_norm(&self, name: &str, rows: &mut [Vec<f64>], more: &[Vec<f64>]) {
        let (scale, shift) = (self.get(&format!("{name}.weight")), self.get(&format!("{name}.bias")));
        for (row, more) in rows.iter_mut().zip(more) {
            row.iter_mut().zip(more).for_each(|(x, more)| *x += more);
            let count = row.len() as f64;
            let mean = row.iter().sum::<f64>() / count;
            let deviation = (row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count).sqrt();
            for (x, (scale, shift)) in row.iter_mut().zip(scale.iter().zip(shift)) {
                *x = (*x - mean) / deviation * f64::from(*scale) + f64::from(*shift);
            }
        }
    }

    fn attend(&self, layer: &str, rows: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let part = |part: &str| self.linear(&format!("{layer}.attention.self.{part}"), rows);
        let (queries, keys, values) = (part("query"), part("key"), part("value"));
        let size = self.shape.hidden / self.shape.heads;
        let mut attended = vec![vec![0.0; self.shape.hidden]; rows.len()];
        for head in (0..self.shape.hidden).step_by(size) {
            for (query, attended) in queries.iter().zip(&mut attended) {
                let score = |key: &Vec<f64>| {
                    let product: f64 = (head..head + size).map(|i| query[i] * key[i]).sum();
                    (product / (size as f64).sqrt()).exp()
                };
                let scores: Vec<f64> = keys.iter().map(score).collect();
                let sum: f64 = scores.iter().sum();
                for (score, value) in scores.iter().zip(&values) {
                    (head..head + size).for_each(|i| attended[i] += score / sum * value[i]);
                }
            }
        }
        self.linear(&format!("{layer}.attention.output.dense"), &attended)
    }

    fn embed(&self, ids: &[u32], pooling: Pooling) -> Vec<f64> {
        let hidden = self.shape.hidden;
        let row = |name: &str, index: usize| -> Vec<f64> {
            let weights = self.get(&format!("embeddings.{name}_embeddings.weight"));
            weights[index * hidden..][..hidden].iter().copied().map(f64::from).collect()
        };
        let mut rows: Vec<_> = ids.iter().map(|id| row("word", *id as usize)).collect();
        let places: Vec<Vec<f64>> = (0..ids.len())
            .map(|index| row("position", index).iter().zip(row("token_type", 0)).map(|(a, b)| a + b).collect())
            .collect();
        self.add_norm("embeddings.LayerNorm", &mut rows, &places);
        for layer in 0..self.shape.layers {
            let layer = format!("encoder.layer.{layer}");
            let attended = self.attend(&layer, &rows);
            self.add_norm(&format!("{layer}.attention.output.LayerNorm"), &mut rows, &attended);
            let mut wide = self.linear(&format!("{layer}.intermediate.dense"), &rows);
            wide.iter_mut().flatten().for_each(|x| *x *= normal_distribution(*x));
            let narrow = self.linear(&format!("{layer}.output.dense"), &wide);
            self.add_norm(&format!("{layer}.output.LayerNorm"), &mut rows, &narrow);
        }
        match pooling {
            Pooling::Cls => rows.swap_remove(0),
            Pooling::Mean => {
                (0..hidden).map(|i| rows.iter().map(|row| row[i]).sum::<f64>() / rows.len() as f64).collect()
            }
        }
    }
}

/// By the power series of the integral; beyond 6 it is 0 or 1.
fn normal_distribution(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return f64::from(u8::from(x > 0.0));
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= x * x / f64::from(2 * n + 1);
        sum += term;
    }
    0.5 + sum * (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt()
}

fn cosine(a: &[f32], b: &[f64]) -> f64 {
    let (mut product, mut of_a, mut of_b) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().map(|x| f64::from(*x)).zip(b) {
        product += a * b;
        of_a += a * a;
        of_b += b * b;
    }
    product / (of_a * of_b).sqrt()
}

#[test]
fn other_shapes_are_those_of_the_definition_in_both_precisions() {
    // Lengths that divide no tile, one of a single word, one that is cut; more tokens than run together in int8.
    let (long, middling) = ("d c b a ".repeat(20), "a b ".repeat(10));
    let texts = ["a b c d", "d", "b b a c d a", &long, "no such words", &middling].repeat(2);
    for shape in &SHAPES {
        let weights = weights(shape);
        for pooling in [Pooling::Cls, Pooling::Mean] {
            for (precision, cosine_min) in [(Precision::F32, 0.999_999), (Precision::Int8, 0.999)] {
                let encoder = load(shape, &weights, pooling, precision).unwrap();
                let tokens: Vec<Tokens> = texts.iter().map(|text| encoder.tokenize(text).unwrap()).collect();
                let ids: Vec<&[u32]> = tokens.iter().map(|tokens| &*tokens.ids).collect();
                assert_eq!((ids[0], ids[3].len()), (&[2, 5, 6, 7, 8, 3][..], POSITIONS));
                let mut embeddings = Vec::new();
                encoder.embed(&ids, &mut Scratch::default(), &mut embeddings);
                assert_eq!(embeddings.len(), ids.len() * shape.hidden);
                for (text, embedding) in ids.iter().zip(embeddings.chunks_exact(shape.hidden)).take(6) {
                    let expected = Definition { shape, weights: &weights }.embed(text, pooling);
                    let cosine = cosine(embedding, &expected);
                    assert!(cosine > cosine_min, "{} wide, {pooling:?}, {precision:?}: {cosine}", shape.hidden);
                }
                let (first, second) = embeddings.split_at(embeddings.len() / 2);
                let apart = first.iter().zip(second).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(apart < 1e-4, "{precision:?}: a text is {apart} apart from itself in another group");
            }
        }
    }
}

#[test]
fn sizes_that_bytes_cannot_have_are_refused_for_int8_alone() {
    let shape = Shape { hidden: 96, wide: 192, heads: 6, layers: 1 };
    let weights = weights(&shape);
    assert!(load(&shape, &weights, Pooling::Cls, Precision::F32).is_ok());
    let error = load(&shape, &weights, Pooling::Cls, Precision::Int8).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("is `96, 192`; supported is multiples of 64 for the precision int8"), "{error}");
}

#[test]
fn memory_is_told_to_the_byte_before_a_model_is_loaded() {
    for shape in &SHAPES {
        let weights = weights(shape);
        let told: usize =
            weights.iter().map(|(name, sizes, _)| Encoder::tensor_bytes(name, sizes, Precision::Int8)).sum();
        let encoder = load(shape, &weights, Pooling::Cls, Precision::Int8).unwrap();
        // The second segment is not kept.
        assert_eq!(encoder.bert.bytes() + shape.hidden * size_of::<f32>(), told, "{} wide", shape.hidden);
    }
}

#[test]
fn layers_beyond_those_of_the_config_are_refused_by_name() {
    let shape = &SHAPES[2];
    let weights = weights(shape);
    let fewer = Shape { layers: shape.layers - 1, ..*shape };
    let error = load(&fewer, &weights, Pooling::Cls, Precision::F32).map(drop).unwrap_err().to_string();
    assert!(error.contains("has encoder.layer.3.attention.output.LayerNorm.bias"), "{error}");
    assert!(error.contains("num_hidden_layers 3"), "{error}");
}
