//! Downloads. A file appears in the cache folder complete and verified, or not at all: the transfer goes to an unnamed
//! temporary file, the unpacked and checked content to a temporary name, which is renamed last.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::catalog::{DataFile, FileState, Located, Locations, Manifest, locate, manifest, verify};
use super::{DataError, gzip};

/// Whether downloads show a progress bar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A bar on standard error, if that is a terminal.
    Bar,
    /// Nothing.
    Silent,
}

/// Makes sure that every file of a data set is on this machine and verified, downloading what is missing or damaged.
/// Returns their paths in the order of the manifest; built-in data has none.
///
/// A damaged file in the user's own folder is an error, because a download into the cache would stay hidden behind it.
pub fn fetch(
    name: &str,
    locations: &Locations,
    progress: Progress,
) -> Result<Vec<PathBuf>, DataError> {
    fetch_all(manifest(name)?, locations, progress)
}

fn fetch_all(
    manifest: &Manifest,
    locations: &Locations,
    progress: Progress,
) -> Result<Vec<PathBuf>, DataError> {
    if manifest.built_in {
        return Ok(Vec::new());
    }
    locations.check()?;
    let mut transfers = Transfers::new(manifest, locations, progress);
    let statuses = verify(manifest, locations);
    let pairs = manifest.files.iter().zip(statuses);
    pairs
        .map(|(file, status)| match (status.state, status.path) {
            (FileState::Ok | FileState::Unpacked, Some(path)) => Ok(path),
            (FileState::Corrupt { expected, found }, Some(path))
                if matches!(locate(manifest, &file.path, locations)?, Located::DataDir(_)) =>
            {
                Err(DataError::Corrupt { dataset: manifest.name.clone(), path, expected, found })
            }
            (_, damaged) => {
                let stored = transfers.store(file)?;
                // A damaged `.gz` would go on being found beside the new plain file.
                if let Some(path) = damaged.filter(|path| *path != stored) {
                    fs::remove_file(&path).map_err(io_error("remove", &path))?;
                }
                Ok(stored)
            }
        })
        .collect()
}

/// Downloads one file of a data set into the cache folder.
pub(super) fn fetch_file(
    manifest: &Manifest,
    file: &str,
    locations: &Locations,
    progress: Progress,
) -> Result<PathBuf, DataError> {
    Transfers::new(manifest, locations, progress).store(manifest.file(file)?)
}

/// The transfers of one data set. An archive that several files come from is transferred once.
struct Transfers<'a> {
    manifest: &'a Manifest,
    locations: &'a Locations,
    progress: Progress,
    done: HashMap<&'a str, File>,
}

impl<'a> Transfers<'a> {
    fn new(manifest: &'a Manifest, locations: &'a Locations, progress: Progress) -> Self {
        Self { manifest, locations, progress, done: HashMap::new() }
    }

    /// Downloads, unpacks, verifies and stores one file.
    fn store(&mut self, file: &'a DataFile) -> Result<PathBuf, DataError> {
        let destination = self.locations.cache_dir.join(&file.path);
        let url = match &file.url {
            Some(url) if !self.locations.offline => url.as_str(),
            _ => return Err(self.manifest.not_found(file, self.locations)),
        };
        let failed = |reason: String| DataError::Download {
            url: url.to_owned(),
            reason,
            destination: destination.clone(),
        };

        if !self.done.contains_key(url) {
            let cache = &self.locations.cache_dir;
            fs::create_dir_all(cache).map_err(io_error("create", cache))?;
            let mut target = tempfile::tempfile_in(cache).map_err(io_error("write to", cache))?;
            tracing::info!("downloading {url}");
            transfer(url, &mut target, self.progress).map_err(|error| failed(error.to_string()))?;
            self.done.insert(url, target);
        }
        let raw = self.done.get_mut(url).expect("it was just downloaded");
        let content = extract(raw, file).map_err(failed)?;
        file.check(&content).map_err(|(expected, found)| {
            failed(format!(
                "{} has changed or was damaged on the way: expected {expected}, found {found}",
                file.path
            ))
        })?;
        write_whole(&destination, &content)?;
        Ok(destination)
    }
}

