//! Where a model's files are: found on disk or fetched from the hub, and in either case verified by hash.
//!
//! The bytes that were verified are the bytes that are used: a file is read once. Where the registry pins no hashes, those
//! of the first files that were loaded are pinned, in `SHA256SUMS` (see `pins`).

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::{env, fs};

use sha2::{Digest, Sha256};

use super::hash::Sha256Hex;
use super::hub::{Hub, HubError};
use super::memory::NoRoom;
use super::pins;
use super::registry::{LocalSpec, ModelFiles};

/// Where to look, and whether to fetch.
#[derive(Debug, Clone)]
pub struct WeightsSource {
    /// The folder of this service.
    pub model_cache: PathBuf,
    /// The hub's own folder: `$HF_HOME`, or `~/.cache/huggingface`.
    pub hub_home: Option<PathBuf>,
    /// Where to fetch what is not there. Absent: nothing is fetched.
    pub hub: Option<Hub>,
}

/// The content of a model's files, verified.
pub struct VerifiedFiles {
    /// Where they were found.
    pub folder: PathBuf,
    /// config.json.
    pub config: Vec<u8>,
    /// tokenizer.json.
    pub tokenizer: Vec<u8>,
    /// model.safetensors.
    pub weights: Vec<u8>,
    /// Their hashes.
    pub hashes: ModelFiles,
    /// Whether somebody said before what they must be. Else they are verified by nothing, and to be pinned once they are
    /// known to be a model.
    pub is_pinned: bool,
}

/// Why a model's files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// They are nowhere, and nothing may be fetched.
    #[error(
        "the weights of `{id}` are not here, and nothing is fetched with --offline; looked in {searched}; \
         get them with `vectron-embedding models pull {id}` or `make weights`"
    )]
    Offline {
        /// The model.
        id: String,
        /// The folders that were looked in, with what each lacks.
        searched: String,
    },
    /// They are nowhere, and could not be fetched.
    #[error(
        "the weights of `{id}` are not here, and could not be fetched: {source}; looked in {searched}; \
         get them with `make weights`, or set HF_ENDPOINT to a hub that can be reached"
    )]
    Fetch {
        /// The model.
        id: String,
        /// The folders that were looked in, with what each lacks.
        searched: String,
        /// What went wrong.
        source: HubError,
    },
    /// What was written when the files were first used cannot be read.
    #[error(transparent)]
    Pins(#[from] pins::PinsError),
    /// Files have other content than the registry says, and there are no others.
    #[error(
        "{damage}; {fetching}; remove {folder} and get them with `vectron-embedding models pull {id}` or `make weights`{}",
        or_trust(pins.as_deref()),
        folder = folder.display()
    )]
    Damaged {
        /// The model.
        id: String,
        /// The first folder that has damaged files.
        folder: PathBuf,
        /// What is wrong in it.
        damage: Box<Damage>,
        /// Why they were not fetched.
        fetching: String,
        /// Where it is written what they must be, if that is not models.toml.
        pins: Option<PathBuf>,
    },
    /// There is no memory for them.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
}

fn or_trust(pins: Option<&Path>) -> String {
    let trust = |pins: &Path| {
        format!("; what they must be is told by {}, since their first use: remove it to trust others", pins.display())
    };
    pins.map_or_else(String::new, trust)
}

