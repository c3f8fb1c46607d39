//! Folders of the simulated disk: names as the process sees them, and names as a crash would leave them.

use std::{
    collections::BTreeMap,
    io,
    path::{Component, Path},
};

use crate::{
    Rng,
    disk::faults::{Fault, Fired},
};

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    /// A file, by its number.
    File(u64),
    /// A folder, by its number.
    Dir(u64),
}

/// Changes that may wait for a sync: a file system writes its journal now and then of its own accord.
const PENDING_MAX: usize = 64;

/// The root folder's number.
const ROOT: u64 = 0;

#[derive(Clone, Debug, Default)]
struct Dir {
    live: BTreeMap<String, Node>,
    stable: BTreeMap<String, Node>,
}

/// One change of names that no folder sync has covered.
#[derive(Clone, Debug)]
enum Change {
    Link { dir: u64, name: String, node: Node },
    Unlink { dir: u64, name: String },
    Rename { from: (u64, String), to: (u64, String), node: Node },
}

impl Change {
    fn touches(&self, dir: u64) -> bool {
        match self {
            Change::Link { dir: at, .. } | Change::Unlink { dir: at, .. } => *at == dir,
            Change::Rename { from, to, .. } => from.0 == dir || to.0 == dir,
        }
    }
}

/// All folders.
#[derive(Clone, Debug)]
pub struct Names {
    dirs: BTreeMap<u64, Dir>,
    pending: Vec<Change>,
    next_dir: u64,
}

impl Names {
    /// An empty root.
    pub fn new() -> Self {
        Names { dirs: BTreeMap::from([(ROOT, Dir::default())]), pending: Vec::new(), next_dir: ROOT + 1 }
    }

    /// The folder at `path`.
    pub fn dir(&self, path: &Path) -> io::Result<u64> {
        let mut dir = ROOT;
        for part in parts(path)? {
            match self.dirs.get(&dir).and_then(|entries| entries.live.get(part)) {
                Some(Node::Dir(next)) => dir = *next,
                Some(Node::File(_)) => return Err(refused(io::ErrorKind::NotADirectory, path)),
                None => return Err(refused(io::ErrorKind::NotFound, path)),
            }
        }
        Ok(dir)
    }

    /// What is at `path`, if anything.
    pub fn find(&self, path: &Path) -> io::Result<Option<Node>> {
        let (dir, name) = self.parent(path)?;
        Ok(self.dirs.get(&dir).and_then(|entries| entries.live.get(name)).copied())
    }

    /// The names in the folder at `path`.
    pub fn list(&self, path: &Path) -> io::Result<Vec<(String, Node)>> {
        let dir = self.dir(path)?;
        let entries = self.dirs.get(&dir).into_iter().flat_map(|dir| &dir.live);
        Ok(entries.map(|(name, node)| (name.clone(), *node)).collect())
    }

    /// Gives the file `number` the name `path`, which must be free.
    pub fn link(&mut self, path: &Path, number: u64) -> io::Result<()> {
        self.apply_new(path, Node::File(number))
    }

    /// Creates the folder and its parents; answers how many it made.
    pub fn create_dir(&mut self, path: &Path) -> io::Result<usize> {
        let mut made = 0;
        let mut so_far = std::path::PathBuf::from("/");
        for part in parts(path)? {
            so_far.push(part);
            match self.find(&so_far)? {
                Some(Node::Dir(_)) => {}
                Some(Node::File(_)) => return Err(refused(io::ErrorKind::NotADirectory, &so_far)),
                None => {
                    let number = self.next_dir;
                    self.next_dir += 1;
                    self.dirs.insert(number, Dir::default());
                    self.apply_new(&so_far, Node::Dir(number))?;
                    made += 1;
                }
            }
        }
        Ok(made)
    }

    /// Takes the file's name away and returns its number.
    pub fn unlink(&mut self, path: &Path) -> io::Result<u64> {
        let number = self.file(path)?;
        let (dir, name) = self.parent(path)?;
        let change = Change::Unlink { dir, name: name.to_owned() };
        self.apply(change);
        Ok(number)
    }

    /// Renames a file; returns its number, and that of the file which it replaced.
    pub fn rename(&mut self, from: &Path, to: &Path) -> io::Result<(u64, Option<u64>)> {
        let number = self.file(from)?;
        let replaced = match self.find(to)? {
            Some(Node::Dir(_)) => return Err(refused(io::ErrorKind::IsADirectory, to)),
            Some(Node::File(replaced)) => Some(replaced),
            None => None,
        };
        let (from_dir, from_name) = self.parent(from)?;
        let (to_dir, to_name) = self.parent(to)?;
        let (from, to) = ((from_dir, from_name.to_owned()), (to_dir, to_name.to_owned()));
        self.apply(Change::Rename { from, to, node: Node::File(number) });
        Ok((number, replaced))
    }