/// Copies the body at `url` into `target`. No limit is set on the whole transfer, which may be slow; a server that stops
/// sending for a minute counts as failed.
fn transfer(url: &str, target: &mut File, progress: Progress) -> Result<(), ureq::Error> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_connect(Some(Duration::from_secs(30)))
        .timeout_per_read(Some(Duration::from_secs(60)))
        .build()
        .into();
    let body = agent.get(url).call()?.into_body();
    let bar = ProgressBar::with_draw_target(
        body.content_length(),
        match progress {
            // Indicatif draws nothing if standard error is no terminal.
            Progress::Bar => ProgressDrawTarget::stderr(),
            Progress::Silent => ProgressDrawTarget::hidden(),
        },
    );
    bar.set_style(
        ProgressStyle::with_template(
            "{bar:30} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}",
        )
        .expect("the template is valid"),
    );
    io::copy(&mut bar.wrap_read(body.into_reader()), target)?;
    bar.finish_and_clear();
    Ok(())
}

/// The uncompressed content of `file` from what its address delivered. The error is a reason for the user.
fn extract(raw: &mut File, file: &DataFile) -> Result<Vec<u8>, String> {
    let reason = |error: io::Error| error.to_string();
    raw.rewind().map_err(reason)?;
    let mut content = Vec::new();
    match &file.member {
        None => {
            raw.read_to_end(&mut content).map_err(reason)?;
        }
        Some(member) => {
            let failed =
                |error: &dyn std::fmt::Display| format!("member {member} of the archive: {error}");
            // One byte more than expected is enough to see that the member is wrong; a hostile one may be endless.
            let mut take = |entry: &mut dyn Read| {
                entry.take(file.bytes + 1).read_to_end(&mut content).map_err(|e| failed(&e))
            };
            let mut start = Vec::new();
            (&mut *raw).take(2).read_to_end(&mut start).map_err(reason)?;
            raw.rewind().map_err(reason)?;
            if start == gzip::MAGIC {
                let mut archive = tar::Archive::new(flate2::read::MultiGzDecoder::new(raw));
                for entry in archive.entries().map_err(|e| failed(&e))? {
                    let mut entry = entry.map_err(|e| failed(&e))?;
                    if entry.path_bytes() == member.as_bytes() {
                        take(&mut entry)?;
                        return Ok(content);
                    }
                }
                return Err(failed(&"there is none of this name"));
            }
            let mut archive = zip::ZipArchive::new(raw).map_err(|error| {
                format!("what was sent is neither a zip nor a tar.gz archive ({error})")
            })?;
            let mut entry = archive.by_name(member).map_err(|e| failed(&e))?;
            take(&mut entry)?;
        }
    }
    gzip::unpack(content).map_err(|error| format!("the gzip data is damaged ({error})"))
}

