//! `vectron-embedding compare` and ./benchmark_models.sh as their users meet them: tables, files, pictures, mistakes.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::BufReader;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use common::Served;
use common::provider::{Provider, entry, write_models};
use serde_json::Value;
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_vectron-embedding");
const KEYS: [&str; 3] = ["OPENAI_API_KEY", "COHERE_API_KEY", "HF_TOKEN"];

/// Runs `program` in `folder`, where no `.env` lies, with the weights of `cache` and no keys.
async fn run(program: &Path, folder: &Path, cache: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).env("HF_HOME", cache).env("VECTRON_OFFLINE", "1");
    command.env("VECTRON_MODEL_CACHE", cache);
    for key in KEYS {
        command.env_remove(key);
    }
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let Output { status, stdout, stderr } = output;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

async fn compare(cache: &Path, arguments: &[&str]) -> (i32, String, String) {
    let arguments = [&["compare"], arguments].concat();
    run(Path::new(BINARY), cache, cache, &arguments).await
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Width, height, and the colours of each row of pixels of a PNG of 8 bits a channel.
fn picture(path: &Path) -> (u32, u32, Vec<HashSet<[u8; 3]>>) {
    let mut reader = png::Decoder::new(BufReader::new(File::open(path).unwrap())).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    assert_eq!((info.color_type, info.bit_depth), (png::ColorType::Rgb, png::BitDepth::Eight));
    let rows = pixels.chunks(info.line_size).map(|row| row.as_chunks::<3>().0.iter().copied().collect());
    (info.width, info.height, rows.collect())
}

/// How many bands of rows have the colour of the bars: one for each model.
fn bands(rows: &[HashSet<[u8; 3]>]) -> usize {
    let has_bar: Vec<bool> = rows.iter().map(|colours| colours.contains(&[46, 111, 158])).collect();
    usize::from(has_bar[0]) + has_bar.windows(2).filter(|two| !two[0] && two[1]).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_script_compares_draws_and_writes() {
    let cache = common::cache_with_weights();
    let folder = tempfile::tempdir().unwrap();
    // The script finds its build where cargo would put it.
    let target = tempfile::tempdir().unwrap();
    fs::create_dir(target.path().join("release")).unwrap();
    symlink(BINARY, target.path().join("release/vectron-embedding")).unwrap();
    let provider = Provider::good().await;
    let entries: Vec<_> = ["one", "two"].iter().map(|id| entry(id, provider.address, "")).collect();
    let keyless = entry("keyless", provider.address, "key_env = \"NO_SUCH_KEY\"");
    let models = fs::read_to_string("models.toml").unwrap() + &entries.concat() + &keyless;
    fs::write(folder.path().join("models.toml"), models).unwrap();
    fs::write(folder.path().join("pairs.tsv"), "# mine\nplanet with rings\tSaturn\nloaf\tbread\n").unwrap();

    let script = fs::canonicalize("../benchmark_models.sh").unwrap();
    let shell = Path::new("/usr/bin/env");
    let variable = format!("CARGO_TARGET_DIR={}", target.path().display());
    let script = script.to_str().unwrap();
    let arguments = [
        &variable,
        script,
        "--registry",
        "models.toml",
        "--models",
        "minilm, two,keyless , one",
        "--pairs",
        "pairs.tsv",
        "--output",
        "results.json",
        "--plot",
        "benchmark.png",
    ];
    let (code, stdout, stderr) = run(shell, folder.path(), cache.path(), &arguments).await;
    assert_eq!(code, 0, "{stderr}");
    // No terminal, so no bar.
    let told: Vec<&str> = stderr.lines().filter(|line| !line.contains("3/4")).collect();
    for (index, (id, two)) in ["1/4 minilm", "2/4 two", "4/4 one"].into_iter().zip(told.chunks(2)).enumerate() {
        assert!(
            two[0] == format!("{id}: begun") && two[1].starts_with(&format!("{id}: done after ")),
            "{index}: {stderr}"
        );
    }
    assert!(told.len() == 6 && stderr.contains("3/4 keyless: skipped"), "{stderr}");

    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines[0], "64 texts, 8 topics; 2 pairs, 2 documents; medians of 3");
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(lines[2])[..4], ["model", "provider", "precision", "dim"]);
    let first: Vec<_> = lines[3..6].iter().map(|line| words(line)[..4].join(" ")).collect();
    assert_eq!(first, ["minilm local int8 384", "two openai - 4", "one openai - 4"]);
    // Aligned: numbers end in the same column.
    let end_of = |line: &str, word: &str| line.find(word).unwrap() + word.len();
    assert_eq!(end_of(lines[3], " 384"), end_of(lines[4], " 4"), "{stdout}");
    assert!(lines[7].starts_with("skipped keyless: ") && lines[7].contains("NO_SUCH_KEY"), "{stdout}");

    let table = json(&folder.path().join("results.json"));
    assert_eq!((&table["texts"], &table["pairs"], &table["repeats"]), (&64.into(), &2.into(), &3.into()));
    let ids: Vec<_> = table["models"].as_array().unwrap().iter().map(|row| row["model_id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["minilm", "two", "keyless", "one"]);
    assert!(table["models"][0]["contrast_score"].as_f64().unwrap() > 0.1, "{table}");
    assert_eq!(table["models"][0]["retrieval"]["recall_at_1"], 1.0, "{table}");
    assert_eq!(table["models"][2]["skipped_code"], "PROVIDER_NO_KEY");

    let (width, height, rows) = picture(&folder.path().join("benchmark.png"));
    assert!((1200..1800).contains(&width) && (280..600).contains(&height), "{width} x {height}");
    assert_eq!(bands(&rows), 3);
    assert!(rows.iter().flatten().collect::<HashSet<_>>().len() > 20, "letters have soft edges");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_elsewhere_is_asked_and_one_model_is_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let provider = Provider::good().await;
    let served = common::provider::serve(&[entry("one", provider.address, "")]).await;
    let url = format!("http://{}", served.address);
    let samples = folder.path().join("samples.tsv");
    fs::write(&samples, "a\tx\na\ty\nb\tzzzz\n").unwrap();
    let arguments =
        ["--server", &url, "--remote", "--samples", samples.to_str().unwrap(), "--plot", "p.png", "--repeats", "1"];
    let (code, stdout, stderr) = compare(folder.path(), &arguments).await;
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.starts_with("3 texts, 2 topics; medians of 1\n"), "{stdout}");
    // 1, 3, 3 alone, 3: as the request said.
    assert_eq!(provider.seen().len(), 1 + 1 + 3 + 1);
    let (_, height, rows) = picture(&folder.path().join("p.png"));
    assert_eq!(bands(&rows), 1);
    let bar: Vec<usize> = (0..rows.len()).filter(|row| rows[*row].contains(&[46, 111, 158])).collect();
    assert!(bar[0] > 70 && *bar.last().unwrap() < height as usize - 60, "it is in its panel: {bar:?}");

    let (code, _, stderr) = compare(folder.path(), &["--server", &url, "--local"]).await;
    assert_eq!((code, stderr.as_str()), (2, "error: the registry has no local models\n"));
    let (code, _, stderr) = compare(folder.path(), &["--server", &url, "--models", "x"]).await;
    assert_eq!((code, stderr.as_str()), (2, "error: --models: there is no model `x`; the models are one\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_can_be_measured_the_reasons_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--remote", "--output", "r.json", "--plot", "p.png"];
    let (code, stdout, stderr) = compare(folder.path(), &arguments).await;
    assert!(code == 1 && stderr.ends_with("\nerror: no model could be measured\n"), "{stderr}");
    for key in KEYS {
        assert!(stdout.contains(key), "{stdout}");
    }
    assert!(!stdout.contains("minilm"), "{stdout}");
    assert_eq!(json(&folder.path().join("r.json"))["models"].as_array().unwrap().len(), 3);
    assert!(!folder.path().join("p.png").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_told_before_anything_runs() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &[u8]| fs::write(folder.path().join(name), content).unwrap();
    write("no-tab.tsv", b"a\tx\n\n# remark\nno tab here\n");
    write("two-tabs.tsv", b"q\td\tmore\n");
    write("latin1.tsv", b"a\tx\nb\tcaf\xe9\n");
    write("empty.tsv", b"# nothing\n");
    write("one-topic.tsv", b"a\tx\na\ty\n");
    let line = format!("a\t{}\n", "x".repeat(1_000_000));
    write("large.tsv", line.repeat(9).as_bytes());
    write("models.toml", b"default = \"x\"\ncolour = 3\n");
    for (arguments, code, says) in [
        (&["--samples", "no-tab.tsv"][..], 2, "no-tab.tsv, line 4: expected topic<TAB>text, with one tab, got 0 tabs"),
        (
            &["--pairs", "two-tabs.tsv"],
            2,
            "two-tabs.tsv, line 1: expected query<TAB>document, with one tab, got 2 tabs",
        ),
        (&["--samples", "latin1.tsv"], 2, "latin1.tsv, line 2: expected UTF-8"),
        (&["--pairs", "empty.tsv"], 2, "empty.tsv has no lines: expected lines of query<TAB>document"),
        (&["--samples", "one-topic.tsv"], 2, "error: --samples: expected at least 2 topics, got `a` alone"),
        (&["--samples", "away.tsv"], 2, "cannot read away.tsv: No such file or directory"),
        (&["--output", "away/r.json"], 2, "cannot write away/r.json: there is no folder away"),
        (&["--output", "."], 2, "cannot write .: it is a folder"),
        (&["--plot", "p.svg"], 2, "expected the name of a PNG, such as benchmark.png"),
        (&["--plot", "benchmark"], 2, "expected the name of a PNG, such as benchmark.png"),
        (&["--models", ""], 2, "expected the ids of models, such as minilm,openai-small"),
        (&["--models", "minilm,,bge-small"], 2, "expected the ids of models"),
        (&["--models", "gpt"], 2, "error: --models: there is no model `gpt`; the models are minilm"),
        (&["--models", "minilm,minilm"], 2, "error: --models: expected each once, got `minilm` twice"),
        (&["--server", "nowhere"], 2, "error: --server: \"nowhere\" is not the URL of an embedding service"),
        (&["--server", "http://127.0.0.1:9", "--precision", "f32"], 2, "cannot be used with"),
        (
            &["--samples", "large.tsv", "--pairs", "large.tsv", "--server", "http://127.0.0.1:9"],
            2,
            "samples and pairs have 180",
        ),
        (&["--server", "http://127.0.0.1:9"], 1, "no embedding service can be reached at http://127.0.0.1:9"),
        (&["--registry", "models.toml"], 2, "line 2"),
        (&["--local", "--remote"], 2, "cannot be used with"),
        (&["--repeats", "0"], 2, "0 is not in 1..=20"),
    ] {
        let (ended, stdout, stderr) = compare(folder.path(), arguments).await;
        assert_eq!((ended, stdout.as_str()), (code, ""), "{arguments:?}: {stderr}");
        assert!(stderr.contains(says), "{arguments:?}: {stderr}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_comparison_is_told_to_come_back() {
    let folder: TempDir = tempfile::tempdir().unwrap();
    let silent = Provider::start(|_| std::future::pending()).await;
    let models = write_models(&folder, &[entry("m", silent.address, "")]);
    let options = vectron_embedding::Options { models_file: Some(models), ..common::options(folder.path()) };
    let served = Served::start_with(&options).await;
    let running =
        served.grpc().benchmark_models(vectron_embedding::pb::v1::BenchmarkModelsRequest::default()).await.unwrap();
    let (code, _, stderr) = compare(folder.path(), &["--server", &format!("http://{}", served.address)]).await;
    assert_eq!(code, 1);
    assert_eq!(stderr, "error: a comparison of models is running, and two would measure each other; try again\n");
    drop(running);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_cannot_be_written_is_shown_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let provider = Provider::good().await;
    write_models(&folder, &[entry("one", provider.address, "")]);
    let arguments = ["--registry", "models.toml", "--repeats", "1", "--output", "/dev/full"];
    let (code, stdout, stderr) = compare(folder.path(), &arguments).await;
    assert_eq!(code, 1);
    assert!(stdout.contains("\none "), "{stdout}");
    assert!(stderr.contains("\nerror: cannot write /dev/full: "), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_default_model_that_is_not_compared_is_left_alone() {
    // Without its weights: loading it would be an error in the log.
    let folder = tempfile::tempdir().unwrap();
    let provider = Provider::good().await;
    let models = fs::read_to_string("models.toml").unwrap() + &entry("one", provider.address, "");
    fs::write(folder.path().join("models.toml"), models).unwrap();
    let arguments = ["--registry", "models.toml", "--models", "one", "--repeats", "1", "--log", "info"];
    let (code, stdout, stderr) = compare(folder.path(), &arguments).await;
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("\none "), "{stdout}");
    assert!(!(stdout + &stderr).contains("minilm"), "{stderr}");
    let (code, _, stderr) = compare(folder.path(), &["--models", "minilm", "--log", "info"]).await;
    assert!(code == 1 && stderr.contains("model minilm cannot be loaded"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn precision_is_that_of_the_option() {
    let cache = common::cache_with_weights();
    for precision in ["f32", "int8"] {
        let arguments = ["--models", "minilm", "--repeats", "1", "--log", "info", "--precision", precision];
        let (code, stdout, stderr) = compare(cache.path(), &arguments).await;
        assert!(code == 0 && (stdout + &stderr).contains(&format!("ready in {precision}")), "{stderr}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_cannot_be_are_wrong_usage() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["VECTRON_EMBEDDING_THREADS=many", BINARY, "compare"];
    let (code, _, stderr) = run(Path::new("/usr/bin/env"), folder.path(), folder.path(), &arguments).await;
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("'many'") && !stderr.contains("error: error"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_script_leaves_the_settings_of_a_parent_folder() {
    let folder = tempfile::tempdir().unwrap();
    // The script finds its build where cargo would put it.
    fs::create_dir_all(folder.path().join("target/release")).unwrap();
    symlink(BINARY, folder.path().join("target/release/vectron-embedding")).unwrap();
    let (below, empty) = (folder.path().join("below"), folder.path().join("empty"));
    fs::create_dir(&below).unwrap();
    fs::write(folder.path().join(".env"), format!("VECTRON_MODEL_CACHE={}\n", empty.display())).unwrap();
    let script = fs::canonicalize("../benchmark_models.sh").unwrap();
    let target = format!("CARGO_TARGET_DIR={}", folder.path().join("target").display());
    let arguments =
        ["-u", "VECTRON_MODEL_CACHE", &target, script.to_str().unwrap(), "--models", "minilm", "--log", "error"];
    let (code, stdout, stderr) = run(Path::new("/usr/bin/env"), &below, &below, &arguments).await;
    assert_eq!(code, 1, "{stdout}{stderr}");
    assert!(format!("{stdout}{stderr}").contains(&format!("looked in {}", empty.display())), "{stdout}{stderr}");
}
