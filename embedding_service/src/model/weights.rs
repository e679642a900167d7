//! Where a model's files are: found on disk or fetched from the hub, and in either case verified by hash.
//!
//! The bytes that were verified are the bytes that are used: a file is read once.

use std::io;
use std::path::{Path, PathBuf};
use std::{env, fs};

use super::hash::Sha256Hex;
use super::hub::{Hub, HubError};
use super::registry::ModelSpec;

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
    pub fn obtain(&self, model: &ModelSpec) -> Result<VerifiedFiles, WeightsError> {
        let mut damaged = None;
        for folder in self.folders(model) {
            if !missing_files(&folder, model).is_empty() {
                continue;
            }
            match read_verified(&folder, model) {
                Ok(files) => return Ok(files),
                Err(damage) => {
                    tracing::warn!("{damage}");
                    damaged = damaged.or(Some((folder, damage)));
                }
            }
        }
        let error = match self.fetch(model) {
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
    pub fn find(&self, model: &ModelSpec) -> Option<PathBuf> {
        self.folders(model).into_iter().find(|folder| missing_files(folder, model).is_empty())
    }

    /// Where the model's files are looked for, in this order.
    pub fn folders(&self, model: &ModelSpec) -> Vec<PathBuf> {
        let snapshot = Path::new(&format!("models--{}", model.model_name.replace('/', "--")))
            .join("snapshots")
            .join(&model.revision);
        let mut folders = vec![
            self.model_cache.join(&model.id),
            // The layout of sentence-transformers.
            self.model_cache.join(model.model_name.replace('/', "_")),
            self.model_cache.join(&snapshot),
        ];
        if let Some(home) = self.hub_home.clone().or_else(default_hub_home) {
            folders.push(home.join("hub").join(&snapshot));
        }
        folders
    }

    fn fetch(&self, model: &ModelSpec) -> Result<VerifiedFiles, WeightsError> {
        let searched = || {
            let describe = |folder: PathBuf| {
                let missing = missing_files(&folder, model);
                if missing.is_empty() || missing.len() == model.files().len() {
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
        let wanted = model.files().into_iter().filter(|(name, hash)| read_file(&folder, name, hash).is_err());
        let wanted: Vec<&str> = wanted.map(|(name, _)| name).collect();
        let fetched = hub.fetch(model, &folder, &wanted);
        // Read again whatever came of it: another process may have put them there meanwhile.
        match (read_verified(&folder, model), fetched) {
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

fn missing_files(folder: &Path, model: &ModelSpec) -> Vec<&'static str> {
    model.files().into_iter().map(|(name, _)| name).filter(|name| !folder.join(name).is_file()).collect()
}

fn read_verified(folder: &Path, model: &ModelSpec) -> Result<VerifiedFiles, Damage> {
    let [config, tokenizer, weights] = model.files();
    Ok(VerifiedFiles {
        folder: folder.to_owned(),
        config: read_file(folder, config.0, config.1)?,
        tokenizer: read_file(folder, tokenizer.0, tokenizer.1)?,
        weights: read_file(folder, weights.0, weights.1)?,
    })
}

fn read_file(folder: &Path, name: &str, expected: &Sha256Hex) -> Result<Vec<u8>, Damage> {
    let path = folder.join(name);
    let bytes = fs::read(&path).map_err(|source| Damage::Read { path: path.clone(), source })?;
    let found = Sha256Hex::of(&bytes);
    if found == *expected { Ok(bytes) } else { Err(Damage::Mismatch { path, expected: expected.clone(), found }) }
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

    fn minilm() -> ModelSpec {
        Registry::load(None).unwrap().models()[0].clone()
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
            for (name, _) in minilm().files() {
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
    fn damaged_file_is_refused_with_both_hashes() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("cache/minilm");
        fs::create_dir_all(&folder).unwrap();
        for (name, _) in minilm().files() {
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
