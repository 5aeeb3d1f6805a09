//! A table as Markdown.

use super::layout::{Block, Entry, Layout};

/// Renders a document; headings are of the fourth level, below those of what it is put into.
pub(super) fn render(layout: &Layout) -> String {
    let blocks: Vec<String> = layout.0.iter().map(block).collect();
    format!("{}\n", blocks.join("\n\n"))
}

fn block(block: &Block) -> String {
    match block {
        Block::Heading(text) => format!("#### {}", escaped(text)),
        Block::Text(text) => text.clone(),
        Block::Table { head, rows } => {
            let mut lines = vec![line(head.iter().map(|text| escaped(text)))];
            lines.push(line(head.iter().map(|_| "---".to_string())));
            lines.extend(rows.iter().map(|row| line(row.iter().map(entry))));
            lines.join("\n")
        }
    }
}

fn line(entries: impl Iterator<Item = String>) -> String {
    format!("| {} |", entries.collect::<Vec<_>>().join(" | "))
}

fn entry(entry: &Entry) -> String {
    match entry.strong {
        true => format!("**{}**", escaped(&entry.text)),
        false => escaped(&entry.text),
    }
}

/// Text that cannot end its entry or its line, or become a tag.
fn escaped(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;").replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::html;

    #[test]
    fn text_cannot_break_out_of_its_entry() {
        let entry = |text: &str, strong| Entry { text: text.into(), strong };
        let layout = Layout(vec![
            Block::Heading("h & i".into()),
            Block::Text("`a<b`".into()),
            Block::Table {
                head: vec!["x|y".into()],
                rows: vec![vec![entry("<script>", true)], vec![entry("1", false)]],
            },
        ]);
        let markdown = "#### h & i\n\n`a<b`\n\n| x\\|y |\n| --- |\n| **&lt;script>** |\n| 1 |\n";
        assert_eq!(render(&layout), markdown);
        let html = html::render("n", &layout);
        for part in [
            "<h2>h &amp; i</h2>",
            "<p><code>a&lt;b</code></p>",
            "<th scope=\"row\"><strong>&lt;script&gt;</strong></th>",
        ] {
            assert!(html.contains(part), "{part} is not in: {html}");
        }
        assert!(!html.contains("<script"), "{html}");
    }
}
