//! The principals that count now: those of the file, taken up again whenever it changes. A file that cannot be used leaves
//! those before in force, and is told once.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::file::{FileError, PrincipalsFile, Stamp};
use super::principals::Principals;
use crate::shutdown::Hangups;

/// How often the file is looked at. By its stamp, for a notice of the kernel's misses what a mount or a link changes.
const LOOK_PERIOD: Duration = Duration::from_secs(1);

/// The principals that count now.
pub struct Live {
    file: PrincipalsFile,
    /// Read by every request, so without a lock.
    now: ArcSwap<Principals>,
    /// The file's state when it was last read, good or not. Held while it is read, so that no older one overtakes.
    seen: Mutex<Option<Stamp>>,
}

impl Live {
    /// Reads the file.
    pub fn open(file: PrincipalsFile) -> Result<Self, FileError> {
        let (principals, stamp) = file.read()?;
        Ok(Self { file, now: ArcSwap::from_pointee(principals), seen: Mutex::new(Some(stamp)) })
    }

    /// The principals.
    pub fn now(&self) -> Arc<Principals> {
        self.now.load_full()
    }

    /// Where they come from.
    pub fn file(&self) -> &PrincipalsFile {
        &self.file
    }

    /// Takes the file up whenever it changes, or a SIGHUP comes. Never returns.
    pub async fn follow(self: Arc<Self>, mut hangups: Hangups) {
        loop {
            let is_asked = tokio::select! {
                () = tokio::time::sleep(LOOK_PERIOD) => false,
                () = hangups.next() => true,
            };
            let live = self.clone();
            // The disk may take its time, and others wait for this thread.
            let _ = tokio::task::spawn_blocking(move || live.look(is_asked)).await;
        }
    }

    /// Takes the file up if it has changed, or in any case where that `is_asked`.
    fn look(&self, is_asked: bool) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = self.file.stamp();
        if stamp == *seen && !is_asked {
            return;
        }
        *seen = stamp;
        match self.file.read() {
            Ok((principals, stamp)) => {
                *seen = Some(stamp);
                tracing::info!("took up {}: {}", self.file.path().display(), principals.summary());
                self.now.store(Arc::new(principals));
            }
            Err(error) => tracing::error!("the principals stay as they were: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::SystemTime;

    use super::super::principals::Name;
    use super::*;

    #[test]
    fn broken_file_keeps_the_old_principals_until_it_is_mended() {
        let folder = tempfile::tempdir().unwrap();
        let file = PrincipalsFile::new(folder.path().join("p.toml"));
        let add = |name: &str| {
            let name = Name::try_from(name.to_owned()).unwrap();
            file.change(|all| all.add_key(name, None, None, SystemTime::now())).unwrap()
        };
        let first = add("first");
        let live = Live::open(file.clone()).unwrap();
        let good = fs::read_to_string(file.path()).unwrap();
        fs::write(file.path(), "[[principal]\n").unwrap();
        live.look(false);
        assert!(live.now().check(&first, SystemTime::now()).is_ok());
        fs::remove_file(file.path()).unwrap();
        live.look(true);
        assert!(live.now().check(&first, SystemTime::now()).is_ok());
        fs::write(file.path(), good).unwrap();
        fs::set_permissions(file.path(), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let second = add("second");
        live.look(false);
        assert!(live.now().check(&first, SystemTime::now()).is_ok());
        assert!(live.now().check(&second, SystemTime::now()).is_ok());
    }
}
