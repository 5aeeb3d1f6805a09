//! The catalog: which data sets exist, which files they have, and where those files are.
//!
//! One manifest `datasets/<name>.toml` describes a data set: origin, licence, and size and checksum of every file. Sizes
//! and checksums are those of the *uncompressed* content, so that a plain file, a gzipped one, and one gzipped again by
//! somebody else all verify.
//!
//! A file `sst2/train.tsv` is looked for in the data folder ([`Locations::data_dir`]), then in the cache folder, in each as
//! `sst2/train.tsv` and as `sst2/train.tsv.gz`. If it is in neither, [`load`] downloads it into the cache folder.
//!
//! An archive is a file like any other, `bccd/BCCD.tar`, which is also found as `bccd/BCCD.tar.gz`. In the data folder it
//! may be unpacked as well, as the folder `bccd/BCCD`; [`Tree`](super::tree::Tree) reads its members in either form.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::download::{Progress, fetch_file};
use super::{DataError, gzip};

/// What a data set is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskKind {
    /// One class for an image.
    ImageClassification,
    /// Boxes around the objects of an image, with a class each.
    ObjectDetection,
    /// One class for a recording of speech.
    SpeechClassification,
    /// The next word of a text.
    LanguageModelling,
    /// One class for a sentence.
    SentenceClassification,
    /// One class for two sentences.
    SentencePairClassification,
    /// A number for two sentences.
    SentencePairRegression,
    /// One class for a sentence and one for each of its words.
    IntentAndSlots,
    /// A sentence for a sentence.
    Translation,
    /// One class for a sequence of tokens that is no natural language.
    SequenceClassification,
}

/// Description of a data set, read from `datasets/<name>.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Manifest {
    /// Name used in configurations and commands.
    pub name: String,
    /// Name for readers.
    pub title: String,
    /// What the data set is made for.
    pub task: TaskKind,
    /// Where it comes from.
    pub origin: String,
    /// Licence as the origin states it.
    pub licence: String,
    /// Whom to cite.
    pub attribution: String,
    /// Whether the program carries or generates the data and needs no file.
    pub built_in: bool,
    /// The files. Generated data has none.
    #[serde(default, rename = "file")]
    pub files: Vec<DataFile>,
}

/// One file of a data set.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DataFile {
    /// Path below a data folder, with `/`, without `.gz`.
    pub path: String,
    /// Size of the uncompressed content.
    pub bytes: u64,
    /// SHA-256 of the uncompressed content, as lower-case hexadecimal digits. Without it only the size is checked.
    pub sha256: Option<String>,
    /// Whether the data set can be used without this file.
    #[serde(default)]
    pub optional: bool,
    /// Where it can be downloaded: the file itself (plain or gzipped), or a zip or tar.gz archive if `member` is given.
    pub url: Option<String>,
    /// Path inside the archive at `url`.
    pub member: Option<String>,
}

/// Folders that hold data, and whether downloading is allowed.
#[derive(Clone, Debug)]
pub struct Locations {
    /// Folder that the user named; looked in first and never written to.
    pub data_dir: Option<PathBuf>,
    /// Folder for downloads.
    pub cache_dir: PathBuf,
    /// Whether to fail instead of downloading.
    pub offline: bool,
}

/// Where a file was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Located {
    /// Inside the program.
    BuiltIn(&'static [u8]),
    /// In the folder that the user named.
    DataDir(PathBuf),
    /// In the folder that the user named: the folder that an archive was unpacked to.
    Unpacked(PathBuf),
    /// In the cache folder.
    Cache(PathBuf),
}

/// Result of verifying one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileStatus {
    /// Path below a data folder, as in the manifest.
    pub file: String,
    /// Whether the data set can be used without it.
    pub optional: bool,
    /// Where it was found; `None` if it is built in or missing.
    pub path: Option<PathBuf>,
    /// What was found.
    pub state: FileState,
}

