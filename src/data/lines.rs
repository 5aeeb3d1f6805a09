use std::path::Path;

use super::DataError;

/// The lines of a text with their numbers, counted from 1.
///
/// Only LF and CR LF end a line: the other characters that Unicode calls line ends occur inside sentences. A byte-order
/// mark at the start is dropped, and the LF at the end does not begin another line. An empty file has no lines.
///
/// # Errors
///
/// [`DataError::Malformed`] for a line that is not UTF-8.
pub(super) fn lines<'a>(
    content: &'a [u8],
    path: &'a Path,
) -> impl Iterator<Item = Result<(u64, &'a str), DataError>> {
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    let is_empty = content.is_empty();
    let content = content.strip_suffix(b"\n").unwrap_or(content);
    let lines = content.split(|byte| *byte == b'\n').take(if is_empty { 0 } else { usize::MAX });
    (1..).zip(lines).map(move |(number, line)| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let text = std::str::from_utf8(line).map_err(|error| DataError::Malformed {
            path: path.to_owned(),
            line: number,
            reason: format!("not UTF-8: {error}"),
        })?;
        Ok((number, text))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &[u8]) -> Result<Vec<(u64, &str)>, DataError> {
        lines(content, Path::new("t.txt")).collect()
    }

    #[test]
    fn lines_end_in_lf_or_cr_lf() {
        for content in [&b"a\n\nb c\n"[..], b"a\r\n\r\nb c", b"\xef\xbb\xbfa\n\nb c\n"] {
            assert_eq!(read(content).unwrap(), [(1, "a"), (2, ""), (3, "b c")]);
        }
        assert_eq!(read(b"").unwrap(), []);
        assert_eq!(read(b"\n").unwrap(), [(1, "")]);
        assert_eq!(read("a\u{2028}b\n".as_bytes()).unwrap(), [(1, "a\u{2028}b")]);
    }

    #[test]
    fn a_line_that_is_not_utf_8_is_named() {
        let error = read(b"a\nb\xff\n").unwrap_err();
        assert!(error.to_string().contains("t.txt, line 2: not UTF-8"), "{error}");
    }
}
