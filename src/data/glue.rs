//! Sentence classification from the tab-separated files of GLUE (A. Wang et al., ICLR 2019).
//!
//! GLUE's files have no quoting: a double quote is an ordinary character. A task differs from another in its columns
//! only, so a new one is one more row of `Layout`.
//!
//! SST-2 is wired: movie-review sentences, 0 for a negative and 1 for a positive opinion. Its test labels were never
//! published, so results are reported on `dev`; see [`hold_out`](super::hold_out) for a validation split to tune on.

use std::path::Path;

use super::DataError;
use super::catalog::{Locations, load, manifest};
use super::download::Progress;

/// A text and its class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sentence {
    /// Text without surrounding white space.
    pub text: String,
    /// The class.
    pub label: u32,
}

/// The labelled parts of a GLUE task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GlueSplit {
    /// To train on.
    Train,
    /// To report on.
    Dev,
}

/// Columns of a task's files.
struct Layout {
    dataset: &'static str,
    train: &'static str,
    dev: &'static str,
    header: &'static [&'static str],
    text: usize,
    label: usize,
    /// The label of class `i` is `labels[i]`.
    labels: &'static [&'static str],
}

const SST2: Layout = Layout {
    dataset: "sst2",
    train: "sst2/train.tsv",
    dev: "sst2/dev.tsv",
    header: &["sentence", "label"],
    text: 0,
    label: 1,
    labels: &["0", "1"],
};

/// Reads a part of SST-2, downloading it first if it is in no folder.
pub fn read_sst2(split: GlueSplit, locations: &Locations) -> Result<Vec<Sentence>, DataError> {
    SST2.read(split, locations)
}

impl Layout {
    fn read(&self, split: GlueSplit, locations: &Locations) -> Result<Vec<Sentence>, DataError> {
        let file = match split {
            GlueSplit::Train => self.train,
            GlueSplit::Dev => self.dev,
        };
        let (path, content) = load(manifest(self.dataset)?, file, locations, Progress::Bar)?;
        self.parse(&content, &path)
    }

