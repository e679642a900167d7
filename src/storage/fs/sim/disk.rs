//! The simulated disk itself: folders and files as nodes, each with its synced state and the changes since.
//!
//! Nodes are never reused, so an open file outlives its name, as it does on the real thing.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Component, Path};

/// A disk writes a sector wholly or not at all.
const SECTOR_BYTES: u64 = 512;
const ROOT: NodeId = NodeId(0);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NodeId(usize);

type Names = BTreeMap<OsString, NodeId>;

#[derive(Debug, Clone)]
enum Node {
    Folder(Folder),
    File(File),
}

#[derive(Debug, Clone, Default)]
struct Folder {
    names: Names,
    synced: Names,
    unsynced: Vec<NameChange>,
}

#[derive(Debug, Clone)]
enum NameChange {
    Add(OsString, NodeId),
    Remove(OsString),
    Rename { from: OsString, to: OsString, node: NodeId },
}

#[derive(Debug, Clone, Default)]
struct File {
    bytes: Vec<u8>,
    synced: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Write { offset: u64, bytes: Vec<u8> },
    Grow(u64),
    SetLen(u64),
}

#[derive(Debug)]
pub(super) struct Disk {
    nodes: Vec<Node>,
}

impl Default for Disk {
    fn default() -> Self {
        Self { nodes: vec![Node::Folder(Folder::default())] }
    }
}