/// Writes `content` to `destination` so that no reader ever sees a part of it.
fn write_whole(destination: &Path, content: &[u8]) -> Result<(), DataError> {
    let folder = destination.parent().expect("a file below the cache folder has a parent");
    fs::create_dir_all(folder).map_err(io_error("create", folder))?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(".download-");
    // Temporary files are private by default, which a cache shared by several users must not be; the process's mask still
    // applies.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut temporary = builder.tempfile_in(folder).map_err(io_error("write to", folder))?;
    temporary
        .write_all(content)
        .and_then(|()| temporary.as_file().sync_all())
        .map_err(io_error("write", temporary.path()))?;
    temporary.persist(destination).map_err(|error| io_error("write", destination)(error.error))?;
    Ok(())
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DataError {
    let path = path.to_owned();
    move |source| DataError::Io { action, path, source }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Cursor};
    use std::net::TcpListener;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::catalog::{load, sha256};
    use super::super::tree;
    use super::*;

    const TRAIN: &[u8] = b"sentence\tlabel\nfine \t1\n";
    const DEV: &[u8] = b"sentence\tlabel\npoor \t0\n";

    /// Answers every request on a loopback port with one status and body, and counts the requests. `declared` is the
    /// Content-Length, which a truncated transfer falls short of.
    struct Server {
        url: String,
        requests: Arc<AtomicUsize>,
    }

    impl Server {
        fn start(status: &'static str, body: Vec<u8>, declared: usize) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("http://{}/file", listener.local_addr().unwrap());
            let requests = Arc::new(AtomicUsize::new(0));
            let count = requests.clone();
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let mut stream = stream.unwrap();
                    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                    while lines.next().is_some_and(|line| line.is_ok_and(|l| !l.is_empty())) {}
                    count.fetch_add(1, Ordering::SeqCst);
                    let head = format!(
                        "HTTP/1.1 {status}\r\nContent-Length: {declared}\r\nConnection: close\r\n\r\n"
                    );
                    // A client that has seen enough may have closed the connection.
                    let _ =
                        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
                }
            });
            Self { url, requests }
        }

        fn ok(body: Vec<u8>) -> Self {
            let declared = body.len();
            Self::start("200 OK", body, declared)
        }
    }

    fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, content) in members {
            writer.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
            writer.write_all(content).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    fn sample(files: &[(&str, &[u8], Option<&str>)], url: &str) -> Manifest {
        let mut text = String::from(
            "name = 'sample'\ntitle = ''\ntask = 'sentence-classification'\norigin = ''\nlicence = ''\n\
             attribution = ''\nbuilt-in = false\n",
        );
        for (path, content, member) in files {
            text += &format!(
                "[[file]]\npath = '{path}'\nbytes = {}\nsha256 = '{}'\nurl = '{url}'\n",
                content.len(),
                sha256(content)
            );
            if let Some(member) = member {
                text += &format!("member = '{member}'\n");
            }
        }
        toml::from_str(&text).unwrap()
    }

    fn online(cache: &Path) -> Locations {
        Locations { data_dir: None, cache_dir: cache.to_owned(), offline: false }
    }

    fn files_below(folder: &Path) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.extend(files_below(&path));
            } else {
                found.push(path);
            }
        }
        found
    }

    /// Downloads one plain file, expects a failure that leaves nothing behind, and returns the message.
    fn failure(url: &str) -> String {
        let cache = tempfile::tempdir().unwrap();
        let manifest = sample(&[("sample/train.tsv", TRAIN, None)], url);
        let error = fetch_all(&manifest, &online(cache.path()), Progress::Silent).unwrap_err();
        assert!(matches!(error, DataError::Download { .. }), "{error}");
        assert!(!error.is_user_error());
        assert_eq!(files_below(cache.path()), Vec::<PathBuf>::new());
        error.to_string()
    }

    #[test]
    fn plain_and_gzipped_files_arrive() {
        for body in [TRAIN.to_vec(), gzip::pack(TRAIN)] {
            let cache = tempfile::tempdir().unwrap();
            let server = Server::ok(body);
            let manifest = sample(&[("sample/train.tsv", TRAIN, None)], &server.url);
            let paths = fetch_all(&manifest, &online(cache.path()), Progress::Silent).unwrap();
            assert_eq!(paths, [cache.path().join("sample/train.tsv")]);
            assert_eq!(fs::read(&paths[0]).unwrap(), TRAIN);
            assert_eq!(files_below(cache.path()), paths);
        }
    }

    #[test]
    fn an_archive_is_transferred_once_for_all_its_members() {
        let members = [("S/train.tsv", TRAIN), ("S/dev.tsv", DEV)];
        for body in [archive(&members), gzip::pack(&tree::pack(&members))] {
            let cache = tempfile::tempdir().unwrap();
            let server = Server::ok(body);
            let manifest = sample(
                &[
                    ("sample/train.tsv", TRAIN, Some("S/train.tsv")),
                    ("sample/dev.tsv", DEV, Some("S/dev.tsv")),
                ],
                &server.url,
            );
            let locations = online(cache.path());
            let paths = fetch_all(&manifest, &locations, Progress::Silent).unwrap();
            assert_eq!(fs::read(&paths[0]).unwrap(), TRAIN);
            assert_eq!(fs::read(&paths[1]).unwrap(), DEV);

            // What is there and verified is not transferred again.
            assert_eq!(fetch_all(&manifest, &locations, Progress::Silent).unwrap(), paths);
            assert_eq!(server.requests.load(Ordering::SeqCst), 1);
        }
    }

    #[test]
    fn load_downloads_what_is_missing_unless_offline() {
        let cache = tempfile::tempdir().unwrap();
        let server = Server::ok(TRAIN.to_vec());
        let manifest = sample(&[("sample/train.tsv", TRAIN, None)], &server.url);
        let mut locations = online(cache.path());

        locations.offline = true;
        let error = load(&manifest, "sample/train.tsv", &locations, Progress::Silent).unwrap_err();
        assert!(matches!(error, DataError::NotFound { offline: true, .. }), "{error}");
        let error = fetch_all(&manifest, &locations, Progress::Silent).unwrap_err();
        assert!(matches!(error, DataError::NotFound { offline: true, .. }), "{error}");
        assert_eq!(server.requests.load(Ordering::SeqCst), 0);

        locations.offline = false;
        let (path, content) =
            load(&manifest, "sample/train.tsv", &locations, Progress::Silent).unwrap();
        assert_eq!((path.is_file(), content.as_slice()), (true, TRAIN));
    }

    #[test]
    fn a_damaged_file_is_replaced_in_the_cache_and_refused_in_the_data_folder() {
        let (data, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let server = Server::ok(TRAIN.to_vec());
        let manifest = sample(&[("sample/train.tsv", TRAIN, None)], &server.url);
        let mut locations = online(cache.path());

        for name in ["sample/train.tsv", "sample/train.tsv.gz"] {
            let _ = fs::remove_dir_all(cache.path().join("sample"));
            fs::create_dir_all(cache.path().join("sample")).unwrap();
            fs::write(cache.path().join(name), b"half").unwrap();
            let paths = fetch_all(&manifest, &locations, Progress::Silent).unwrap();
            assert_eq!(fs::read(&paths[0]).unwrap(), TRAIN);
            assert_eq!(files_below(cache.path()), paths);
        }

        fs::create_dir_all(data.path().join("sample")).unwrap();
        fs::write(data.path().join("sample/train.tsv"), b"half").unwrap();
        locations.data_dir = Some(data.path().to_owned());
        let error = fetch_all(&manifest, &locations, Progress::Silent).unwrap_err();
        assert!(matches!(error, DataError::Corrupt { .. }), "{error}");
    }

    #[test]
    fn a_truncated_transfer_leaves_nothing() {
        let server = Server::start("200 OK", TRAIN[..10].to_vec(), TRAIN.len());
        failure(&server.url);
    }

    #[test]
    fn wrong_content_leaves_nothing() {
        let mut other = TRAIN.to_vec();
        other[3] ^= 1;
        let message = failure(&Server::ok(other.clone()).url);
        assert!(message.contains(&sha256(TRAIN)) && message.contains(&sha256(&other)), "{message}");
    }

    #[test]
    fn an_http_error_leaves_nothing() {
        let server = Server::start("404 Not Found", b"gone".to_vec(), 4);
        assert!(failure(&server.url).contains("404"));
    }

    #[test]
    fn a_refused_connection_leaves_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/file", listener.local_addr().unwrap());
        drop(listener);
        assert!(failure(&url).contains(&url));
    }

    #[test]
    fn an_archive_without_the_member_or_no_archive_at_all_is_refused() {
        for (body, expected) in [
            (archive(&[("other", TRAIN)]), "S/train.tsv"),
            (gzip::pack(&tree::pack(&[("other", TRAIN)])), "S/train.tsv"),
            (gzip::pack(b"a text that is no archive"), "S/train.tsv"),
            (b"<html>blocked</html>".to_vec(), "neither a zip nor a tar.gz archive"),
        ] {
            let cache = tempfile::tempdir().unwrap();
            let server = Server::ok(body);
            let manifest = sample(&[("sample/train.tsv", TRAIN, Some("S/train.tsv"))], &server.url);
            let error = fetch_all(&manifest, &online(cache.path()), Progress::Silent).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
            assert_eq!(files_below(cache.path()), Vec::<PathBuf>::new());
        }
    }
}
