//! The principals that count now: those of the file, taken up again whenever it changes.
//!
//! A file that cannot be used leaves those before in force: that is logged once, and told to whoever asks until it ends. A file that
//! is just being written must not count, for a part of it may be good TOML, without a key's `revoked`. So a change is taken up
//! once it looks the same twice and was the same after it was read; and a file that names nobody, after one that did,
//! only where it says so: `principal = []`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::file::{FileError, PrincipalsFile, Stamp};
use super::principals::Principals;
use crate::shutdown::Hangups;

/// How often the file is looked at. By its stamp, for a notice of the kernel's misses what a mount or a link changes.
const LOOK_PERIOD: Duration = Duration::from_secs(1);
/// The same, while it changes.
const SETTLE_PERIOD: Duration = Duration::from_millis(250);

/// The principals that count now.
pub(super) struct Live {
    file: PrincipalsFile,
    /// Read by every request, so without a lock.
    now: ArcSwap<Principals>,
    /// Held while the file is read, so that no older one overtakes.
    seen: Mutex<Seen>,
    /// Whether there is a trouble. Beside `seen`, for who asks shall not wait for the disk.
    is_stale: AtomicBool,
}

/// What is known of the file.
struct Seen {
    /// Its state when its content was last judged, good or not. `None`: not at all since the last trouble with the disk.
    judged: Option<Stamp>,
    /// Its state at the last look, if it was not judged then.
    changing: Option<Stamp>,
    /// Why it is not in force, as it was logged.
    trouble: Option<String>,
}

/// Why the file is not taken up.
enum Trouble {
    /// For what it holds, or its mode: until it changes.
    Content(String),
    /// For now: it has to be tried again, though nothing about it changes.
    Passing(String),
}

impl Live {
    /// Reads the file.
    pub(super) fn open(file: PrincipalsFile) -> Result<Self, FileError> {
        let (principals, stamp) = file.read_to_serve()?;
        let seen = Seen { judged: Some(stamp), changing: None, trouble: None };
        Ok(Self {
            file,
            now: ArcSwap::from_pointee(principals),
            seen: Mutex::new(seen),
            is_stale: AtomicBool::new(false),
        })
    }

    /// The principals.
    pub(super) fn now(&self) -> Arc<Principals> {
        self.now.load_full()
    }

    /// Where they come from.
    pub(super) fn file(&self) -> &PrincipalsFile {
        &self.file
    }

    /// Whether the file cannot be taken up, so that changes of it have no effect.
    pub(super) fn is_stale(&self) -> bool {
        // A sign alone: no order with other memory is needed.
        self.is_stale.load(Ordering::Relaxed)
    }

    /// Takes the file up whenever it changes, or a SIGHUP comes. Never returns.
    pub(super) async fn follow(self: Arc<Self>, mut hangups: Hangups) {
        let mut pause = LOOK_PERIOD;
        loop {
            let is_asked = tokio::select! {
                () = tokio::time::sleep(pause) => false,
                () = hangups.next() => true,
            };
            let live = self.clone();
            // The disk may take its time, and others wait for this thread.
            let looked = tokio::task::spawn_blocking(move || live.look(is_asked)).await;
            pause = looked.unwrap_or(LOOK_PERIOD);
        }
    }

    /// Takes the file up if it has changed, and does not change any more; at once where that `is_asked`. Returns after which
    /// time to look again.
    fn look(&self, is_asked: bool) -> Duration {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = match self.file.stamp() {
            Ok(stamp) => stamp,
            Err(error) => {
                // It may become another one before it can be seen again.
                seen.judged = None;
                self.tell(&mut seen, Some(error.to_string()));
                return LOOK_PERIOD;
            }
        };
        if !is_asked {
            if seen.judged == Some(stamp) {
                seen.changing = None;
                return LOOK_PERIOD;
            }
            if seen.changing != Some(stamp) {
                seen.changing = Some(stamp);
                return SETTLE_PERIOD;
            }
        }
        seen.changing = None;
        match self.read(stamp) {
            Ok(principals) => {
                seen.judged = Some(stamp);
                self.tell(&mut seen, None);
                tracing::info!("took up {}: {}", self.file.path().display(), principals.summary());
                self.now.store(Arc::new(principals));
            }
            Err(Trouble::Content(why)) => {
                seen.judged = Some(stamp);
                self.tell(&mut seen, Some(why));
            }
            Err(Trouble::Passing(why)) => {
                seen.judged = None;
                self.tell(&mut seen, Some(why));
            }
        }
        LOOK_PERIOD
    }

    /// Logs a trouble that is new, and remembers it until it ends.
    fn tell(&self, seen: &mut Seen, trouble: Option<String>) {
        self.is_stale.store(trouble.is_some(), Ordering::Relaxed);
        if let Some(why) = trouble.as_ref().filter(|_| trouble != seen.trouble) {
            tracing::error!("the principals stay as they were: {why}");
        }
        seen.trouble = trouble;
    }

