use std::io::{self, Read};

use flate2::read::MultiGzDecoder;

/// How gzipped content begins.
pub(super) const MAGIC: [u8; 2] = [0x1f, 0x8b];

/// The content itself when `raw` is gzipped, `raw` unchanged when it is not. The first two bytes decide and not the
/// file's name: browsers and archive tools unpack files without renaming them.
pub(super) fn unpack(raw: Vec<u8>) -> io::Result<Vec<u8>> {
    if !raw.starts_with(&MAGIC) {
        return Ok(raw);
    }
    let mut content = Vec::new();
    MultiGzDecoder::new(raw.as_slice()).read_to_end(&mut content)?;
    Ok(content)
}

/// Gzips `content`, for tests.
#[cfg(test)]
pub(super) fn pack(content: &[u8]) -> Vec<u8> {
    use std::io::Write;

    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(content).expect("writing to memory succeeds");
    encoder.finish().expect("writing to memory succeeds")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unpacks_by_content() {
        assert_eq!(unpack(b"plain".to_vec()).unwrap(), b"plain");
        assert_eq!(unpack(pack(b"packed")).unwrap(), b"packed");
        assert_eq!(unpack(Vec::new()).unwrap(), b"");

        let two_members = [pack(b"one "), pack(b"two")].concat();
        assert_eq!(unpack(two_members).unwrap(), b"one two");
    }

    #[test]
    fn refuses_a_truncated_stream() {
        let whole = pack(b"some content that is long enough to be cut");
        for length in [2, 9, whole.len() / 2, whole.len() - 1] {
            assert!(unpack(whole[..length].to_vec()).is_err(), "cut at {length}");
        }
    }
}
