//! Where a model's files are: found on disk or fetched from the hub, and in either case verified by hash.
//!
//! The bytes that were verified are the bytes that are used: a file is read once. Where the registry pins no hashes, those
//! of the first files that were used are pinned, in `SHA256SUMS` (see `pins`).

use std::io;
use std::path::{Path, PathBuf};
use std::{env, fs};

use super::hash::Sha256Hex;
use super::hub::{Hub, HubError};
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
        "{damage}; {fetching}; remove {folder} and get them with `vectron-embedding models pull {id}` or `make weights`",
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
    },
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
        if let Some(pins) = &model.files {
            return self.obtain_pinned(model, Some(pins));
        }
        let folder = self.model_cache.join(&model.id);
        if let Some(pins) = pins::read(&folder)? {
            return self.obtain_pinned(model, Some(&pins));
        }
        let files = self.obtain_pinned(model, None)?;
        pins::write(&folder, &model.id, &files.hashes);
        Ok(files)
    }

    fn obtain_pinned(&self, model: &LocalSpec, pins: Option<&ModelFiles>) -> Result<VerifiedFiles, WeightsError> {
        let mut damaged = None;
        for folder in self.folders(model) {
            if !missing_files(&folder).is_empty() {
                continue;
            }
            match read_verified(&folder, pins) {
                Ok(files) => return Ok(files),
                Err(damage) => {
                    tracing::warn!("{damage}");
                    damaged = damaged.or(Some((folder, damage)));
                }
            }
        }
        let error = match self.fetch(model, pins) {
            Ok(files) => return Ok(files),
            Err(error) => error,
        };
        let Some((folder, damage)) = damaged else { return Err(error) };
        let fetching = match &error {
            WeightsError::Fetch { source, .. } => format!("others could not be fetched: {source}"),
            _ => "nothing is fetched with --offline".to_owned(),
        };
        Err(WeightsError::Damaged { id: model.id.clone(), folder, damage: Box::new(damage), fetching })
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
            self.model_cache.join(&model.id),
            // The layout of sentence-transformers.
            self.model_cache.join(model.repository.replace('/', "_")),
            self.model_cache.join(&snapshot),
        ];
        if let Some(home) = self.hub_home.clone().or_else(default_hub_home) {
            folders.push(home.join("hub").join(&snapshot));
        }
        folders
    }

    fn fetch(&self, model: &LocalSpec, pins: Option<&ModelFiles>) -> Result<VerifiedFiles, WeightsError> {
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
        let folder = self.model_cache.join(&model.id);
        let wanted = LocalSpec::FILES.into_iter();
        let wanted: Vec<&str> = wanted.filter(|name| read_file(&folder, name, pins).is_err()).collect();
        let fetched = hub.fetch(model, pins, &folder, &wanted);
        // Read again whatever came of it: another process may have put them there meanwhile.
        match (read_verified(&folder, pins), fetched) {
            (Ok(files), _) => Ok(files),
            (Err(_), Err(source)) => Err(WeightsError::Fetch { id: model.id.clone(), searched: searched(), source }),
            (Err(damage), Ok(())) => Err(WeightsError::Damaged {
                id: model.id.clone(),
                folder,
                damage: Box::new(damage),
                fetching: "it was fetched whole, and changed since".to_owned(),
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
    Ok(VerifiedFiles { folder: folder.to_owned(), config, tokenizer, weights, hashes })
}

fn read_file(folder: &Path, name: &str, pins: Option<&ModelFiles>) -> Result<(Vec<u8>, Sha256Hex), Damage> {
    let path = folder.join(name);
    let bytes = fs::read(&path).map_err(|source| Damage::Read { path: path.clone(), source })?;
    let found = Sha256Hex::of(&bytes);
    match pins.and_then(|pins| pins.of(name)).filter(|expected| **expected != found) {
        None => Ok((bytes, found)),
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
        Registry::load(None).unwrap().models()[0].local().unwrap().clone()
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
        let written = fs::read_to_string(root.path().join("cache/minilm/SHA256SUMS")).unwrap();
        assert!(written.contains(&format!("{}  model.safetensors\n", first.hashes.weights)), "{written}");

        assert_eq!(source(root.path()).obtain(&model).unwrap().hashes, first.hashes);
        fs::write(elsewhere.join("config.json"), "other").unwrap();
        let error = source(root.path()).obtain(&model).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("config.json is damaged or of another revision"), "{error}");
        assert!(error.contains(first.hashes.config.as_str()), "{error}");

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