    /// What the file of this stamp holds.
    fn read(&self, expected: Stamp) -> Result<Principals, Trouble> {
        let (principals, stamp) = self.file.read_to_serve().map_err(|error| match error {
            FileError::Io { .. } | FileError::Missing { .. } => Trouble::Passing(error.to_string()),
            _ => Trouble::Content(error.to_string()),
        })?;
        let after = self.file.stamp().map_err(|error| Trouble::Passing(error.to_string()))?;
        let path = self.file.path().display();
        if stamp != expected || after != expected {
            return Err(Trouble::Passing(format!("{path} is being written")));
        }
        if principals.is_nobody_by_omission() && !self.now.load().all().is_empty() {
            let why = format!("{path} names nobody any more; if that is meant, write `principal = []` into it");
            return Err(Trouble::Content(why));
        }
        Ok(principals)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::time::SystemTime;

    use super::super::api_key::ApiKey;
    use super::super::principals::Name;
    use super::*;

    struct Watched {
        _folder: tempfile::TempDir,
        live: Live,
    }

    impl Watched {
        fn with(name: &str) -> (Self, ApiKey) {
            let folder = tempfile::tempdir().unwrap();
            let file = PrincipalsFile::new(folder.path().join("p.toml"));
            let key = add(&file, name);
            (Self { live: Live::open(file).unwrap(), _folder: folder }, key)
        }

        fn write(&self, text: &str) {
            fs::write(self.live.file().path(), text).unwrap();
            fs::set_permissions(self.live.file().path(), fs::Permissions::from_mode(0o600)).unwrap();
        }

        fn text(&self) -> String {
            fs::read_to_string(self.live.file().path()).unwrap()
        }

        fn is_good(&self, key: &ApiKey) -> bool {
            self.live.now().check(key, SystemTime::now()).is_ok()
        }

        fn is_stale(&self) -> bool {
            self.live.is_stale()
        }

        fn look(&self, times: usize) {
            for _ in 0..times {
                self.live.look(false);
            }
        }
    }

    fn add(file: &PrincipalsFile, name: &str) -> ApiKey {
        let name = Name::try_from(name.to_owned()).unwrap();
        file.change(|all| all.add_key(name, None, None, SystemTime::now())).unwrap()
    }

    #[test]
    fn broken_file_keeps_the_old_principals_until_it_is_mended() {
        let (watched, first) = Watched::with("first");
        let good = watched.text();
        watched.write("[[principal]\n");
        watched.look(2);
        assert!(watched.is_good(&first) && watched.is_stale());
        fs::remove_file(watched.live.file().path()).unwrap();
        watched.live.look(true);
        assert!(watched.is_good(&first) && watched.is_stale());
        watched.write(&good);
        let second = add(watched.live.file(), "second");
        watched.look(2);
        assert!(watched.is_good(&first) && watched.is_good(&second) && !watched.is_stale());
    }

    #[test]
    fn change_counts_when_it_looks_the_same_twice_or_is_asked_for() {
        let (watched, _) = Watched::with("first");
        let second = add(watched.live.file(), "second");
        assert_eq!(watched.live.look(false), SETTLE_PERIOD);
        let third = add(watched.live.file(), "third");
        assert_eq!(watched.live.look(false), SETTLE_PERIOD, "it has changed again");
        assert!(!watched.is_good(&second));
        assert_eq!(watched.live.look(false), LOOK_PERIOD);
        assert!(watched.is_good(&second) && watched.is_good(&third));
        let fourth = add(watched.live.file(), "fourth");
        watched.live.look(true);
        assert!(watched.is_good(&fourth));
    }

    #[test]
    fn revocation_that_cannot_be_read_at_first_is_read_later() {
        let (watched, key) = Watched::with("first");
        let path = watched.live.file().path().to_owned();
        let elsewhere = path.with_extension("elsewhere");
        watched.live.file().change(|all| all.revoke(&key.id, SystemTime::now())).unwrap();
        // Found, and its content cannot be read: a folder stands for a disk that fails.
        fs::rename(&path, &elsewhere).unwrap();
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        watched.look(2);
        assert!(watched.is_good(&key) && watched.is_stale());
        assert_eq!(watched.live.seen.lock().unwrap().judged, None, "it is tried again, though nothing changes");
        fs::remove_dir(&path).unwrap();
        fs::rename(&elsewhere, &path).unwrap();
        watched.look(2);
        assert!(!watched.is_good(&key) && !watched.is_stale());
    }

    #[test]
    fn file_that_names_nobody_counts_only_where_it_says_so() {
        let (watched, key) = Watched::with("first");
        for text in ["", "# Who may use the embedding service.\n"] {
            watched.write(text);
            watched.look(2);
            assert!(watched.is_good(&key) && watched.is_stale(), "{text:?}");
        }
        watched.write("principal = []\n");
        watched.look(2);
        assert!(!watched.is_good(&key) && !watched.is_stale());
        // Nobody was there before either.
        watched.write("");
        watched.look(2);
        assert!(!watched.is_stale());
    }
}
