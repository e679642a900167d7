//! Where a model's files are: found on disk or fetched from the hub, and in either case verified by hash.
//!
//! The bytes that were verified are the bytes that are used: a file is read once. Where the registry pins no hashes, those
//! of the first files that were loaded are pinned, in `SHA256SUMS` (see `pins`).

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::hash::Sha256Hex;
use super::hub::{Hub, HubError};
use super::memory::NoRoom;
use super::pins;
use super::pipeline::{self, PipelineError};
use super::registry::{LocalSpec, ModelFiles};

/// Where to look, and whether to fetch.
#[derive(Debug, Clone)]
pub struct WeightsSource {
    /// The folder of this service.
    pub model_cache: PathBuf,
    /// The hub's own cache, such as `~/.cache/huggingface/hub`.
    pub hub_cache: Option<PathBuf>,
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

/// Why a model's files cannot be used. As it is shown it names folders of this machine: see `for_callers`.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// They are nowhere, and nothing may be fetched.
    #[error(
        "the weights of `{id}` are not here, and nothing is fetched with --offline or HF_HUB_OFFLINE; looked in {searched}; \
         {}",
        remedy(id, false)
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
         {}", remedy(id, source.is_away())
    )]
    Fetch {
        /// The model.
        id: String,
        /// The folders that were looked in, with what each lacks.
        searched: String,
        /// What went wrong.
        source: Box<HubError>,
    },
    /// What was written when the files were first used cannot be read.
    #[error(transparent)]
    Pins(#[from] pins::PinsError),
    /// Files have other content than the registry says, and there are no others.
    #[error(
        "{damage}; {}; remove {folder} and {}{}",
        fetching.told(HubError::to_string),
        remedy(id, false),
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
        fetching: Box<NotFetched>,
        /// Where it is written what they must be, if that is not models.toml.
        pins: Option<PathBuf>,
    },
    /// The model is not what the registry says.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// There is no memory for them.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
}

/// Why there are no others in the place of damaged files.
#[derive(Debug)]
pub enum NotFetched {
    /// Nothing may be fetched.
    Offline,
    /// It went wrong.
    Failed(Box<HubError>),
    /// They were, and are damaged since.
    ChangedSince,
}

impl NotFetched {
    fn told(&self, error: impl FnOnce(&HubError) -> String) -> String {
        match self {
            Self::Offline => "nothing is fetched with --offline or HF_HUB_OFFLINE".to_owned(),
            Self::Failed(source) => format!("others could not be fetched: {}", error(source)),
            Self::ChangedSince => "it was fetched whole, and changed since".to_owned(),
        }
    }
}

impl WeightsError {
    /// The same without paths of this machine, for those who call the service.
    pub fn for_callers(&self) -> String {
        match self {
            Self::Offline { id, .. } => {
                let remedy = remedy(id, false);
                format!(
                    "the weights of `{id}` are not here, and nothing is fetched with --offline or HF_HUB_OFFLINE; {remedy}"
                )
            }
            Self::Fetch { id, source, .. } => {
                let (remedy, source) = (remedy(id, source.is_away()), source.for_callers());
                format!("the weights of `{id}` are not here, and could not be fetched: {source}; {remedy}")
            }
            Self::Pins(_) => {
                "what its files were at their first use cannot be told, or they are others by now; the log says \
                              which"
                    .to_owned()
            }
            Self::Damaged { id, damage, fetching, .. } => {
                let (damage, fetching) = (damage.for_callers(), fetching.told(HubError::for_callers));
                format!("{damage}; {fetching}; remove the folder, which the log names, and {}", remedy(id, false))
            }
            Self::Pipeline(PipelineError { file, reason, .. }) => format!("{file}: {reason}"),
            Self::NoRoom(no_room) => no_room.to_string(),
        }
    }
}

