//! The files of a backup on the disk.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The suffix of a file that is not complete.
const UNFINISHED: &str = ".partial";

/// Why a file can't be stored.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory is not empty.
    #[error("{} is not empty: give a directory that does not exist or is empty", .0.display())]
    NotEmpty(PathBuf),
    /// The operating system reports an error.
    #[error("{}: can't be {what}: {error}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The operation, as a participle.
        what: &'static str,
        /// The operating system's error.
        error: io::Error,
    },
    /// The file system has fewer or more bytes than were written.
    #[error("{}: {found} bytes are on the disk after {written} were written", .path.display())]
    Length {
        /// The file.
        path: PathBuf,
        /// Bytes written.
        written: u64,
        /// Bytes found.
        found: u64,
    },
}

fn failed<'a>(path: &'a Path, what: &'static str) -> impl FnOnce(io::Error) -> StoreError + 'a {
    move |error| StoreError::Io {
        path: path.to_path_buf(),
        what,
        error,
    }
}

/// The directory of a new backup. Only its owner may read it: a backup contains all data.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// Creates the directory, or uses an empty one.
    pub fn prepare(path: &Path) -> Result<Self, StoreError> {
        let mut builder = DirBuilder::new();
        match builder.recursive(false).mode(0o700).create(path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Self::refuse_full(path)?;
            }
            Err(error) => return Err(failed(path, "created")(error)),
        }
        let path = path.to_path_buf();
        Ok(Self { path })
    }

    /// Refuses a directory that is not empty; one that does not exist is accepted.
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

    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Creates a file under a temporary name.
    pub fn file(&self, name: &str) -> Result<Unfinished, StoreError> {
        let path = self.path.join(format!("{name}{UNFINISHED}"));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed(&path, "created"))?;
        Ok(Unfinished {
            directory: self.path.clone(),
            file,
            name: name.to_string(),
            path,
            written: 0,
            is_published: false,
        })
    }

    /// Removes the directory if no file was written.
    pub fn remove_if_empty(&self) {
        // A directory that is not empty stays.
        let _ = fs::remove_dir(&self.path);
    }
}

/// A file that is not complete. It is deleted when it is dropped.
pub struct Unfinished {
    directory: PathBuf,
    file: File,
    name: String,
    path: PathBuf,
    written: u64,
    is_published: bool,
}

impl Unfinished {
    /// Appends bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.file
            .write_all(bytes)
            .map_err(failed(&self.path, "written"))?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Syncs the file to the disk, which reports what could not be written, and compares its length.
    pub fn sync(&mut self) -> Result<(), StoreError> {
        let synced = self.file.sync_all().and_then(|()| self.file.metadata());
        let found = synced
            .map_err(failed(&self.path, "written to the disk"))?
            .len();
        let written = self.written;
        match found == written {
            true => Ok(()),
            false => Err(StoreError::Length {
                path: self.path.clone(),
                written,
                found,
            }),
        }
    }

    /// Renames the file to its final name.
    pub fn publish(mut self) -> Result<String, StoreError> {
        let path = self.directory.join(&self.name);
        fs::rename(&self.path, &path).map_err(failed(&path, "renamed"))?;
        self.is_published = true;
        File::open(&self.directory)
            .and_then(|directory| directory.sync_all())
            .map_err(failed(&self.directory, "written to the disk"))?;
        Ok(self.name.clone())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.is_published {
            // If that fails, the file keeps its temporary name and is not part of the backup.
            let _ = fs::remove_file(&self.path);
        }
    }
}