/// State of a file of a data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileState {
    /// Size and checksum are those of the manifest.
    Ok,
    /// An archive that is unpacked. Its checksum says nothing about a folder.
    Unpacked,
    /// In none of the folders.
    Missing {
        /// Folders looked in, in order.
        looked: Vec<PathBuf>,
    },
    /// Present, but not the published content.
    Corrupt {
        /// Size and checksum of the manifest.
        expected: String,
        /// Size and checksum of the file, or why it cannot be read.
        found: String,
    },
}

static CATALOG: LazyLock<Vec<Manifest>> = LazyLock::new(|| {
    [
        include_str!("../../datasets/optdigits.toml"),
        include_str!("../../datasets/sst2.toml"),
        include_str!("../../datasets/listops.toml"),
        include_str!("../../datasets/digit-scenes.toml"),
        include_str!("../../datasets/tone-digits.toml"),
        include_str!("../../datasets/word-chain.toml"),
        include_str!("../../datasets/requests.toml"),
        include_str!("../../datasets/scan.toml"),
        include_str!("../../datasets/fashion-mnist.toml"),
        include_str!("../../datasets/cifar-10.toml"),
        include_str!("../../datasets/bccd.toml"),
        include_str!("../../datasets/fsdd.toml"),
        include_str!("../../datasets/wikitext-2.toml"),
        include_str!("../../datasets/ptb.toml"),
        include_str!("../../datasets/cola.toml"),
        include_str!("../../datasets/mrpc.toml"),
        include_str!("../../datasets/rte.toml"),
        include_str!("../../datasets/stsb.toml"),
        include_str!("../../datasets/snips.toml"),
        include_str!("../../datasets/atis.toml"),
        include_str!("../../datasets/multi30k.toml"),
    ]
    .into_iter()
    .map(|text| toml::from_str(text).expect("the manifests of this crate are valid"))
    .collect()
});

/// Files that are part of the program, by their path in the manifest.
const BUILT_IN: &[(&str, &[u8])] =
    &[("optdigits/digits.csv", include_bytes!("../../datasets/optdigits/digits.csv.gz"))];

/// Every known data set.
pub fn catalog() -> &'static [Manifest] {
    &CATALOG
}

/// The manifest of the data set called `name`.
pub fn manifest(name: &str) -> Result<&'static Manifest, DataError> {
    let found = CATALOG.iter().find(|manifest| manifest.name == name);
    found.ok_or_else(|| {
        let names = || CATALOG.iter().map(|manifest| manifest.name.as_str());
        let (distance, closest) = names()
            .map(|known| (edit_distance(&name.to_lowercase(), known), known))
            .min()
            .expect("the catalog is not empty");
        DataError::UnknownDataset {
            name: name.to_owned(),
            known: names().collect::<Vec<_>>().join(", "),
            // Beyond a third of the name wrong, a suggestion confuses more than it helps.
            closest: (distance <= 1 + closest.len() / 3).then(|| closest.to_owned()),
        }
    })
}

impl Manifest {
    /// The file with this path.
    pub fn file(&self, path: &str) -> Result<&DataFile, DataError> {
        let found = self.files.iter().find(|file| file.path == path);
        found.ok_or_else(|| DataError::UnknownFile {
            dataset: self.name.clone(),
            file: path.to_owned(),
            known: self.files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>().join(", "),
        })
    }

    /// The error for a file that is in none of the folders.
    pub(super) fn not_found(&self, file: &DataFile, locations: &Locations) -> DataError {
        DataError::NotFound {
            dataset: self.name.clone(),
            file: file.path.clone(),
            looked: locations.folders(),
            offline: locations.offline,
            by_hand: file.url.is_none().then(|| self.origin.clone()),
        }
    }
}

impl DataFile {
    /// Checks uncompressed content against the manifest. The error holds what is expected and what was found.
    pub(super) fn check(&self, content: &[u8]) -> Result<(), (String, String)> {
        let checksum = self.sha256.as_ref().map(|_| sha256(content));
        let found = describe(content.len() as u64, checksum.as_deref());
        let expected = self.expected();
        if found == expected { Ok(()) } else { Err((expected, found)) }
    }

    fn expected(&self) -> String {
        describe(self.bytes, self.sha256.as_deref())
    }
}

