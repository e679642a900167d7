//! The file of principals: read where nobody else can write it or everybody read it, and replaced as a whole.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::principals::{ChangeError, Principals};
use crate::part::{Part, folder_of};
use crate::told::line_of;

/// Bits of the mode that the file must not have: others may do nothing with it, the group may only read it.
const MODE_REFUSED: u32 = 0o037;
/// Bytes of the file: some ten thousand keys.
const BYTES_MAX: u64 = 16 << 20;

/// Where principals are kept.
#[derive(Clone, Debug)]
pub struct PrincipalsFile {
    path: PathBuf,
}

/// Tells one state of the file from another. A file that is replaced has another inode, even within one tick of the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    inode: u64,
    bytes: u64,
    modified: Option<SystemTime>,
    changed_s: i64,
    changed_ns: i64,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// There is none.
    #[error("there is no {path}; make it with `vectron-embedding auth add-key NAME --auth-file {path}`")]
    Missing {
        /// The file.
        path: String,
    },
    /// Others may read or change it.
    #[error("{path} has mode {mode:03o}: others could {could} it; mend it with `chmod 600 {path}`")]
    Mode {
        /// The file.
        path: String,
        /// Its mode.
        mode: u32,
        /// What others could do.
        could: &'static str,
    },
    /// It belongs to somebody else, who could change it.
    #[error(
        "{path} belongs to the user {owner}, who could change it: expected root, or {user}, who runs this; run it as {owner} or root, or give the file to whom the service runs as with `chown`"
    )]
    Owner {
        /// The file.
        path: String,
        /// Its owner's id.
        owner: u32,
        /// The id of the user that reads it.
        user: u32,
    },
    /// It is a mount of its own, which cannot be replaced.
    #[error(
        "{path} cannot be replaced: it is mounted by itself, and what is mounted so stays; mount its folder instead"
    )]
    Mounted {
        /// The file.
        path: String,
    },
    /// It is not what it should be.
    #[error("{path}: {reason}")]
    Content {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// The disk says no.
    #[error("{path}: cannot be {what}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// What was asked for cannot be done.
    #[error(transparent)]
    Change(#[from] ChangeError),
}

impl PrincipalsFile {
    /// The file at `path`, which is not looked at yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads it, to let in whom it names: only if nobody but root and the user of this process could have written it. The stamp
    /// is of what was read, or older.
    pub(crate) fn read_to_serve(&self) -> Result<(Principals, Stamp), FileError> {
        self.read_of(|owner, user| owner == user || owner == 0)
    }

    /// Reads it, to show it: whoever wrote it.
    pub fn read(&self) -> Result<(Principals, Stamp), FileError> {
        self.read_of(|_, _| true)
    }

    /// Reads it, to change it. Root may do that with the file of the user that the service runs as.
    fn read_to_change(&self) -> Result<(Principals, Stamp), FileError> {
        self.read_of(|owner, user| owner == user || owner == 0 || user == 0)
    }

    /// Where `trusts`, of the file's owner and the user of this process, says so.
    fn read_of(&self, trusts: impl FnOnce(u32, u32) -> bool) -> Result<(Principals, Stamp), FileError> {
        let (text, stamp) = self.read_text(trusts)?;
        let reason = |reason| FileError::Content { path: self.named(), reason };
        Ok((Principals::read(&text).map_err(reason)?, stamp))
    }

    /// What tells whether it has changed; an error where it is not there.
    pub fn stamp(&self) -> Result<Stamp, FileError> {
        match fs::metadata(&self.path) {
            Ok(metadata) => Ok(Stamp::of(&metadata)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(self.missing()),
            Err(error) => Err(self.failed("read")(error)),
        }
    }

    /// Reads it, or nobody where there is none, has it changed, and replaces it. One process at a time.
    pub fn change<T>(&self, change: impl FnOnce(&mut Principals) -> Result<T, ChangeError>) -> Result<T, FileError> {
        // Of a symbolic link, what it points to is replaced.
        let target = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let locked = File::open(folder_of(&target)).map_err(self.failed("written"))?;
        // The folder's lock, for a file that is replaced cannot be locked itself. It ends with `locked`.
        locked.lock().map_err(self.failed("locked"))?;

        let mut principals = match self.read_to_change() {
            Err(FileError::Missing { .. }) => Principals::default(),
            read => read?.0,
        };
        let changed = change(&mut principals)?;
        let reason = |error: toml::ser::Error| FileError::Content { path: self.named(), reason: error.to_string() };
        self.replace(&target, &principals.write().map_err(reason)?).map_err(|error| match error.kind() {
            io::ErrorKind::ResourceBusy => FileError::Mounted { path: self.named() },
            _ => self.failed("written")(error),
        })?;
        Ok(changed)
    }

    fn read_text(&self, trusts: impl FnOnce(u32, u32) -> bool) -> Result<(String, Stamp), FileError> {
        let file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(self.missing());
            }
            opened => opened.map_err(self.failed("read"))?,
        };
        // Of the file that was opened: by its path there may be another one by now.
        let metadata = file.metadata().map_err(self.failed("read"))?;
        let mode = metadata.permissions().mode() & 0o777;
        if mode & MODE_REFUSED != 0 {
            let could = if mode & 0o022 != 0 { "change" } else { "read" };
            return Err(FileError::Mode { path: self.named(), mode, could });
        }
        let (owner, user) = (metadata.uid(), rustix::process::geteuid().as_raw());
        if !trusts(owner, user) {
            return Err(FileError::Owner { path: self.named(), owner, user });
        }
        let mut bytes = Vec::new();
        file.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(self.failed("read"))?;
        let wrong = |reason| FileError::Content { path: self.named(), reason };
        if bytes.len() as u64 > BYTES_MAX {
            return Err(wrong(format!("expected at most {BYTES_MAX} bytes, but it has more")));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let line = line_of(error.as_bytes(), error.utf8_error().valid_up_to());
            wrong(format!("line {line}: expected text in UTF-8"))
        })?;
        Ok((text, Stamp::of(&metadata)))
    }

    /// Readers see the old file or the new one, never a part. A new file has mode 600; one that is replaced keeps its owner
    /// and group, so that a change by root does not lock the service out.
    fn replace(&self, target: &Path, text: &str) -> io::Result<()> {
        let part = Part::of(target, 0o600)?;
        let mut file = part.file();
        file.write_all(text.as_bytes())?;
        if let Ok(old) = fs::metadata(target) {
            let new = file.metadata()?;
            if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
                fchown(file, Some(old.uid()), Some(old.gid()))?;
            }
            let mode = 0o600 | old.permissions().mode() & 0o040;
            file.set_permissions(fs::Permissions::from_mode(mode))?;
        }
        // A crash must not bring the old file back, and a revoked key with it.
        part.put_into_place()
    }

    fn missing(&self) -> FileError {
        FileError::Missing { path: self.named() }
    }

    fn failed(&self, what: &'static str) -> impl FnOnce(io::Error) -> FileError {
        let path = self.named();
        move |source| FileError::Io { path, what, source }
    }

    fn named(&self) -> String {
        self.path.display().to_string()
    }
}

