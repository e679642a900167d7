//! Keeps the import table of the design: who may know whom.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::fs;
use std::path::{Path, PathBuf};

/// What is kept of a crate.
struct Crate {
    /// The folder of its sources.
    src: &'static str,
    /// The layers, lowest first. A module may import its own layer's modules only where `same_layer` says so.
    layers: &'static [(&'static str, u8)],
    /// Imports within a layer that are meant.
    same_layer: &'static [(&'static str, &'static str)],
    /// The only places for `unsafe`.
    unsafe_in: &'static [&'static str],
}

const STORE: Crate = Crate {
    src: "src/",
    layers: &[
        ("pb", 0),
        ("types", 0),
        ("distance", 1),
        ("quantization", 1),
        ("filter", 1),
        ("index", 2),
        ("storage", 2),
        ("collection", 3),
        ("database", 4),
        ("embedding", 4),
        ("api", 5),
        ("cli", 6),
        ("config", 6),
        ("telemetry", 6),
        ("server", 6),
    ],
    same_layer: &[("cli", "config"), ("server", "config")],
    unsafe_in: &["src/distance/", "src/quantization/", "src/index/graph/", "src/storage/map"],
};
/// As `embedding_service/src/lib.rs` lists them.
const EMBEDDING_SERVICE: Crate = Crate {
    src: "embedding_service/src/",
    layers: &[
        ("pb", 0),
        ("locality", 0),
        ("told", 0),
        ("part", 0),
        ("port", 1),
        ("telemetry", 1),
        ("shutdown", 1),
        ("command_line", 1),
        ("figures", 2),
        ("encoder", 3),
        ("model", 4),
        ("batch", 5),
        ("provider", 6),
        ("catalogue", 7),
        ("engine", 7),
        ("compare", 8),
        ("auth", 8),
        ("cache", 8),
        ("api", 9),
        ("service", 10),
        ("remote", 10),
        ("cli", 11),
    ],
    same_layer: &[],
    unsafe_in: &["embedding_service/src/encoder/int8/x86.rs"],
};
const CRATES: [Crate; 2] = [STORE, EMBEDDING_SERVICE];
/// Who may use the generated messages of which package.
const PB: [(&str, &[&str]); 2] = [
    ("pb::v1", &["src/api/", "src/cli/"]),
    (
        "pb::storage",
        &[
            "src/collection/disk/",
            "src/collection/op.rs",
            "src/collection/tests.rs",
            "src/database/catalogue.rs",
            "src/database/snapshots/info.rs",
        ],
    ),
];
/// Crates of the edge, which the engine must not know.
const EDGE_CRATES: [(&str, &[&str]); 4] = [
    ("tonic", &["src/api/", "src/cli/", "src/embedding/", "src/server.rs", "src/pb.rs"]),
    ("axum", &["src/api/", "src/server.rs"]),
    ("clap", &["src/main.rs", "src/cli/", "src/config.rs"]),
    ("vectron_embedding", &["src/api/", "src/embedding/", "src/main.rs", "src/cli/", "src/config.rs", "src/server.rs"]),
];

struct Source {
    path: String,
    text: String,
}

fn sources(of: &Crate) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    collect(&root.join(of.src), &mut files);
    assert!(files.len() > 20, "the sources were found");
    files
        .into_iter()
        .map(|file| Source {
            path: file.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/"),
            text: fs::read_to_string(&file).unwrap(),
        })
        .collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

impl Source {
    /// The module of `of` that the file belongs to.
    fn module(&self, of: &Crate) -> &str {
        let inner = self.path.strip_prefix(of.src).unwrap();
        inner.split(['/', '.']).next().unwrap()
    }

    fn is_in(&self, places: &[&str]) -> bool {
        places.iter().any(|place| self.path.starts_with(place))
    }

    /// Lines of code, with their numbers.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(number, line)| (number + 1, line.trim()));
        lines.filter(|(_, line)| !line.starts_with("//"))
    }
}

/// The first-level modules that a line of code names through `crate::`.
fn imported(line: &str) -> Vec<&str> {
    line.match_indices("crate::")
        .filter(|(at, _)| !line[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
        .filter_map(|(at, found)| line[at + found.len()..].split(|c: char| !c.is_alphanumeric() && c != '_').next())
        .filter(|name| !name.is_empty())
        .collect()
}

impl Crate {
    fn layer(&self, module: &str) -> Option<u8> {
        self.layers.iter().find(|(name, _)| *name == module).map(|(_, layer)| *layer)
    }
}

#[test]
fn imports_point_down_only() {
    let wrong: Vec<_> = CRATES.iter().flat_map(upward_imports).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn upward_imports(of: &Crate) -> Vec<String> {
    let mut wrong = Vec::new();
    for source in sources(of) {
        let module = source.module(of);
        if matches!(module, "lib" | "main") {
            continue;
        }
        let Some(own) = of.layer(module) else { panic!("{} is in no layer: add it to the table", source.path) };
        for (number, line) in source.code() {
            for other in imported(line) {
                let Some(theirs) = of.layer(other) else { panic!("{}:{number}: {other} is in no layer", source.path) };
                let is_meant = of.same_layer.contains(&(module, other));
                if other != module && theirs >= own && !is_meant && other != "pb" {
                    wrong.push(format!(
                        "{}:{number}: {module} (layer {own}) knows {other} (layer {theirs})",
                        source.path
                    ));
                }
            }
        }
    }
    wrong
}

#[test]
fn generated_messages_stay_at_the_edge_and_in_the_log() {
    let mut wrong = Vec::new();
    for source in sources(&STORE) {
        for (package, places) in PB {
            for (number, line) in source.code() {
                if line.contains(&format!("crate::{package}")) && !source.is_in(places) {
                    wrong.push(format!("{}:{number}: {package} belongs to {places:?}", source.path));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_engine_knows_no_protocol() {
    let mut wrong = Vec::new();
    for source in sources(&STORE) {
        for (name, places) in EDGE_CRATES {
            for (number, line) in source.code() {
                let names = line.contains(&format!("use {name}::")) || line.contains(&format!(" {name}::"));
                if names && !source.is_in(places) {
                    wrong.push(format!("{}:{number}: {name} belongs to {places:?}", source.path));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_stays_where_it_is_allowed() {
    let is_unsafe =
        |line: &str| line.contains("unsafe {") || line.contains("unsafe fn") || line.contains("unsafe impl");
    for of in &CRATES {
        for source in sources(of).iter().filter(|source| !source.is_in(of.unsafe_in)) {
            for (number, line) in source.code() {
                assert!(!is_unsafe(line), "{}:{number}: unsafe belongs to {:?}", source.path, of.unsafe_in);
            }
        }
    }
}

#[test]
fn lock_files_name_no_mirror() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for lock in ["Cargo.lock", "fuzz/Cargo.lock"] {
        let lock = fs::read_to_string(root.join(lock)).unwrap();
        let sources: Vec<&str> = lock.lines().filter(|line| line.starts_with("source = ")).collect();
        assert!(!sources.is_empty());
        for source in sources {
            assert_eq!(source, "source = \"registry+https://github.com/rust-lang/crates.io-index\"");
        }
    }
}
