//! The files of a backup on the disk.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ring::digest::{Context, SHA256};

use super::inspect::hex;

/// What a file is called until it is whole.
const UNFINISHED: &str = ".partial";

/// Why something can't be kept.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is something in it.
    #[error("{} is not empty: a backup has a directory of its own", .0.display())]
    NotEmpty(PathBuf),
    /// The operating system says no.
    #[error("{}: can't be {what}: {error}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was to be done with it.
        what: &'static str,
        /// Its words.
        error: io::Error,
    },
}

fn failed<'a>(path: &'a Path, what: &'static str) -> impl FnOnce(io::Error) -> StoreError + 'a {
    move |error| StoreError::Io {
        path: path.to_path_buf(),
        what,
        error,
    }
}

/// An empty directory to be filled. Only its owner may look into it: whoever reads a backup reads
/// all data.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// Makes it, or takes one that is empty.
    pub fn prepare(path: &Path) -> Result<Self, StoreError> {
        let mut builder = DirBuilder::new();
        match builder.recursive(false).mode(0o700).create(path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Self::refuse_full(path)?;
            }
            Err(error) => return Err(failed(path, "made")(error)),
        }
        let path = path.to_path_buf();
        Ok(Self { path })
    }

    /// Refuses one with anything in it; one that does not exist is fine.
    pub fn refuse_full(path: &Path) -> Result<(), StoreError> {
        match fs::read_dir(path) {
            Ok(mut entries) => match entries.next() {
                None => Ok(()),
                Some(_) => Err(StoreError::NotEmpty(path.to_path_buf())),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failed(path, "read")(error)),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Begins a file.
    pub fn file(&self, name: &str) -> Result<Unfinished<'_>, StoreError> {
        let path = self.path.join(format!("{name}{UNFINISHED}"));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed(&path, "made"))?;
        Ok(Unfinished {
            directory: self,
            file,
            name: name.to_string(),
            path,
            context: Context::new(&SHA256),
            is_published: false,
        })
    }

    /// Takes back what was prepared, where nothing came into it.
    pub fn forsake(&self) {
        // One that is not empty stays.
        let _ = fs::remove_dir(&self.path);
    }
}

/// A file that is not whole yet. Dropped before it is, it goes.
pub struct Unfinished<'a> {
    directory: &'a Directory,
    file: File,
    name: String,
    path: PathBuf,
    context: Context,
    is_published: bool,
}

impl Unfinished<'_> {
    /// Where it is for now.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// More of it.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.context.update(bytes);
        self.file
            .write_all(bytes)
            .map_err(failed(&self.path, "written"))
    }

    /// Until the disk has it.
    pub fn sync(&mut self) -> Result<(), StoreError> {
        self.file
            .sync_all()
            .map_err(failed(&self.path, "written to the disk"))
    }

    /// SHA-256 of what was written, in hex digits.
    pub fn sha256(&self) -> String {
        hex(self.context.clone())
    }

    /// Gives it its name, for good.
    pub fn publish(mut self) -> Result<String, StoreError> {
        let path = self.directory.path.join(&self.name);
        fs::rename(&self.path, &path).map_err(failed(&path, "renamed"))?;
        self.is_published = true;
        File::open(&self.directory.path)
            .and_then(|directory| directory.sync_all())
            .map_err(failed(&self.directory.path, "written to the disk"))?;
        Ok(self.name.clone())
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if !self.is_published {
            // Where even that fails it still has no name that a backup's file has.
            let _ = fs::remove_file(&self.path);
        }
    }
}