fn remedy(id: &str, is_away: bool) -> String {
    let pull = format!("get them with `vectron-embedding models pull {id}`");
    if is_away { format!("{pull}, or set HF_ENDPOINT to a hub that can be reached") } else { pull }
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

impl Damage {
    /// The same with the file's name alone, for those who call the service.
    fn for_callers(&self) -> String {
        let named = |path: &Path| path.file_name().map_or(PathBuf::new(), PathBuf::from);
        match self {
            Self::Mismatch { path, expected, found } => {
                Self::Mismatch { path: named(path), expected: expected.clone(), found: found.clone() }.to_string()
            }
            Self::Read { path, source } => format!("cannot read {}: {source}", named(path).display()),
        }
    }
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
            pipeline::check(&folder, model)?;
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
        let fetching = match error {
            WeightsError::Fetch { source, .. } => Box::new(NotFetched::Failed(source)),
            WeightsError::Offline { .. } => Box::new(NotFetched::Offline),
            _ => return Err(error),
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
        let mut folders = vec![
            self.folder(model),
            // The layout of sentence-transformers.
            self.model_cache.join(model.repository.replace('/', "_")),
            snapshot(&self.model_cache, model),
        ];
        folders.extend(self.hub_cache.as_deref().map(|cache| snapshot(cache, model)));
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
        pipeline::check(&folder, model)?;
        // Read again whatever came of it: another process may have put them there meanwhile.
        let room = room(&folder)?;
        match (read_verified(&folder, pins), fetched) {
            (Ok(files), _) => Ok((files, room)),
            (Err(_), Err(source)) => {
                let source = Box::new(source);
                Err(WeightsError::Fetch { id: model.id.clone(), searched: searched(), source })
            }
            (Err(damage), Ok(())) => Err(WeightsError::Damaged {
                id: model.id.clone(),
                folder,
                damage: Box::new(damage),
                fetching: Box::new(NotFetched::ChangedSince),
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

/// Where a cache of the hub's own tools has the model: `snapshots` has a folder for each commit, and `refs` a file for each
/// branch and tag, with the commit that it was when they asked
/// (https://huggingface.co/docs/huggingface_hub/guides/manage-cache).
fn snapshot(cache: &Path, model: &LocalSpec) -> PathBuf {
    let repository = cache.join(format!("models--{}", model.repository.replace('/', "--")));
    let commit = fs::read_to_string(repository.join("refs").join(&model.revision)).unwrap_or_default();
    // It becomes part of a path.
    let commit = Some(commit.trim())
        .filter(|commit| !commit.is_empty() && commit.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    repository.join("snapshots").join(commit.unwrap_or(&model.revision))
}

#[cfg(test)]
mod tests {
    use super::super::registry::Registry;
    use super::*;

    fn source(root: &Path) -> WeightsSource {
        WeightsSource { model_cache: root.join("cache"), hub_cache: Some(root.join("hub_cache")), hub: None }
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
            "hub_cache/models--sentence-transformers--all-MiniLM-L6-v2/snapshots/c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
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
    fn branch_is_the_commit_that_it_was_when_the_hubs_own_tools_asked() {
        let root = tempfile::tempdir().unwrap();
        let repository = root.path().join("hub_cache/models--sentence-transformers--all-MiniLM-L6-v2");
        let folder = repository.join("snapshots/0123abcd");
        fs::create_dir_all(&folder).unwrap();
        fs::create_dir_all(repository.join("refs")).unwrap();
        for name in LocalSpec::FILES {
            fs::write(folder.join(name), b"anything").unwrap();
        }
        let model = LocalSpec { revision: "main".to_owned(), ..minilm() };
        assert_eq!(source(root.path()).find(&model), None);
        for (told, found) in [("0123abcd\n", Some(&folder)), ("../../0123abcd", None), ("", None), ("4567", None)] {
            fs::write(repository.join("refs/main"), told).unwrap();
            assert_eq!(source(root.path()).find(&model).as_ref(), found, "{told:?}");
        }
    }

    #[test]
    fn model_that_is_more_than_what_runs_here_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("cache/minilm");
        fs::create_dir_all(folder.join("1_Pooling")).unwrap();
        for name in LocalSpec::FILES {
            fs::write(folder.join(name), b"anything").unwrap();
        }
        fs::write(folder.join("1_Pooling/config.json"), r#"{"pooling_mode_cls_token": true}"#).unwrap();
        let error = source(root.path()).obtain(&LocalSpec { files: None, ..minilm() }).map(|_| ()).unwrap_err();
        let says = "1_Pooling/config.json: the model's pooling is `cls_token`, and models.toml says `mean`";
        assert!(error.to_string().contains(&format!("{}/{says}", folder.display())), "{error}");
        assert!(error.for_callers().starts_with(says), "{}", error.for_callers());
    }

    #[test]
    fn offline_says_where_it_looked_and_what_helps() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("cache/minilm");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("config.json"), b"{}").unwrap();
        let error = source(root.path()).obtain(&minilm()).map(|_| ()).unwrap_err();
        let lacks = format!("{} (lacks tokenizer.json, model.safetensors)", folder.display());
        for part in [&lacks, "--offline", "sentence-transformers_all-MiniLM-L6-v2", "models pull minilm"] {
            assert!(error.to_string().contains(part), "{error}");
        }
        let told = error.for_callers();
        assert!(told.contains("models pull minilm") && !told.contains(&*root.path().to_string_lossy()), "{told}");
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
        let error = source(root.path()).obtain(&minilm()).map(|_| ()).unwrap_err();
        let remedy = format!("remove {} and get them with `vectron-embedding models pull minilm`", folder.display());
        for part in [&folder.join("config.json").display().to_string(), "e3b0c442", "953f9c0d", "--offline", &remedy] {
            assert!(error.to_string().contains(part), "{error}");
        }
        let told = error.for_callers();
        assert!(told.starts_with("config.json is damaged") && told.contains("e3b0c442"), "{told}");
        assert!(!told.contains(&*root.path().to_string_lossy()), "{told}");
    }
}