/// Why the files of one folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// A file has other content than the registry says.
    #[error("{path} is damaged or of another revision: its SHA-256 is {found}, expected {expected}", path = path.display())]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// What the registry says.
        expected: Sha256Hex,
        /// What it is.
        found: Sha256Hex,
    },
    /// A file cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl WeightsSource {
    /// The model's files, verified; fetched where no folder has them whole.
    pub fn obtain(&self, model: &LocalSpec) -> Result<VerifiedFiles, WeightsError> {
        self.obtain_with(model, |_| Ok(())).map(|(files, ())| files)
    }

    /// The same; `room` is taken before the files of a folder are read.
    pub(super) fn obtain_with<T>(
        &self,
        model: &LocalSpec,
        room: impl Fn(&Path) -> Result<T, NoRoom>,
    ) -> Result<(VerifiedFiles, T), WeightsError> {
        let written = match &model.files {
            Some(_) => None,
            None => pins::read(&self.folder(model), model)?,
        };
        let pins = model.files.as_ref().or(written.as_ref());
        let mut damaged = None;
        for folder in self.folders(model) {
            if !missing_files(&folder).is_empty() {
                continue;
            }
            let room = room(&folder)?;
            match read_verified(&folder, pins) {
                Ok(files) => return Ok((files, room)),
                Err(damage) => {
                    tracing::warn!("{damage}");
                    damaged = damaged.or(Some((folder, damage)));
                }
            }
        }
        let error = match self.fetch(model, pins, room) {
            Ok(files) => return Ok(files),
            Err(error) => error,
        };
        let Some((folder, damage)) = damaged else { return Err(error) };
        let fetching = match &error {
            WeightsError::NoRoom(_) => return Err(error),
            WeightsError::Fetch { source, .. } => format!("others could not be fetched: {source}"),
            _ => "nothing is fetched with --offline".to_owned(),
        };
        let pins = written.map(|_| pins::path(&self.folder(model)));
        Err(WeightsError::Damaged { id: model.id.clone(), folder, damage: Box::new(damage), fetching, pins })
    }

    /// Writes down what the files are, where nobody has said it before: from now on, others are refused.
    pub(super) fn pin(&self, model: &LocalSpec, files: &VerifiedFiles) {
        if !files.is_pinned {
            pins::write(&self.folder(model), model, &files.hashes);
        }
    }

    /// The model's own folder.
    fn folder(&self, model: &LocalSpec) -> PathBuf {
        self.model_cache.join(&model.id)
    }

    /// The first folder that has all of the model's files; they are not verified yet.
    pub fn find(&self, model: &LocalSpec) -> Option<PathBuf> {
        self.folders(model).into_iter().find(|folder| missing_files(folder).is_empty())
    }

    /// Where the model's files are looked for, in this order.
    pub fn folders(&self, model: &LocalSpec) -> Vec<PathBuf> {
        let snapshot = Path::new(&format!("models--{}", model.repository.replace('/', "--")))
            .join("snapshots")
            .join(&model.revision);
        let mut folders = vec![
            self.folder(model),
            // The layout of sentence-transformers.
            self.model_cache.join(model.repository.replace('/', "_")),
            self.model_cache.join(&snapshot),
        ];
        if let Some(home) = self.hub_home.clone().or_else(default_hub_home) {
            folders.push(home.join("hub").join(&snapshot));
        }
        folders
    }

    fn fetch<T>(
        &self,
        model: &LocalSpec,
        pins: Option<&ModelFiles>,
        room: impl Fn(&Path) -> Result<T, NoRoom>,
    ) -> Result<(VerifiedFiles, T), WeightsError> {
        let searched = || {
            let describe = |folder: PathBuf| {
                let missing = missing_files(&folder);
                if missing.is_empty() || missing.len() == LocalSpec::FILES.len() {
                    folder.display().to_string()
                } else {
                    format!("{} (lacks {})", folder.display(), missing.join(", "))
                }
            };
            self.folders(model).into_iter().map(describe).collect::<Vec<_>>().join(", ")
        };
        let Some(hub) = &self.hub else {
            return Err(WeightsError::Offline { id: model.id.clone(), searched: searched() });
        };
        let folder = self.folder(model);
        let wanted = LocalSpec::FILES.into_iter();
        let wanted: Vec<&str> = wanted.filter(|name| check_file(&folder, name, pins).is_err()).collect();
        let fetched = hub.fetch(model, pins, &folder, &wanted);
        // Read again whatever came of it: another process may have put them there meanwhile.
        let room = room(&folder)?;
        match (read_verified(&folder, pins), fetched) {
            (Ok(files), _) => Ok((files, room)),
            (Err(_), Err(source)) => Err(WeightsError::Fetch { id: model.id.clone(), searched: searched(), source }),
            (Err(damage), Ok(())) => Err(WeightsError::Damaged {
                id: model.id.clone(),
                folder,
                damage: Box::new(damage),
                fetching: "it was fetched whole, and changed since".to_owned(),
                pins: None,
            }),
        }
    }
}