impl Disk {
    pub(super) fn create_new(&mut self, path: &Path) -> io::Result<NodeId> {
        if self.exists(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let (folder, name) = self.parent(path)?;
        let node = self.add(Node::File(File::default()));
        self.folder(folder)?.change(NameChange::Add(name, node));
        Ok(node)
    }

    pub(super) fn create_folders(&mut self, path: &Path) -> io::Result<()> {
        let mut at = ROOT;
        for name in names(path) {
            let known = self.folder(at)?.names.get(&name).copied();
            at = match known {
                Some(node) => node,
                None => {
                    let node = self.add(Node::Folder(Folder::default()));
                    self.folder(at)?.change(NameChange::Add(name, node));
                    node
                }
            };
        }
        self.folder(at).map(|_| ())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let (node, (folder, from), (target, to)) = (self.find(from)?, self.parent(from)?, self.parent(to)?);
        if folder != target {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "renaming into another folder is not simulated"));
        }
        self.folder(folder)?.change(NameChange::Rename { from, to, node });
        Ok(())
    }

    pub(super) fn link(&mut self, file: &Path, name: &Path) -> io::Result<()> {
        let node = self.file_at(file)?;
        if self.exists(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let (folder, name) = self.parent(name)?;
        self.folder(folder)?.change(NameChange::Add(name, node));
        Ok(())
    }

    pub(super) fn remove_file(&mut self, path: &Path) -> io::Result<()> {
        self.file_at(path)?;
        let (folder, name) = self.parent(path)?;
        self.folder(folder)?.change(NameChange::Remove(name));
        Ok(())
    }

    pub(super) fn remove_folder(&mut self, path: &Path) -> io::Result<()> {
        let node = self.find(path)?;
        self.folder(node)?;
        let (folder, name) = self.parent(path)?;
        self.folder(folder)?.change(NameChange::Remove(name));
        Ok(())
    }

    pub(super) fn sync_folder(&mut self, path: &Path) -> io::Result<()> {
        let node = self.find(path)?;
        let folder = self.folder(node)?;
        folder.synced = folder.names.clone();
        folder.unsynced.clear();
        Ok(())
    }

    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        match &self.nodes[self.find(path)?.0] {
            Node::Folder(folder) => Ok(folder.names.keys().cloned().collect()),
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    pub(super) fn exists(&self, path: &Path) -> bool {
        self.find(path).is_ok()
    }

    pub(super) fn file_at(&self, path: &Path) -> io::Result<NodeId> {
        let node = self.find(path)?;
        self.content(node).map(|_| node)
    }

    pub(super) fn read(&self, node: NodeId, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let range = start..start.saturating_add(buffer.len());
        buffer.copy_from_slice(self.content(node)?.bytes.get(range).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    pub(super) fn len(&self, node: NodeId) -> io::Result<u64> {
        Ok(self.content(node)?.bytes.len() as u64)
    }

    pub(super) fn write(&mut self, node: NodeId, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.content_mut(node)?.change(Change::Write { offset, bytes: bytes.to_vec() });
        Ok(())
    }

    pub(super) fn grow(&mut self, node: NodeId, bytes: u64) -> io::Result<()> {
        self.content_mut(node)?.change(Change::Grow(bytes));
        Ok(())
    }

    pub(super) fn set_len(&mut self, node: NodeId, bytes: u64) -> io::Result<()> {
        self.content_mut(node)?.change(Change::SetLen(bytes));
        Ok(())
    }

    pub(super) fn sync_file(&mut self, node: NodeId) -> io::Result<()> {
        let file = self.content_mut(node)?;
        for change in std::mem::take(&mut file.unsynced) {
            change.apply(&mut file.synced);
        }
        debug_assert_eq!(file.synced, file.bytes);
        Ok(())
    }

    /// What is found after a power cut.
    pub(super) fn crash(&self, seed: u64) -> Self {
        let mut luck = Luck::new(seed);
        let nodes = self.nodes.iter().map(|node| match node {
            Node::Folder(folder) => {
                let names = folder.survivors(&mut luck);
                Node::Folder(Folder { synced: names.clone(), names, unsynced: Vec::new() })
            }
            Node::File(file) => {
                let bytes = file.survivors(&mut luck);
                Node::File(File { synced: bytes.clone(), bytes, unsynced: Vec::new() })
            }
        });
        Self { nodes: nodes.collect() }
    }

    fn add(&mut self, node: Node) -> NodeId {
        self.nodes.push(node);
        NodeId(self.nodes.len() - 1)
    }

    fn find(&self, path: &Path) -> io::Result<NodeId> {
        let mut at = ROOT;
        for name in names(path) {
            let Node::Folder(folder) = &self.nodes[at.0] else {
                return Err(io::ErrorKind::NotADirectory.into());
            };
            at = *folder.names.get(&name).ok_or(io::ErrorKind::NotFound)?;
        }
        Ok(at)
    }

    fn parent(&self, path: &Path) -> io::Result<(NodeId, OsString)> {
        match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => Ok((self.find(parent)?, name.to_owned())),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn folder(&mut self, node: NodeId) -> io::Result<&mut Folder> {
        match &mut self.nodes[node.0] {
            Node::Folder(folder) => Ok(folder),
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn content(&self, node: NodeId) -> io::Result<&File> {
        match &self.nodes[node.0] {
            Node::File(file) => Ok(file),
            Node::Folder(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn content_mut(&mut self, node: NodeId) -> io::Result<&mut File> {
        match &mut self.nodes[node.0] {
            Node::File(file) => Ok(file),
            Node::Folder(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }
}

impl Folder {
    fn change(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.unsynced.push(change);
    }

    /// A journal keeps the order of changes, so that the first ones survive; without one any of them may.
    fn survivors(&self, luck: &mut Luck) -> Names {
        let mut names = self.synced.clone();
        let in_order = luck.below(2) == 0;
        for change in &self.unsynced {
            if luck.keeps() {
                change.apply(&mut names);
            } else if in_order {
                break;
            }
        }
        names
    }
}

impl NameChange {
    fn apply(&self, names: &mut Names) {
        match self {
            Self::Add(name, node) => {
                names.insert(name.clone(), *node);
            }
            Self::Remove(name) => {
                names.remove(name);
            }
            Self::Rename { from, to, node } => {
                names.remove(from);
                names.insert(to.clone(), *node);
            }
        }
    }
}

impl File {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.bytes);
        self.unsynced.push(change);
    }

    fn survivors(&self, luck: &mut Luck) -> Vec<u8> {
        let mut bytes = self.synced.clone();
        for change in &self.unsynced {
            match change {
                Change::Write { offset, bytes: written } => {
                    for (start, sector) in sectors(*offset, written) {
                        if luck.keeps() {
                            write(&mut bytes, start, sector);
                        }
                    }
                }
                Change::Grow(_) | Change::SetLen(_) => {
                    if luck.keeps() {
                        change.apply(&mut bytes);
                    }
                }
            }
        }
        bytes
    }
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes: written } => write(bytes, *offset, written),
            Self::Grow(len) => bytes.resize(bytes.len().max(*len as usize), 0),
            Self::SetLen(len) => bytes.resize(*len as usize, 0),
        }
    }
}

fn write(bytes: &mut Vec<u8>, offset: u64, written: &[u8]) {
    let start = offset as usize;
    let end = start + written.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[start..end].copy_from_slice(written);
}

/// Cuts a write where the disk's sectors end.
fn sectors(offset: u64, bytes: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let mut rest = bytes;
    let mut at = offset;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let length = ((SECTOR_BYTES - at % SECTOR_BYTES) as usize).min(rest.len());
        let (sector, after) = rest.split_at(length);
        let start = at;
        (rest, at) = (after, at + length as u64);
        Some((start, sector))
    })
}

fn names(path: &Path) -> Vec<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            _ => None,
        })
        .collect()
}

/// Decides what survives. Each power cut has its own odds, so that "all of it" and "none of it" are tried as well.
struct Luck {
    state: u64,
    keep_in_eight: u64,
}

impl Luck {
    fn new(seed: u64) -> Self {
        let mut luck = Self { state: seed, keep_in_eight: 0 };
        luck.keep_in_eight = [0, 1, 4, 7, 8][luck.below(5) as usize];
        luck
    }

    fn keeps(&mut self) -> bool {
        self.below(8) < self.keep_in_eight
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// splitmix64.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