fn describe(bytes: u64, sha256: Option<&str>) -> String {
    match sha256 {
        Some(sha256) => format!("{bytes} bytes with sha256 {sha256}"),
        None => format!("{bytes} bytes"),
    }
}

impl Locations {
    /// Reads the environment. An explicit `data_dir` has priority over `AUSN_DATA_DIR`.
    ///
    /// | variable | meaning | without it |
    /// |---|---|---|
    /// | `AUSN_DATA_DIR` | folder that holds data | none |
    /// | `AUSN_CACHE_DIR` | folder below which downloads go, in `datasets/` | `ausn/` in the user's cache folder, or `.ausn-cache/` if the system names none |
    /// | `AUSN_OFFLINE` | no download, unless empty, `0`, `false` or `no` | downloads allowed |
    pub fn from_env(data_dir: Option<PathBuf>) -> Self {
        Self::from_variables(data_dir, |name| std::env::var_os(name))
    }

    fn from_variables(
        data_dir: Option<PathBuf>,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Self {
        let folder =
            |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let cache = folder("AUSN_CACHE_DIR")
            .or_else(|| dirs::cache_dir().map(|folder| folder.join("ausn")))
            .unwrap_or_else(|| PathBuf::from(".ausn-cache"));
        let offline = variable("AUSN_OFFLINE").is_some_and(|value| {
            !["", "0", "false", "no"].contains(&value.to_string_lossy().to_lowercase().as_str())
        });
        Self {
            data_dir: data_dir.or_else(|| folder("AUSN_DATA_DIR")),
            cache_dir: cache.join("datasets"),
            offline,
        }
    }

    /// Refuses a data folder that does not exist: a mistyped one would otherwise go unnoticed and be replaced by a
    /// download.
    ///
    /// # Errors
    ///
    /// [`DataError::InvalidSetting`] if the folder does not exist.
    pub fn check(&self) -> Result<(), DataError> {
        match &self.data_dir {
            Some(folder) if !folder.is_dir() => Err(DataError::InvalidSetting {
                key: "data-dir".to_owned(),
                found: folder.display().to_string(),
                allowed: "there is no such folder (it comes from --data-dir or AUSN_DATA_DIR)"
                    .to_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// Folders in the order in which they are looked in.
    pub(super) fn folders(&self) -> Vec<PathBuf> {
        self.data_dir.iter().chain([&self.cache_dir]).cloned().collect()
    }
}

/// Finds a file of a data set, without downloading or reading it.
pub fn locate(
    manifest: &Manifest,
    file: &str,
    locations: &Locations,
) -> Result<Located, DataError> {
    let file = manifest.file(file)?;
    if manifest.built_in {
        let (_, content) = BUILT_IN
            .iter()
            .find(|(path, _)| *path == file.path)
            .expect("every file of a built-in data set is part of the program");
        return Ok(Located::BuiltIn(content));
    }
    locations.check()?;
    let in_folder = |folder: &Path| {
        [file.path.clone(), format!("{}.gz", file.path)]
            .into_iter()
            .map(|name| folder.join(name))
            .find(|path| path.is_file())
    };
    if let Some(folder) = &locations.data_dir {
        let unpacked = file.path.strip_suffix(".tar").map(|name| folder.join(name));
        if let Some(path) = unpacked.filter(|path| path.is_dir()) {
            return Ok(Located::Unpacked(path));
        }
        if let Some(path) = in_folder(folder) {
            return Ok(Located::DataDir(path));
        }
    }
    match in_folder(&locations.cache_dir) {
        Some(path) => Ok(Located::Cache(path)),
        None => Err(manifest.not_found(file, locations)),
    }
}

/// The uncompressed content of a file, and the path to name in errors about it. A file that is in no folder is downloaded
/// unless [`Locations::offline`] is set.
///
/// Content that differs from the manifest is an error in the cache folder, where only verified files are put. In the
/// user's own folder it is a warning: a shortened or edited copy is a legitimate input there, but results are then not
/// comparable with published ones.
pub fn load(
    manifest: &Manifest,
    file: &str,
    locations: &Locations,
    progress: Progress,
) -> Result<(PathBuf, Vec<u8>), DataError> {
    let located = match locate(manifest, file, locations) {
        Err(DataError::NotFound { .. }) if !locations.offline => {
            Located::Cache(fetch_file(manifest, file, locations, progress)?)
        }
        other => other?,
    };
    let (path, content) = read(&located, file)?;
    if let Err((expected, found)) = manifest.file(file)?.check(&content) {
        match located {
            Located::DataDir(_) => tracing::warn!(
                "{} is not the published file: expected {expected}, found {found}",
                path.display()
            ),
            Located::BuiltIn(_) | Located::Unpacked(_) | Located::Cache(_) => {
                return Err(DataError::Corrupt {
                    dataset: manifest.name.clone(),
                    path,
                    expected,
                    found,
                });
            }
        }
    }
    Ok((path, content))
}

/// Compares every file of a data set with its manifest. Each file is taken from the place where [`load`] would take it.
pub fn verify(manifest: &Manifest, locations: &Locations) -> Vec<FileStatus> {
    let status = |file: &DataFile| {
        let located = locate(manifest, &file.path, locations);
        let state = match &located {
            Err(_) => FileState::Missing { looked: locations.folders() },
            Ok(Located::Unpacked(_)) => FileState::Unpacked,
            Ok(located) => match read(located, &file.path) {
                Ok((_, content)) => match file.check(&content) {
                    Ok(()) => FileState::Ok,
                    Err((expected, found)) => FileState::Corrupt { expected, found },
                },
                Err(error) => {
                    FileState::Corrupt { expected: file.expected(), found: error.to_string() }
                }
            },
        };
        let path = located.ok().and_then(|located| located.path().map(Path::to_owned));
        FileStatus { file: file.path.clone(), optional: file.optional, path, state }
    };
    manifest.files.iter().map(status).collect()
}

impl Located {
    /// The path, unless the file is built in.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::BuiltIn(_) => None,
            Self::DataDir(path) | Self::Unpacked(path) | Self::Cache(path) => Some(path),
        }
    }
}

fn read(located: &Located, file: &str) -> Result<(PathBuf, Vec<u8>), DataError> {
    let (path, raw) = match located {
        Located::BuiltIn(content) => {
            (PathBuf::from(format!("{file} (built in)")), content.to_vec())
        }
        Located::DataDir(path) | Located::Unpacked(path) | Located::Cache(path) => {
            let raw = fs::read(path).map_err(|source| DataError::Io {
                action: "read",
                path: path.clone(),
                source,
            })?;
            (path.clone(), raw)
        }
    };
    match gzip::unpack(raw) {
        Ok(content) => Ok((path, content)),
        Err(source) => Err(DataError::Gzip { path, source }),
    }
}

pub(super) fn sha256(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Levenshtein distance: insertions, deletions and replacements that turn one word into the other.
fn edit_distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Manifest {
        let content = b"hello\n";
        toml::from_str(&format!(
            r#"
            name = "sample"
            title = "Sample"
            task = "sentence-classification"
            origin = "a test"
            licence = "none"
            attribution = "nobody"
            built-in = false
            [[file]]
            path = "sample/a.tsv"
            bytes = {}
            sha256 = "{}"
            "#,
            content.len(),
            sha256(content)
        ))
        .unwrap()
    }

    fn downloadable() -> Manifest {
        let mut manifest = sample();
        manifest.files[0].url = Some("https://example.org/a.tsv".to_owned());
        manifest
    }

    fn offline(data_dir: Option<&Path>, cache_dir: &Path) -> Locations {
        Locations {
            data_dir: data_dir.map(Path::to_owned),
            cache_dir: cache_dir.to_owned(),
            offline: true,
        }
    }

    fn put(folder: &Path, name: &str, content: &[u8]) -> PathBuf {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    #[test]
    fn manifests_are_sound() {
        let mut names: Vec<_> = catalog().iter().map(|m| m.name.as_str()).collect();
        assert_eq!(names[..3], ["optdigits", "sst2", "listops"]);
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), catalog().len(), "no name occurs twice");
        for manifest in catalog() {
            let glue = ["cola", "mrpc", "rte", "stsb"].contains(&manifest.name.as_str());
            let folder = if glue { "glue" } else { &manifest.name };
            for file in &manifest.files {
                assert!(file.path.starts_with(&format!("{folder}/")), "{}", file.path);
                assert!(!file.path.contains("..") && !file.path.ends_with(".gz"));
                assert!(file.bytes > 0);
                assert!(file.sha256.as_ref().map_or(file.optional, |sha256| sha256.len() == 64));
                assert!(!manifest.built_in || file.url.is_none(), "{}", file.path);
                assert!(file.member.is_none() || file.url.is_some(), "{}", file.path);
            }
        }
    }

    #[test]
    fn built_in_data_verifies_without_any_folder() {
        let nowhere = offline(None, Path::new("/nonexistent"));
        for manifest in catalog().iter().filter(|manifest| manifest.built_in) {
            for status in verify(manifest, &nowhere) {
                assert_eq!(status.state, FileState::Ok, "{}", status.file);
                assert_eq!(status.path, None);
            }
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_closest() {
        let message = |name: &str| {
            let error = manifest(name).unwrap_err();
            assert!(error.is_user_error());
            error.to_string()
        };
        assert!(message("sst-2").contains("did you mean `sst2`?"));
        assert!(message("ListOp").contains("did you mean `listops`?"));
        let unrelated = message("imagenet");
        assert!(!unrelated.contains("did you mean"), "{unrelated}");
        assert!(unrelated.contains("Known: optdigits, sst2, listops"), "{unrelated}");
    }

    #[test]
    fn an_unknown_file_is_answered_with_the_known_ones() {
        let error = manifest("sst2").unwrap().file("sst2/test.tsv").unwrap_err();
        assert!(error.to_string().contains("sst2/train.tsv, sst2/dev.tsv"), "{error}");
    }

    #[test]
    fn the_data_folder_comes_before_the_cache_and_plain_before_gzip() {
        let (data, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let locations = offline(Some(data.path()), cache.path());
        let found = || locate(&sample(), "sample/a.tsv", &locations).unwrap();

        let path = put(cache.path(), "sample/a.tsv.gz", &gzip::pack(b"hello\n"));
        assert_eq!(found(), Located::Cache(path));
        let path = put(data.path(), "sample/a.tsv.gz", &gzip::pack(b"hello\n"));
        assert_eq!(found(), Located::DataDir(path));
        let path = put(data.path(), "sample/a.tsv", b"hello\n");
        assert_eq!(found(), Located::DataDir(path));
    }

    #[test]
    fn an_unpacked_archive_is_found_in_the_data_folder_only() {
        let (data, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let locations = offline(Some(data.path()), cache.path());
        let mut archive = sample();
        archive.files[0].path = "sample/a.tar".to_owned();
        let found = || locate(&archive, "sample/a.tar", &locations);

        put(cache.path(), "sample/a/member.txt", b"hello\n");
        assert!(matches!(found().unwrap_err(), DataError::NotFound { .. }));
        let packed = put(data.path(), "sample/a.tar.gz", &gzip::pack(b"hello\n"));
        assert_eq!(found().unwrap(), Located::DataDir(packed));
        put(data.path(), "sample/a/member.txt", b"hello\n");
        assert_eq!(found().unwrap(), Located::Unpacked(data.path().join("sample/a")));
        assert_eq!(verify(&archive, &locations)[0].state, FileState::Unpacked);
    }

    #[test]
    fn a_file_without_checksum_is_checked_by_its_size() {
        let mut file = sample().files.remove(0);
        file.sha256 = None;
        assert_eq!(file.check(b"HELLO\n"), Ok(()));
        assert_eq!(file.check(b"hello"), Err(("6 bytes".to_owned(), "5 bytes".to_owned())));
    }

    #[test]
    fn a_missing_file_names_the_places_and_the_remedy() {
        let (data, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut locations = offline(Some(data.path()), cache.path());
        let message = |manifest: &Manifest, locations: &Locations| {
            let error = locate(manifest, "sample/a.tsv", locations).unwrap_err();
            assert!(!error.is_user_error());
            error.to_string()
        };
        let text = message(&downloadable(), &locations);
        for part in [
            "sample/a.tsv",
            ".gz",
            &data.path().display().to_string(),
            &cache.path().display().to_string(),
            "offline",
        ] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
        locations.offline = false;
        let text = message(&downloadable(), &locations);
        assert!(text.contains("ausn datasets fetch sample"), "{text}");
        let text = message(&sample(), &locations);
        assert!(text.contains("get it from a test") && !text.contains("fetch"), "{text}");
    }

    #[test]
    fn a_mistyped_data_folder_is_refused() {
        let cache = tempfile::tempdir().unwrap();
        put(cache.path(), "sample/a.tsv", b"hello\n");
        let locations = offline(Some(Path::new("/no/data")), cache.path());
        let error = locate(&sample(), "sample/a.tsv", &locations).unwrap_err();
        assert!(error.is_user_error(), "{error}");
        assert!(error.to_string().contains("data-dir = /no/data"), "{error}");
    }

    #[test]
    fn load_unpacks_and_tells_user_files_from_cached_ones() {
        let (data, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let locations = offline(Some(data.path()), cache.path());
        let load = || load(&sample(), "sample/a.tsv", &locations, Progress::Silent);

        put(cache.path(), "sample/a.tsv", b"hellO\n");
        let error = load().unwrap_err();
        assert!(matches!(error, DataError::Corrupt { .. }), "{error}");
        assert!(error.to_string().contains(sample().files[0].sha256.as_ref().unwrap()));

        put(cache.path(), "sample/a.tsv", &gzip::pack(b"hello\n"));
        assert_eq!(load().unwrap().1, b"hello\n");

        put(data.path(), "sample/a.tsv", b"mine\n");
        assert_eq!(load().unwrap().1, b"mine\n");

        let whole = gzip::pack(b"hello\n");
        put(data.path(), "sample/a.tsv", &whole[..whole.len() - 4]);
        assert!(matches!(load().unwrap_err(), DataError::Gzip { .. }));
    }

    #[test]
    fn verify_reports_each_state() {
        let cache = tempfile::tempdir().unwrap();
        let locations = offline(None, cache.path());
        let state = || verify(&sample(), &locations).remove(0).state;

        assert_eq!(state(), FileState::Missing { looked: vec![cache.path().to_owned()] });
        put(cache.path(), "sample/a.tsv.gz", &gzip::pack(b"hello\n"));
        assert_eq!(state(), FileState::Ok);
        put(cache.path(), "sample/a.tsv.gz", &gzip::pack(b"hello"));
        let FileState::Corrupt { expected, found } = state() else {
            panic!("a shorter file is corrupt")
        };
        assert!(expected.starts_with("6 bytes") && found.starts_with("5 bytes"));
    }

    #[test]
    fn locations_follow_the_environment() {
        let variable = |name: &str| match name {
            "AUSN_DATA_DIR" => Some("/env/data".into()),
            "AUSN_CACHE_DIR" => Some("/env/cache".into()),
            "AUSN_OFFLINE" => Some("1".into()),
            _ => None,
        };
        let from_variables = Locations::from_variables(None, variable);
        assert_eq!(
            from_variables.folders(),
            [Path::new("/env/data"), Path::new("/env/cache/datasets")]
        );
        assert!(from_variables.offline);

        let explicit = Locations::from_variables(Some("/given".into()), variable);
        assert_eq!(explicit.data_dir.as_deref(), Some(Path::new("/given")));

        for (value, expected) in [("", false), ("0", false), ("False", false), ("yes", true)] {
            let locations = Locations::from_variables(None, |name| {
                (name == "AUSN_OFFLINE").then(|| value.into())
            });
            assert_eq!(locations.offline, expected, "AUSN_OFFLINE={value}");
            assert_eq!(locations.data_dir, None);
        }
    }

    #[test]
    fn edit_distance_counts_changes() {
        for (from, to, distance) in
            [("", "abc", 3), ("sst2", "sst2", 0), ("sst-2", "sst2", 1), ("kitten", "sitting", 3)]
        {
            assert_eq!(edit_distance(from, to), distance);
            assert_eq!(edit_distance(to, from), distance);
        }
    }
}