fn missing_files(folder: &Path) -> Vec<&'static str> {
    LocalSpec::FILES.into_iter().filter(|name| !folder.join(name).is_file()).collect()
}

fn read_verified(folder: &Path, pins: Option<&ModelFiles>) -> Result<VerifiedFiles, Damage> {
    let [config_name, tokenizer_name, weights_name] = LocalSpec::FILES;
    let (config, config_hash) = read_file(folder, config_name, pins)?;
    let (tokenizer, tokenizer_hash) = read_file(folder, tokenizer_name, pins)?;
    let (weights, weights_hash) = read_file(folder, weights_name, pins)?;
    let hashes = ModelFiles { config: config_hash, tokenizer: tokenizer_hash, weights: weights_hash };
    Ok(VerifiedFiles { folder: folder.to_owned(), config, tokenizer, weights, hashes, is_pinned: pins.is_some() })
}

fn read_file(folder: &Path, name: &str, pins: Option<&ModelFiles>) -> Result<(Vec<u8>, Sha256Hex), Damage> {
    let path = folder.join(name);
    let bytes = fs::read(&path).map_err(|source| Damage::Read { path: path.clone(), source })?;
    let found = verified(path, Sha256Hex::of(&bytes), name, pins)?;
    Ok((bytes, found))
}

/// The same without its content, which may be large.
fn check_file(folder: &Path, name: &str, pins: Option<&ModelFiles>) -> Result<Sha256Hex, Damage> {
    let path = folder.join(name);
    let hash = || {
        let (mut file, mut hasher) = (File::open(&path)?, Sha256::new());
        let mut piece = vec![0; 1 << 16];
        loop {
            match file.read(&mut piece)? {
                0 => return Ok(Sha256Hex::from_hasher(hasher)),
                count => hasher.update(&piece[..count]),
            }
        }
    };
    let found = hash().map_err(|source| Damage::Read { path: path.clone(), source })?;
    verified(path, found, name, pins)
}

fn verified(path: PathBuf, found: Sha256Hex, name: &str, pins: Option<&ModelFiles>) -> Result<Sha256Hex, Damage> {
    match pins.and_then(|pins| pins.of(name)).filter(|expected| **expected != found) {
        None => Ok(found),
        Some(expected) => Err(Damage::Mismatch { path, expected: expected.clone(), found }),
    }
}

fn default_hub_home() -> Option<PathBuf> {
    env::home_dir().map(|home| home.join(".cache").join("huggingface"))
}

#[cfg(test)]
mod tests {
    use super::super::registry::Registry;
    use super::*;

    fn source(root: &Path) -> WeightsSource {
        WeightsSource { model_cache: root.join("cache"), hub_home: Some(root.join("hub_home")), hub: None }
    }

    fn minilm() -> LocalSpec {
        Registry::load(None, None).unwrap().models()[0].local().unwrap().clone()
    }

    #[test]
    fn every_known_layout_is_found() {
        let layouts = [
            "cache/minilm",
            "cache/sentence-transformers_all-MiniLM-L6-v2",
            "cache/models--sentence-transformers--all-MiniLM-L6-v2/snapshots/c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
            "hub_home/hub/models--sentence-transformers--all-MiniLM-L6-v2/snapshots/c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
        ];
        for layout in layouts {
            let root = tempfile::tempdir().unwrap();
            let folder = root.path().join(layout);
            fs::create_dir_all(&folder).unwrap();
            for name in LocalSpec::FILES {
                assert_eq!(source(root.path()).find(&minilm()), None);
                fs::write(folder.join(name), b"anything").unwrap();
            }
            assert_eq!(source(root.path()).find(&minilm()), Some(folder));
        }
    }