impl Stamp {
    fn of(metadata: &fs::Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: metadata.modified().ok(),
            changed_s: metadata.ctime(),
            changed_ns: metadata.ctime_nsec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::principals::Name;
    use super::*;

    fn name(name: &str) -> Name {
        Name::try_from(name.to_owned()).unwrap()
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn file_is_made_for_its_owner_alone_and_replaced_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let file = PrincipalsFile::new(folder.path().join("principals.toml"));
        assert!(matches!(file.read(), Err(FileError::Missing { .. })));
        assert!(matches!(file.stamp(), Err(FileError::Missing { .. })));
        let key = file.change(|all| all.add_key(name("a"), None, None, SystemTime::now())).unwrap();
        assert_eq!(mode(file.path()), 0o600);
        let (principals, before) = file.read().unwrap();
        assert!(principals.check(&key, SystemTime::now()).is_ok());
        assert_eq!(file.stamp().unwrap(), before);

        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o640)).unwrap();
        file.change(|all| all.revoke(&key.id, SystemTime::now())).unwrap();
        assert_eq!(mode(file.path()), 0o640, "its group may go on reading");
        assert_ne!(file.stamp().unwrap(), before);
        // What is refused leaves everything as it was.
        let before = file.stamp().unwrap();
        file.change(|all| all.revoke(&key.id, SystemTime::now())).unwrap_err();
        assert_eq!(file.stamp().unwrap(), before);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn link_stays_a_link() {
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (link, real) = (folder.path().join("link"), elsewhere.path().join("real"));
        fs::write(&real, "").unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let file = PrincipalsFile::new(link.clone());
        file.change(|all| all.add_key(name("a"), None, None, SystemTime::now())).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(fs::read_to_string(&real).unwrap().contains("[[principal]]"));
    }

    #[test]
    fn file_that_others_can_read_or_change_is_refused_with_what_mends_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = PrincipalsFile::new(folder.path().join("p.toml"));
        fs::write(file.path(), "").unwrap();
        for (mode, could) in [(0o644, "read"), (0o666, "change"), (0o620, "change"), (0o604, "read")] {
            fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
            let error = file.read().unwrap_err().to_string();
            let mends = format!("others could {could} it; mend it with `chmod 600 {}`", file.path().display());
            assert!(error.contains(&format!("mode {mode:03o}")) && error.ends_with(&mends), "{error}");
        }
        for mode in [0o600, 0o400, 0o640] {
            fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
            assert!(file.read().is_ok(), "{mode:o}");
        }
    }

    #[test]
    fn what_is_no_text_is_told_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = PrincipalsFile::new(folder.path().join("p.toml"));
        fs::write(file.path(), b"# one\n# two \xff\n").unwrap();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o600)).unwrap();
        let error = file.read().unwrap_err();
        assert!(matches!(&error, FileError::Content { reason, .. } if reason.starts_with("line 2:")), "{error}");
    }

    #[test]
    fn file_of_another_user_is_refused_by_the_service_and_changed_by_root() {
        let folder = tempfile::tempdir().unwrap();
        let file = PrincipalsFile::new(folder.path().join("p.toml"));
        file.change(|all| all.add_key(name("a"), None, None, SystemTime::now())).unwrap();
        let error = file.read_of(|_, _| false).unwrap_err().to_string();
        assert!(error.contains("belongs to the user"), "{error}");
        // Only root can give a file away.
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(file.path(), Some(12345), None).unwrap();
            let error = file.read_to_serve().unwrap_err().to_string();
            assert!(
                error.contains("the user 12345, who could change it") && error.contains("run it as 12345"),
                "{error}"
            );
            file.change(|all| all.add_key(name("b"), None, None, SystemTime::now())).unwrap();
            assert_eq!(fs::metadata(file.path()).unwrap().uid(), 12345);
        }
    }

    #[test]
    fn changes_at_the_same_time_are_all_made() {
        let folder = tempfile::tempdir().unwrap();
        let file = PrincipalsFile::new(folder.path().join("p.toml"));
        std::thread::scope(|scope| {
            for number in 0..8 {
                let file = file.clone();
                scope.spawn(move || {
                    file.change(|all| all.add_key(name(&format!("p{number}")), None, None, SystemTime::now())).unwrap()
                });
            }
        });
        assert_eq!(file.read().unwrap().0.all().len(), 8);
    }
}