    /// Makes the folder's names durable.
    pub fn sync(&mut self, path: &Path) -> io::Result<()> {
        let dir = self.dir(path)?;
        let (now, later) =
            std::mem::take(&mut self.pending).into_iter().partition(|change| change.touches(dir));
        self.pending = later;
        for change in Vec::from_iter::<Vec<Change>>(now) {
            self.apply_to(&change, |dir| &mut dir.stable);
        }
        Ok(())
    }

    /// The power goes. A journalling file system keeps a prefix of what no sync covered; a careless one keeps any part.
    pub fn crash(&mut self, rng: &mut Rng, fired: &mut Fired) {
        let pending = std::mem::take(&mut self.pending);
        let journalling = rng.permille(500);
        let kept = rng.index(pending.len() + 1);
        for (index, change) in pending.into_iter().enumerate() {
            let survives = if journalling { index < kept } else { rng.permille(500) };
            if survives {
                self.apply_to(&change, |dir| &mut dir.stable);
            } else {
                fired.count(Fault::NameLost);
            }
        }
        for dir in self.dirs.values_mut() {
            dir.live.clone_from(&dir.stable);
        }
    }

    /// Whether any name, durable or not, stands for the file.
    pub fn knows(&self, number: u64) -> bool {
        let named = |names: &BTreeMap<String, Node>| names.values().any(|node| *node == Node::File(number));
        self.dirs.values().any(|dir| named(&dir.live) || named(&dir.stable))
            || self.pending.iter().any(|change| match change {
                Change::Link { node, .. } | Change::Rename { node, .. } => *node == Node::File(number),
                Change::Unlink { .. } => false,
            })
    }

    fn file(&self, path: &Path) -> io::Result<u64> {
        match self.find(path)? {
            Some(Node::File(number)) => Ok(number),
            Some(Node::Dir(_)) => Err(refused(io::ErrorKind::IsADirectory, path)),
            None => Err(refused(io::ErrorKind::NotFound, path)),
        }
    }

    fn apply_new(&mut self, path: &Path, node: Node) -> io::Result<()> {
        if self.find(path)?.is_some() {
            return Err(refused(io::ErrorKind::AlreadyExists, path));
        }
        let (dir, name) = self.parent(path)?;
        let change = Change::Link { dir, name: name.to_owned(), node };
        self.apply(change);
        Ok(())
    }

    fn apply(&mut self, change: Change) {
        self.apply_to(&change, |dir| &mut dir.live);
        self.pending.push(change);
        if self.pending.len() > PENDING_MAX {
            let oldest = self.pending.remove(0);
            self.apply_to(&oldest, |dir| &mut dir.stable);
        }
    }

    fn apply_to(&mut self, change: &Change, side: fn(&mut Dir) -> &mut BTreeMap<String, Node>) {
        let mut put = |dir: &u64, name: &String, node: Option<Node>| {
            if let Some(entries) = self.dirs.get_mut(dir).map(side) {
                match node {
                    Some(node) => entries.insert(name.clone(), node),
                    None => entries.remove(name),
                };
            }
        };
        match change {
            Change::Link { dir, name, node } => put(dir, name, Some(*node)),
            Change::Unlink { dir, name } => put(dir, name, None),
            Change::Rename { from, to, node } => {
                put(&from.0, &from.1, None);
                put(&to.0, &to.1, Some(*node));
            }
        }
    }

    fn parent<'p>(&self, path: &'p Path) -> io::Result<(u64, &'p str)> {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| refused(io::ErrorKind::InvalidInput, path))?;
        Ok((self.dir(path.parent().unwrap_or(Path::new("/")))?, name))
    }
}

fn parts(path: &Path) -> io::Result<Vec<&str>> {
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(part) => {
                parts.push(part.to_str().ok_or_else(|| refused(io::ErrorKind::InvalidInput, path))?);
            }
            Component::ParentDir | Component::Prefix(_) => {
                return Err(refused(io::ErrorKind::InvalidInput, path));
            }
        }
    }
    Ok(parts)
}

fn refused(kind: io::ErrorKind, path: &Path) -> io::Error {
    io::Error::new(kind, format!("{}: {kind}", path.display()))
}
