//! Which files of a backup can be restored: verified as a whole before the first key is sent, or block by block while
//! their keys are sent.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZero;
use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread;

use super::blocks::{BLOCK, VerifiedFile};
use super::inspect::{Inspection, inspect};
use super::manifest::{FileFacts, Manifest};
use crate::cluster::functions::{Functions, library_name};
use crate::rdb::{Buffers, Encoding, Keep, Reader, Record};

/// The number of files that are verified at a time.
const READERS: usize = 4;

/// How the keys of a file are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// The file was verified to its end.
    Verified,
    /// Its beginning was verified; each further block is verified before any of its bytes are used.
    ByBlock,
}

/// A file whose keys can be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Restorable {
    /// What the file holds: what was read, or what the manifest says.
    pub found: Inspection,
    /// How its keys are read.
    pub reading: Reading,
}

/// Receives the number of bytes that were read of a file since the last call.
pub type TellRead<'a> = &'a (dyn Fn(&FileFacts, u64) + Sync);

/// Verifies a backup against its manifest. `tell` receives the number of bytes read.
///
/// Returns the contents of each file, or the faults by file if there are any.
pub fn verify(
    path: &Path,
    manifest: &Manifest,
    tell: TellRead<'_>,
) -> Result<BTreeMap<String, Inspection>, BTreeMap<String, String>> {
    for_each_file(manifest, |file| {
        drop_cached(&path.join(&file.file));
        read_whole(path, file, tell)
    })
}

/// Drops the pages of a file from the cache, so that its bytes are read from the disk. Other systems than Linux read what
/// they have.
fn drop_cached(path: &Path) {
    #[cfg(target_os = "linux")]
    if let Ok(file) = fs::File::open(path) {
        // Some file systems can't: then the cache answers.
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = path;
}

/// Verifies as much as is needed before the first key is sent: files with checksums of their blocks up to their first
/// key, the others to their end. `tell` receives the number of bytes read of the latter.
pub fn prepare(
    path: &Path,
    manifest: &Manifest,
    tell: TellRead<'_>,
) -> Result<BTreeMap<String, Restorable>, BTreeMap<String, String>> {
    for_each_file(manifest, |file| {
        if let Some(found) = read_beginning(path, file) {
            let reading = Reading::ByBlock;
            return Ok(Restorable { found, reading });
        }
        // Also if it is damaged: to say how.
        let found = read_whole(path, file, tell)?;
        let reading = Reading::Verified;
        Ok(Restorable { found, reading })
    })
}

fn read_whole(path: &Path, file: &FileFacts, tell: TellRead<'_>) -> Result<Inspection, String> {
    let found = inspect(&path.join(&file.file), &file.slots, &|bytes| {
        tell(file, bytes);
    });
    let mut found = found.map_err(|error| error.to_string())?;
    match file.found.differs(&found) {
        None => {
            found.blocks = file.found.blocks.clone();
            Ok(found)
        }
        Some(why) => Err(why),
    }
}

/// Reads a file up to its first key; function libraries stand before that. `None` if it must be read as a whole: it has
/// no checksums of blocks, it is damaged, or this version may read more or less of it than the one that saved it.
fn read_beginning(path: &Path, file: &FileFacts) -> Option<Inspection> {
    let saved = &file.found;
    let path = path.join(&file.file);
    let mut words = saved.encodings.keys();
    if saved.unread.is_some() || !words.all(|word| Encoding::of_word(word).is_some()) {
        return None;
    }
    let sums = saved.blocks.clone()?;
    if fs::metadata(&path).ok()?.len() != saved.bytes {
        return None;
    }
    let verified = VerifiedFile::open(&path, sums, saved.bytes).ok()?;
    let mut reader = Reader::with_buffers(verified, Keep::Nothing, Buffers::of(BLOCK)).ok()?;
    let mut libraries = Functions::default();
    loop {
        match reader.record().ok()? {
            Record::Function(code) => {
                if let Some(name) = library_name(&code) {
                    libraries.add(&name, &code);
                }
            }
            Record::Aux(..) | Record::ModuleAux(_) => {}
            Record::Entry(_) | Record::End(_) => break,
        }
    }
    Some(Inspection {
        libraries,
        ..saved.clone()
    })
}

/// Runs `read` on each file, some of them side by side.
fn for_each_file<T: Send>(
    manifest: &Manifest,
    read: impl Fn(&FileFacts) -> Result<T, String> + Sync,
) -> Result<BTreeMap<String, T>, BTreeMap<String, String>> {
    let files = Mutex::new(manifest.files.iter());
    let results = Mutex::new((BTreeMap::new(), BTreeMap::new()));
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        for _ in 0..READERS.min(cores) {
            scope.spawn(|| {
                loop {
                    let next = files.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some(file) = next else { break };
                    let result = read(file);
                    let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                    let (right, wrong) = &mut *results;
                    match result {
                        Ok(found) => drop(right.insert(file.file.clone(), found)),
                        Err(why) => drop(wrong.insert(file.file.clone(), why)),
                    }
                }
            });
        }
    });
    let (right, wrong) = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    match wrong.is_empty() {
        true => Ok(right),
        false => Err(wrong),
    }
}
