//! Folders of files, as a folder or as a tar archive.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::DataError;
use super::catalog::{Located, Locations, Manifest, load, locate};
use super::download::Progress;

/// Files by their path, with `/`. Those of an archive are held in memory, those of a folder are read when they are asked
/// for.
#[derive(Clone, Debug)]
pub enum Tree {
    /// Files below a folder.
    Folder(PathBuf),
    /// Files of an archive.
    Archive {
        /// The archive, to be named in errors.
        path: PathBuf,
        /// Contents of its files.
        files: BTreeMap<String, Vec<u8>>,
    },
}

impl Tree {
    /// Opens an archive of a data set, packed or unpacked. The archive's members must lie below one folder that is called
    /// as the archive is, as `BCCD/` is in `bccd/BCCD.tar`.
    pub fn open(
        manifest: &Manifest,
        archive: &str,
        locations: &Locations,
        progress: Progress,
    ) -> Result<Self, DataError> {
        if let Ok(Located::Unpacked(folder)) = locate(manifest, archive, locations) {
            return Ok(Self::Folder(folder.parent().unwrap_or(&folder).to_owned()));
        }
        let (path, content) = load(manifest, archive, locations, progress)?;
        Self::from_tar(&content, &path)
    }

    /// Reads the members of an uncompressed tar archive. `path` is named in errors.
    pub fn from_tar(content: &[u8], path: &Path) -> Result<Self, DataError> {
        let damaged = |error: std::io::Error| DataError::Format {
            path: path.to_owned(),
            reason: format!("the tar archive is damaged or cut short ({error})"),
        };
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(content).entries().map_err(damaged)? {
            let mut entry = entry.map_err(damaged)?;
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).map_err(damaged)?;
            if bytes.len() as u64 != entry.size() {
                return Err(damaged(std::io::ErrorKind::UnexpectedEof.into()));
            }
            files.insert(name.trim_start_matches("./").to_owned(), bytes);
        }
        if files.is_empty() {
            return Err(DataError::Empty {
                path: path.to_owned(),
                expected: "a tar archive of files is expected".to_owned(),
            });
        }
        Ok(Self::Archive { path: path.to_owned(), files })
    }

    /// The folder or archive.
    pub fn path(&self) -> &Path {
        match self {
            Self::Folder(path) | Self::Archive { path, .. } => path,
        }
    }

    /// What to call a file in errors.
    pub fn path_of(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// The content of a file.
    pub fn read(&self, name: &str) -> Result<Cow<'_, [u8]>, DataError> {
        match self {
            Self::Folder(folder) => {
                let path = folder.join(name);
                let content = fs::read(&path);
                content.map(Cow::Owned).map_err(|source| DataError::Io {
                    action: "read",
                    path,
                    source,
                })
            }
            Self::Archive { path, files } => {
                let content = files.get(name).map(|content| Cow::Borrowed(content.as_slice()));
                content.ok_or_else(|| DataError::Format {
                    path: path.clone(),
                    reason: format!("the archive has no file {name}"),
                })
            }
        }
    }

    /// The files directly inside a folder, by their paths, in ascending order.
    pub fn list(&self, folder: &str) -> Result<Vec<String>, DataError> {
        match self {
            Self::Folder(root) => {
                let names = file_names(&root.join(folder))?;
                Ok(names.into_iter().map(|name| format!("{folder}/{name}")).collect())
            }
            Self::Archive { files, .. } => {
                let inside = |name: &&String| {
                    let rest = name.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/'));
                    rest.is_some_and(|rest| !rest.contains('/'))
                };
                Ok(files.keys().filter(inside).cloned().collect())
            }
        }
    }
}

/// The names of the files in a folder, in ascending order. Hidden ones, such as `.DS_Store`, are passed over.
pub(super) fn file_names(folder: &Path) -> Result<Vec<String>, DataError> {
    entries(folder, Path::is_file)
}

/// The names of the folders in a folder, in ascending order, without hidden ones.
pub(super) fn folder_names(folder: &Path) -> Result<Vec<String>, DataError> {
    entries(folder, Path::is_dir)
}

fn entries(folder: &Path, wanted: fn(&Path) -> bool) -> Result<Vec<String>, DataError> {
    let failed = |source| DataError::Io { action: "list", path: folder.to_owned(), source };
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        // Links are followed: large data sets are often laid out with them.
        let path = entry.map_err(failed)?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            return Err(DataError::Format {
                path: path.clone(),
                reason: "the name is not UTF-8: rename it".to_owned(),
            });
        };
        if wanted(&path) && !name.starts_with('.') {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Packs files as a tar archive, for tests.
#[cfg(test)]
pub(super) fn pack(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append_data(&mut header, name, *content).expect("writing to memory succeeds");
    }
    builder.into_inner().expect("writing to memory succeeds")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: [(&str, &[u8]); 4] =
        [("R/b/2.txt", b"two"), ("R/b/1.txt", b"one"), ("R/b/c/3.txt", b"three"), ("R/0.txt", b"")];

    #[test]
    fn an_archive_and_a_folder_read_alike() {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in FILES {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        fs::write(folder.path().join("R/b/.hidden"), "").unwrap();
        let archive = Tree::from_tar(&pack(&FILES), Path::new("R.tar")).unwrap();
        for tree in [archive, Tree::Folder(folder.path().to_owned())] {
            assert_eq!(tree.list("R/b").unwrap(), ["R/b/1.txt", "R/b/2.txt"]);
            for (name, content) in FILES {
                assert_eq!(*tree.read(name).unwrap(), *content);
            }
            let error = tree.read("R/b/4.txt").unwrap_err();
            assert!(error.to_string().contains("R/b/4.txt"), "{error}");
        }
    }

    #[test]
    fn a_damaged_archive_is_refused() {
        let whole = pack(&FILES);
        for content in [&whole[..700], &whole[..513], b"no archive at all", &whole[..0]] {
            let error = Tree::from_tar(content, Path::new("R.tar")).unwrap_err();
            assert!(error.to_string().starts_with("R.tar: "), "{error}");
        }
    }
}
