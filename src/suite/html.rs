//! A table as one HTML file that needs nothing else.

use super::layout::{Block, Entry, Layout};

const STYLE: &str = "\
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; padding: 0 1rem; max-width: 80rem; }
div { overflow-x: auto; }
table { border-collapse: collapse; margin: 0.5rem 0 1.5rem; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid color-mix(in srgb, currentColor 25%, transparent); \
padding: 0.25rem 0.75rem; text-align: left; vertical-align: top; white-space: nowrap; }
thead th { border-bottom-width: 2px; }
tbody th { font-weight: normal; }
td:nth-last-child(2) { white-space: normal; min-width: 6rem; }
@media print { body { margin: 0; max-width: none; font-size: 9pt; } div { overflow: visible; } \
th, td { white-space: normal; } tr, h2 { break-inside: avoid; break-after: auto; } h2 { break-after: avoid; } }
";

/// Renders a document under the name of its suite.
pub(super) fn render(name: &str, layout: &Layout) -> String {
    let blocks: String = layout.0.iter().map(block).collect();
    let name = escaped(name);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{name}</title>\n<style>\n{STYLE}</style>\n<h1>{name}</h1>\n{blocks}</html>\n"
    )
}

fn block(block: &Block) -> String {
    match block {
        Block::Heading(text) => format!("<h2>{}</h2>\n", escaped(text)),
        Block::Text(text) => format!("<p>{}</p>\n", with_code(&escaped(text))),
        Block::Table { head, rows } => {
            let head: String = head
                .iter()
                .map(|text| format!("<th scope=\"col\">{}</th>", escaped(text)))
                .collect();
            let rows: String =
                rows.iter().map(|row| format!("<tr>{}</tr>\n", cells(row))).collect();
            // What is wider than the window is reached with the keyboard.
            format!(
                "<div tabindex=\"0\"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n\
                 </table></div>\n"
            )
        }
    }
}

fn cells(row: &[Entry]) -> String {
    let cell = |(index, entry): (usize, &Entry)| {
        let text = match entry.strong {
            true => format!("<strong>{}</strong>", escaped(&entry.text)),
            false => escaped(&entry.text),
        };
        match index {
            0 => format!("<th scope=\"row\">{text}</th>"),
            _ => format!("<td>{text}</td>"),
        }
    };
    row.iter().enumerate().map(cell).collect()
}

/// Text between back quotes as code.
fn with_code(text: &str) -> String {
    let parts = text.split('`').enumerate();
    parts
        .map(|(index, part)| match index % 2 {
            0 => part.to_string(),
            _ => format!("<code>{part}</code>"),
        })
        .collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