    fn parse(&self, content: &[u8], path: &Path) -> Result<Vec<Sentence>, DataError> {
        let expected = || format!("the columns `{}`", self.header.join("`, `"));
        let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
        let content = content.strip_suffix(b"\n").unwrap_or(content);
        let mut sentences = Vec::new();
        for (line, row) in (1..).zip(content.split(|byte| *byte == b'\n')) {
            let malformed =
                |reason: String| DataError::Malformed { path: path.to_owned(), line, reason };
            let row = row.strip_suffix(b"\r").unwrap_or(row);
            let row = std::str::from_utf8(row)
                .map_err(|error| malformed(format!("not UTF-8: {error}")))?;
            let columns: Vec<&str> = row.split('\t').collect();
            if line == 1 {
                if columns != self.header && !content.is_empty() {
                    return Err(malformed(format!(
                        "the header is missing: found `{row}`, expected {}",
                        expected()
                    )));
                }
                continue;
            }
            if columns.len() != self.header.len() {
                return Err(malformed(format!(
                    "found {} columns, expected {}: {}",
                    columns.len(),
                    self.header.len(),
                    expected()
                )));
            }
            let (text, label) = (columns[self.text].trim(), columns[self.label]);
            if text.is_empty() {
                return Err(malformed("the sentence is empty".to_owned()));
            }
            let class = self.labels.iter().position(|known| *known == label);
            let class = class.ok_or_else(|| {
                malformed(format!(
                    "the label is `{label}`, expected `{}`",
                    self.labels.join("` or `")
                ))
            })?;
            sentences.push(Sentence { text: text.to_owned(), label: class as u32 });
        }
        if sentences.is_empty() {
            return Err(DataError::Empty {
                path: path.to_owned(),
                expected: format!(
                    "a header with {} and one example per line are expected",
                    expected()
                ),
            });
        }
        Ok(sentences)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::gzip;
    use super::*;

    fn parse(text: &[u8]) -> Result<Vec<Sentence>, DataError> {
        SST2.parse(text, Path::new("t.tsv"))
    }

    fn sentence(text: &str, label: u32) -> Sentence {
        Sentence { text: text.to_owned(), label }
    }

    #[test]
    fn reads_every_accepted_form() {
        let expected = [sentence("a \"fine\" film", 1), sentence("\"dull", 0)];
        for text in [
            &b"sentence\tlabel\na \"fine\" film \t1\n\"dull \t0\n"[..],
            b"sentence\tlabel\na \"fine\" film \t1\n\"dull \t0",
            b"sentence\tlabel\r\na \"fine\" film \t1\r\n\"dull\t0\r\n",
            b"\xef\xbb\xbfsentence\tlabel\na \"fine\" film\t1\n\"dull\t0\n",
        ] {
            assert_eq!(parse(text).unwrap(), expected);
        }
    }

    #[test]
    fn errors_name_file_and_line() {
        for (text, part) in [
            (&b"fine\t1\n"[..], "t.tsv, line 1: the header is missing: found `fine\t1`"),
            (b"\nfine\t1\n", "t.tsv, line 1: the header is missing: found ``"),
            (b"sentence\tlabel\nfine\n", "t.tsv, line 2: found 1 columns, expected 2"),
            (b"sentence\tlabel\nfine\t1\t1\n", "t.tsv, line 2: found 3 columns"),
            (b"sentence\tlabel\nfine\t1\n\npoor\t0\n", "t.tsv, line 3: found 1 columns"),
            (b"sentence\tlabel\nfine\t2\n", "t.tsv, line 2: the label is `2`, expected `0` or `1`"),
            (b"sentence\tlabel\nfine\t\n", "the label is ``"),
            (b"sentence\tlabel\n \t1\n", "t.tsv, line 2: the sentence is empty"),
            (b"sentence\tlabel\nf\xffne\t1\n", "t.tsv, line 2: not UTF-8"),
            (b"", "t.tsv: the file is empty"),
            (b"sentence\tlabel\n", "t.tsv: the file is empty"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.to_string().contains(part), "{part:?} is not in: {error}");
            assert!(!error.is_user_error());
        }
    }

    #[test]
    fn reads_plain_and_gzipped_files_from_the_data_folder() {
        let folder = tempfile::tempdir().unwrap();
        let locations = Locations {
            data_dir: Some(folder.path().to_owned()),
            cache_dir: folder.path().join("cache"),
            offline: true,
        };
        let text = b"sentence\tlabel\nfine \t1\n";
        fs::create_dir(folder.path().join("sst2")).unwrap();
        fs::write(folder.path().join("sst2/train.tsv.gz"), gzip::pack(text)).unwrap();
        // Named as plain, gzipped in fact.
        fs::write(folder.path().join("sst2/dev.tsv"), gzip::pack(text)).unwrap();
        for split in [GlueSplit::Train, GlueSplit::Dev] {
            assert_eq!(read_sst2(split, &locations).unwrap(), [sentence("fine", 1)]);
        }

        let packed = gzip::pack(text);
        fs::write(folder.path().join("sst2/dev.tsv"), &packed[..packed.len() - 6]).unwrap();
        let error = read_sst2(GlueSplit::Dev, &locations).unwrap_err();
        assert!(matches!(error, DataError::Gzip { .. }), "{error}");
    }

    #[test]
    fn the_published_files_have_the_published_counts() {
        let mut locations = Locations::from_env(None);
        if locations.data_dir.is_none() {
            eprintln!("skipped: AUSN_DATA_DIR is not set");
            return;
        }
        locations.offline = true;
        for (split, counts) in [(GlueSplit::Train, [29_780, 37_569]), (GlueSplit::Dev, [428, 444])]
        {
            let sentences = read_sst2(split, &locations).unwrap();
            let positive = sentences.iter().filter(|s| s.label == 1).count();
            assert_eq!([sentences.len() - positive, positive], counts);
            assert!(sentences.iter().all(|s| s.text == s.text.trim()));
        }
    }
}
