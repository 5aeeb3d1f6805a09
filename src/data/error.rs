use std::io;
use std::path::PathBuf;

/// Anything that can go wrong between the name of a data set and its examples.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// No data set has this name.
    #[error("no data set is called `{name}`{}. Known: {known}", closest.as_ref().map(|c| format!(" (did you mean `{c}`?)")).unwrap_or_default())]
    UnknownDataset {
        /// The name that was asked for.
        name: String,
        /// Every known name, separated by commas.
        known: String,
        /// The known name that resembles it, if one does.
        closest: Option<String>,
    },

    /// The data set exists but has no such file.
    #[error("data set `{dataset}` has no file `{file}`. Its files: {known}")]
    UnknownFile {
        /// Name of the data set.
        dataset: String,
        /// The file that was asked for.
        file: String,
        /// The files that the data set has, separated by commas.
        known: String,
    },

    /// A setting has a value that cannot work.
    #[error("{key} = {found} is not possible: {allowed}")]
    InvalidSetting {
        /// Name of the setting, as in a configuration file.
        key: String,
        /// The value found.
        found: String,
        /// What is allowed, and why.
        allowed: String,
    },

    /// The generator's settings do not leave enough different examples.
    #[error(
        "ListOps: only {made} of the {wanted} {split} examples exist or could be found with a balance of classes; \
         ask for fewer examples, raise max-length, max-depth or max-arguments, or allow more operators"
    )]
    Exhausted {
        /// `train` or `valid`.
        split: &'static str,
        /// Examples asked for.
        wanted: usize,
        /// Examples found before giving up.
        made: usize,
    },

    /// A text is no ListOps expression.
    #[error("ListOps expression, token {position}: {reason}")]
    Expression {
        /// Place of the offending token, counted from 1.
        position: usize,
        /// What is wrong with it.
        reason: String,
    },

    /// A file is in none of the places where it may be, and was not downloaded.
    #[error("{}", not_found(dataset, file, looked, *offline, by_hand.as_deref()))]
    NotFound {
        /// Name of the data set.
        dataset: String,
        /// The file, relative to a data folder.
        file: String,
        /// Folders looked in, in order.
        looked: Vec<PathBuf>,
        /// Whether downloading was switched off.
        offline: bool,
        /// Where to get it by hand, if there is no address to download it from.
        by_hand: Option<String>,
    },

    /// A file is there but is not the published one.
    #[error(
        "{}: expected {expected}, found {found}. Delete it and run `ausn datasets fetch {dataset}`, or replace it by the published file",
        path.display()
    )]
    Corrupt {
        /// Name of the data set.
        dataset: String,
        /// The file.
        path: PathBuf,
        /// Size and checksum that the manifest states.
        expected: String,
        /// What the file has.
        found: String,
    },

    /// The operating system refused to read or write.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was attempted: `read`, `create`, ...
        action: &'static str,
        /// File or folder.
        path: PathBuf,
        /// The reason given by the system.
        source: io::Error,
    },

    /// A download failed. Nothing was stored.
    #[error(
        "could not download {url}: {reason}. Nothing was stored. Check the connection and try again, \
         or put the file at {} by other means",
        destination.display()
    )]
    Download {
        /// Address.
        url: String,
        /// What happened.
        reason: String,
        /// Where the file would have been stored.
        destination: PathBuf,
    },

    /// A gzipped file ends too early or is damaged.
    #[error("{}: the gzip data is damaged or cut short ({source}). Copy or download the file again", path.display())]
    Gzip {
        /// The file.
        path: PathBuf,
        /// What the decoder reported.
        source: io::Error,
    },

    /// A file holds no example.
    #[error("{}: the file is empty: {expected}", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// What should be in it.
        expected: String,
    },

    /// A line of a file does not have the expected form.
    #[error("{}, line {line}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Line number, counted from 1.
        line: u64,
        /// What was found and what is expected.
        reason: String,
    },

    /// A file as a whole does not have the expected form.
    #[error("{}: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What was found and what is expected.
        reason: String,
    },

    /// A recording cannot be read, or is not in the format that the model expects.
    #[error("{}: {reason}", path.display())]
    Audio {
        /// The file.
        path: PathBuf,
        /// What was found and what is expected.
        reason: String,
    },

    /// An image cannot be decoded.
    #[error("{}: the image cannot be decoded: {reason}", path.display())]
    Image {
        /// The image.
        path: PathBuf,
        /// What the decoder reported.
        reason: String,
    },

    /// No image of a batch can be decoded, though few enough of the data set to be passed over.
    #[error(
        "{}: neither this image nor another of its batch can be decoded. Copy or download it again, or remove it",
        path.display()
    )]
    BatchCorrupt {
        /// The first of them.
        path: PathBuf,
    },

    /// So many images of a data set cannot be decoded that the rest is not the data set any more.
    #[error(
        "{}: {corrupt} of {total} images cannot be decoded, more than the {allowed} that are passed over; the first is \
         {first}. Copy or download them again, or remove them",
        path.display()
    )]
    TooManyCorrupt {
        /// Folder or archive.
        path: PathBuf,
        /// Images that could not be decoded.
        corrupt: usize,
        /// All images.
        total: usize,
        /// Images that may be corrupt.
        allowed: usize,
        /// The first of them, and why.
        first: String,
    },

    /// A folder of images has a name that is no class.
    #[error("{}: `{class}` is no class: the training images have {known}", path.display())]
    UnknownClass {
        /// The folder.
        path: PathBuf,
        /// Its name.
        class: String,
        /// The classes, shortened.
        known: String,
    },

    /// A tokenizer file cannot be used, or a text cannot be encoded.
    #[error("tokenizer {}: {reason}", path.display())]
    Tokenizer {
        /// The tokenizer's file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl DataError {
    /// Whether the cause is something that the user typed (a name, a setting), as opposed to the state of the disk or
    /// the network. The program then ends with exit code 2 instead of 1.
    pub fn is_user_error(&self) -> bool {
        match self {
            Self::UnknownDataset { .. }
            | Self::UnknownFile { .. }
            | Self::InvalidSetting { .. }
            | Self::Exhausted { .. }
            | Self::Expression { .. } => true,
            Self::NotFound { .. }
            | Self::Corrupt { .. }
            | Self::Io { .. }
            | Self::Download { .. }
            | Self::Gzip { .. }
            | Self::Empty { .. }
            | Self::Malformed { .. }
            | Self::Format { .. }
            | Self::Image { .. }
            | Self::BatchCorrupt { .. }
            | Self::TooManyCorrupt { .. }
            | Self::UnknownClass { .. }
            | Self::Audio { .. }
            | Self::Tokenizer { .. } => false,
        }
    }
}

fn not_found(
    dataset: &str,
    file: &str,
    looked: &[PathBuf],
    offline: bool,
    by_hand: Option<&str>,
) -> String {
    let mut message =
        format!("data set `{dataset}`: found neither {file} nor {file}.gz. Looked in:");
    for folder in looked {
        message.push_str(&format!("\n  {}", folder.display()));
    }
    message.push('\n');
    message.push_str(&match (by_hand, offline) {
        (Some(origin), _) => format!(
            "It has no address to download it from: get it from {origin}, and put it under one of these folders, or \
             name a folder that has it with --data-dir or AUSN_DATA_DIR"
        ),
        (None, true) => "Downloading is switched off (offline). Put the file under one of these folders, or name a \
                         folder that has it with --data-dir or AUSN_DATA_DIR"
            .to_owned(),
        (None, false) => format!(
            "Run `ausn datasets fetch {dataset}`, or name a folder that has the file with --data-dir or AUSN_DATA_DIR"
        ),
    });
    message
}
