//! What a reader did to examples that it could not use as they are.

use std::collections::BTreeMap;
use std::fmt;

/// Something that a reader met in the data, put right and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Finding {
    /// A file that the data set can do without is not there.
    FileMissing,
    /// A file in a folder of images is no JPEG or PNG by its name, and was passed over.
    NoImage,
    /// An image that cannot be decoded was left out.
    ImageCorrupt,
    /// A box that reached over the edge of its image was cut at the edge.
    BoxClipped,
    /// A box of no width or height, after cutting, was left out.
    BoxEmpty,
    /// A training example that is too long was left out.
    ExampleTooLong,
    /// A text was cut to the greatest length that the model takes.
    TextCut,
    /// A word that the vocabulary lacks was replaced by the one for unknown words.
    WordUnknown,
    /// An evaluation example has an intent that no training example has; it counts as wrong.
    IntentUnknown,
    /// A word of an evaluation example has a tag that no training example has; it counts as wrong.
    TagUnknown,
}

/// How often each [`Finding`] was made. Tasks print it, one line a finding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Count and place of the first, by finding.
    findings: BTreeMap<Finding, (usize, String)>,
}

impl Report {
    /// Counts a finding. `place` is kept if it is the first of its kind.
    pub(super) fn add(&mut self, finding: Finding, place: impl FnOnce() -> String) {
        self.findings.entry(finding).or_insert_with(|| (0, place())).0 += 1;
    }

    /// Adds what another part of the data set has.
    pub fn merge(&mut self, other: Self) {
        for (finding, (count, first)) in other.findings {
            self.findings.entry(finding).or_insert((0, first)).0 += count;
        }
    }

    /// How often a finding was made.
    pub fn count(&self, finding: Finding) -> usize {
        self.findings.get(&finding).map_or(0, |(count, _)| *count)
    }

    /// Whether everything was used as it is.
    pub fn is_empty(&self) -> bool {
        self.findings.is_empty()
    }

    /// One line a finding: what, how often, where first.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.findings.iter().map(|(finding, (count, first))| match count {
            1 => format!("{finding}: 1 ({first})"),
            _ => format!("{finding}: {count} (first: {first})"),
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FileMissing => "files that are not there, done without",
            Self::NoImage => "files that are no JPEG or PNG, passed over",
            Self::ImageCorrupt => "images that cannot be decoded, left out",
            Self::BoxClipped => "boxes over the edge of the image, cut",
            Self::BoxEmpty => "boxes of no width or height, left out",
            Self::ExampleTooLong => "training examples that are too long, left out",
            Self::TextCut => "texts that are too long, cut",
            Self::WordUnknown => "words that the vocabulary lacks, taken as unknown",
            Self::IntentUnknown => "intents that training lacks, counted as wrong",
            Self::TagUnknown => "tags that training lacks, counted as wrong",
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines().collect::<Vec<_>>().join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_counts_and_names_the_first() {
        let mut report = Report::default();
        assert!(report.is_empty() && report.to_string().is_empty());
        report.add(Finding::BoxEmpty, || "a.xml, line 3".to_owned());
        report.add(Finding::BoxEmpty, || panic!("only the first place is kept"));
        let mut other = Report::default();
        other.add(Finding::BoxEmpty, || "b.xml, line 1".to_owned());
        other.add(Finding::ImageCorrupt, || "c.jpg".to_owned());
        report.merge(other);
        assert_eq!(report.count(Finding::BoxEmpty), 3);
        assert_eq!(report.count(Finding::BoxClipped), 0);
        assert_eq!(
            report.to_string(),
            "images that cannot be decoded, left out: 1 (c.jpg)\n\
             boxes of no width or height, left out: 3 (first: a.xml, line 3)"
        );
    }
}