    #[test]
    fn offline_says_where_it_looked_and_what_helps() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("cache/minilm");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("config.json"), b"{}").unwrap();
        let error = source(root.path()).obtain(&minilm()).map(|_| ()).unwrap_err().to_string();
        let lacks = format!("{} (lacks tokenizer.json, model.safetensors)", folder.display());
        for part in
            [&lacks, "--offline", "sentence-transformers_all-MiniLM-L6-v2", "models pull minilm", "make weights"]
        {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn files_that_nobody_pinned_are_pinned_when_they_are_first_used() {
        let root = tempfile::tempdir().unwrap();
        let elsewhere = root.path().join("cache/sentence-transformers_all-MiniLM-L6-v2");
        fs::create_dir_all(&elsewhere).unwrap();
        for name in LocalSpec::FILES {
            fs::write(elsewhere.join(name), name).unwrap();
        }
        let model = LocalSpec { files: None, ..minilm() };
        let first = source(root.path()).obtain(&model).unwrap();
        assert_eq!(
            (first.config.as_slice(), &first.hashes.config),
            (&b"config.json"[..], &Sha256Hex::of(b"config.json"))
        );
        let pins = root.path().join("cache/minilm/SHA256SUMS");
        assert!(!first.is_pinned && !pins.exists(), "not before they are known to be a model");
        source(root.path()).pin(&model, &first);
        let written = fs::read_to_string(&pins).unwrap();
        assert!(written.contains(&format!("{}  model.safetensors\n", first.hashes.weights)), "{written}");

        let again = source(root.path()).obtain(&model).unwrap();
        assert!(again.is_pinned && again.hashes == first.hashes);
        for other in [
            LocalSpec { revision: "main".to_owned(), ..model.clone() },
            LocalSpec { repository: "sentence-transformers/all-MiniLM-L12-v2".to_owned(), ..model.clone() },
        ] {
            let error = source(root.path()).obtain(&other).map(|_| ()).unwrap_err().to_string();
            let files = format!("has files of {} {}, as its SHA256SUMS says", model.repository, model.revision);
            let now = format!("models.toml says {} {}", other.repository, other.revision);
            assert!(error.contains(&files) && error.contains(&now), "{error}");
        }
        fs::write(elsewhere.join("config.json"), "other").unwrap();
        let error = source(root.path()).obtain(&model).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("config.json is damaged or of another revision"), "{error}");
        assert!(error.contains(first.hashes.config.as_str()), "{error}");
        assert!(error.contains(&format!("told by {}", pins.display())), "{error}");

        fs::write(root.path().join("cache/minilm/SHA256SUMS"), "nonsense\n").unwrap();
        let error = source(root.path()).obtain(&model).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("SHA256SUMS") && error.contains("`nonsense`"), "{error}");
    }

    #[test]
    fn damaged_file_is_refused_with_both_hashes() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("cache/minilm");
        fs::create_dir_all(&folder).unwrap();
        for name in LocalSpec::FILES {
            fs::write(folder.join(name), b"").unwrap();
        }
        let error = source(root.path()).obtain(&minilm()).map(|_| ()).unwrap_err().to_string();
        let remedy = format!("remove {} and get them with `vectron-embedding models pull minilm`", folder.display());
        for part in [
            &folder.join("config.json").display().to_string(),
            "e3b0c442",
            "953f9c0d",
            "--offline",
            &remedy,
            "make weights",
        ] {
            assert!(error.contains(part), "{error}");
        }
    }
}
