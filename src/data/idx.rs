use std::path::Path;

use super::DataError;

/// An array of bytes in the IDX format of MNIST (Y. LeCun, C. Cortes and C. Burges): two zero bytes, the type of the
/// values (8 for bytes), the number of dimensions, each dimension as a big-endian `u32`, the values, row-major.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Idx<'a, const D: usize> {
    pub(super) shape: [usize; D],
    pub(super) values: &'a [u8],
}

impl<'a, const D: usize> Idx<'a, D> {
    /// Reads an uncompressed file. `path` is named in errors.
    pub(super) fn parse(content: &'a [u8], path: &Path) -> Result<Self, DataError> {
        let wrong = |reason: String| DataError::Format { path: path.to_owned(), reason };
        let word = |index: usize| -> Result<u32, DataError> {
            let bytes = content.get(4 * index..4 * index + 4).ok_or_else(|| {
                let (found, expected) = (content.len(), 4 + 4 * D);
                wrong(format!("the file has {found} bytes; the IDX header alone has {expected}"))
            })?;
            Ok(u32::from_be_bytes(bytes.try_into().expect("four bytes were taken")))
        };
        let (magic, expected) = (word(0)?, 0x0800 + D as u32);
        if magic != expected {
            return Err(wrong(format!(
                "the file begins with {magic:#010x}; an IDX file of bytes with {D} dimensions begins with {expected:#010x}"
            )));
        }
        let mut shape = [0; D];
        for (index, length) in shape.iter_mut().enumerate() {
            *length = word(index + 1)? as usize;
        }
        let values = &content[4 + 4 * D..];
        let count = shape.iter().try_fold(1_usize, |product, length| product.checked_mul(*length));
        if count != Some(values.len()) {
            let promised = shape.map(|length| length.to_string()).join(" x ");
            return Err(wrong(format!(
                "the header promises {promised} bytes, but {} follow: the file is cut short or damaged",
                values.len()
            )));
        }
        Ok(Self { shape, values })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse<const D: usize>(content: &[u8]) -> Result<Idx<'_, D>, String> {
        Idx::parse(content, Path::new("f-idx")).map_err(|error| error.to_string())
    }

    #[test]
    fn header_and_values_are_read() {
        let content = [0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6];
        let idx = parse::<2>(&content).unwrap();
        assert_eq!((idx.shape, idx.values), ([2, 3], &[1, 2, 3, 4, 5, 6][..]));
    }

    #[test]
    fn a_wrong_header_or_length_is_refused() {
        let whole = [0, 0, 8, 1, 0, 0, 0, 2, 7, 9];
        assert!(parse::<1>(&whole).is_ok());
        let huge = [0, 0, 8, 3, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1];
        for (error, expected) in [
            (parse::<1>(&whole[..9]), "promises 2 bytes, but 1 follow"),
            (parse::<1>(&[&whole[..], &[1]].concat()), "promises 2 bytes, but 3 follow"),
            (parse::<1>(&whole[..7]), "the file has 7 bytes; the IDX header alone has 8"),
            (parse::<1>(&[]), "the file has 0 bytes"),
            (parse::<1>(b"\x89PNG\r\n\x1a\n"), "begins with 0x89504e47"),
        ] {
            let error = error.unwrap_err();
            assert!(error.starts_with("f-idx: ") && error.contains(expected), "{error}");
        }
        let error = parse::<3>(&whole).unwrap_err();
        assert!(error.contains("begins with 0x00000801") && error.contains("0x00000803"));
        assert!(parse::<3>(&huge).unwrap_err().contains("but 1 follow"));
    }
}
