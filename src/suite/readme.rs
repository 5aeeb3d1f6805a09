//! The table of a suite in a document, between markers.

use std::ops::Range;
use std::path::Path;

use super::SuiteError;

const END: &str = "<!-- /table -->";

/// What stands between `<!-- table:NAME -->` and `<!-- /table -->`, without the empty lines around
/// it; `None` where there are no such markers.
pub fn marked<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    place(text, name).ok().map(|place| text[place].trim())
}

/// A document with a table in place of what stands between the markers of its suite; `path` names
/// the document in errors.
///
/// # Errors
///
/// If it has no such markers.
pub fn replace_marked(
    text: &str,
    path: &Path,
    name: &str,
    table: &str,
) -> Result<String, SuiteError> {
    let place = place(text, name).map_err(|reason| SuiteError::NoPlace {
        path: path.to_path_buf(),
        name: name.to_string(),
        reason,
    })?;
    let (before, after) = (&text[..place.start], &text[place.end..]);
    Ok(format!("{before}\n\n{}\n\n{after}", table.trim()))
}

fn place(text: &str, name: &str) -> Result<Range<usize>, &'static str> {
    let begin = format!("<!-- table:{name} -->");
    let start = text.find(&begin).ok_or("has no place for the table")? + begin.len();
    let length = text[start..].find(END).ok_or("has no end of the table's place")?;
    // A table has no markers in it: the end found is that of another table.
    match text[start..start + length].contains("<!-- table:") {
        true => Err("has no end of the table's place"),
        false => Ok(start..start + length),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "a\n<!-- table:x -->\nold\n<!-- /table -->\nb\n<!-- table:y -->\n<!-- /table -->";

    fn replace(text: &str, name: &str) -> Result<String, SuiteError> {
        replace_marked(text, Path::new("R.md"), name, "| new |\n")
    }

    #[test]
    fn what_is_put_between_markers_is_found_there() {
        assert_eq!(marked(TEXT, "x"), Some("old"));
        assert_eq!(marked(TEXT, "y"), Some(""));
        assert_eq!(marked(TEXT, "z"), None);
        let x = replace(TEXT, "x").unwrap();
        assert_eq!(x, TEXT.replace("\nold\n", "\n\n| new |\n\n"));
        assert_eq!(replace(&x, "x").unwrap(), x);
        assert_eq!(marked(&replace(&x, "y").unwrap(), "y"), Some("| new |"));
    }

    #[test]
    fn a_document_without_a_place_is_refused() {
        let unclosed = "<!-- table:x -->\n<!-- table:y -->\n<!-- /table -->";
        for (text, name) in [(TEXT, "z"), (unclosed, "x"), ("<!-- table:x -->", "x")] {
            let error = replace(text, name).unwrap_err().to_string();
            assert!(error.contains("R.md") && error.contains("<!-- /table -->"), "{error}");
        }
    }
}
