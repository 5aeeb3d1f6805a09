//! The colours of plots, on paper and on a page with a light and a dark theme.

use plotters::style::RGBColor;

/// What is drawn in one colour. The series' colours are told apart by colour-blind readers (after Okabe and Ito,
/// <https://jfly.uni-koeln.de/color/>), and have a contrast of 3 : 1 and more to the ground of either theme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ink {
    /// Labels that have to be read.
    Text,
    /// Axes, and labels that may be overlooked.
    Muted,
    /// Lines of the grid.
    Grid,
    /// The ground, for what is hollow.
    Paper,
    /// A series, from 0.
    Series(u8),
}

/// How a line is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Dash {
    #[default]
    Solid,
    Dashed,
    Dotted,
    Mixed,
}

/// The light and the dark colour of each series.
const SERIES: [(&str, &str); 6] = [
    ("#0072B2", "#5AB4F0"),
    ("#D55E00", "#FF9350"),
    ("#00805E", "#3CCFA0"),
    ("#AA4C87", "#EE9CCB"),
    ("#8A6A00", "#E3C54B"),
    ("#4B4E9E", "#A9ABF5"),
];

impl Dash {
    const ALL: [Dash; 4] = [Dash::Solid, Dash::Dashed, Dash::Dotted, Dash::Mixed];

    /// The pattern, in units of the drawing.
    fn pattern(self) -> Option<&'static str> {
        match self {
            Dash::Solid => None,
            Dash::Dashed => Some("70 40"),
            Dash::Dotted => Some("20 35"),
            Dash::Mixed => Some("80 35 20 35"),
        }
    }

    /// One that differs from those of the series before.
    pub(super) fn of_series(index: usize) -> Self {
        Self::ALL[index % Self::ALL.len()]
    }
}

impl Ink {
    /// The series of a given index; they come again after the last one.
    pub(super) fn series(index: usize) -> Self {
        Ink::Series((index % SERIES.len()) as u8)
    }

    fn code(self) -> u8 {
        match self {
            Ink::Text => 0,
            Ink::Muted => 1,
            Ink::Grid => 2,
            Ink::Paper => 3,
            Ink::Series(index) => 4 + index,
        }
    }

    fn all() -> impl Iterator<Item = Ink> {
        let series = (0..SERIES.len()).map(Ink::series);
        [Ink::Text, Ink::Muted, Ink::Grid, Ink::Paper].into_iter().chain(series)
    }

    /// The colours of the light and of the dark theme.
    fn colours(self) -> (&'static str, &'static str) {
        match self {
            Ink::Text => ("#1B1F24", "#E6E9ED"),
            Ink::Muted => ("#57606A", "#A5AEB8"),
            Ink::Grid => ("#DDE2E7", "#343B44"),
            Ink::Paper => ("#FFFFFF", "#171B21"),
            Ink::Series(index) => SERIES[index as usize],
        }
    }

    fn variable(self) -> String {
        format!("--ink-{}", self.code())
    }

    /// What stands for this ink and a kind of line in a drawing, until [`resolve`] puts the colour there.
    pub(super) fn key(self, dash: Dash) -> RGBColor {
        RGBColor(KEY, self.code(), dash as u8)
    }
}

/// The red of every key: no colour of the palette has it.
const KEY: u8 = 0xA5;

/// The colours of the light or the dark theme as CSS declarations.
pub(super) fn declarations(dark: bool) -> String {
    let colour = |ink: Ink| if dark { ink.colours().1 } else { ink.colours().0 };
    Ink::all().map(|ink| format!("{}:{};", ink.variable(), colour(ink))).collect()
}

/// Puts colours and dashes into an SVG text in the places of the keys: plotters writes plain colours only, and knows
/// neither classes nor dashes.
///
/// With `themed` the colours are CSS variables, which [`declarations`] declares; otherwise they are those of the
/// light theme.
pub(super) fn resolve(svg: &str, themed: bool) -> String {
    let mark = format!("\"#{KEY:02X}");
    let mut parts = svg.split(&mark);
    let mut text = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let (key, rest) = part.split_at(4);
        let code = |digits: &str| u8::from_str_radix(digits, 16).unwrap_or_default();
        let ink = Ink::all().find(|ink| ink.code() == code(&key[..2])).unwrap_or(Ink::Text);
        let dash = Dash::ALL[code(&key[2..]) as usize % Dash::ALL.len()];
        let stroke = text.ends_with("stroke=");
        match themed {
            true => text.push_str(&format!("\"var({})\"", ink.variable())),
            false => text.push_str(&format!("\"{}\"", ink.colours().0)),
        }
        if let (true, Some(pattern)) = (stroke, dash.pattern()) {
            text.push_str(&format!(" stroke-dasharray=\"{pattern}\""));
        }
        text.push_str(&rest[1..]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_colours_and_dashes() {
        let line = r##"<line stroke="#A50501" x="1"/><rect stroke="none" fill="#A50301"/>"##;
        assert_eq!(
            resolve(line, false),
            r##"<line stroke="#D55E00" stroke-dasharray="70 40" x="1"/><rect stroke="none" fill="#FFFFFF"/>"##
        );
        assert_eq!(
            resolve(line, true),
            r#"<line stroke="var(--ink-5)" stroke-dasharray="70 40" x="1"/><rect stroke="none" fill="var(--ink-3)"/>"#
        );
        assert_eq!(resolve("<text>#A50501</text>", true), "<text>#A50501</text>");
    }

    #[test]
    fn every_ink_has_a_key_of_its_own_and_a_variable_in_both_themes() {
        let light = declarations(false);
        let dark = declarations(true);
        for ink in Ink::all() {
            assert_eq!(Ink::all().filter(|other| other.code() == ink.code()).count(), 1);
            assert!(light.contains(&format!("{}:{};", ink.variable(), ink.colours().0)));
            assert!(dark.contains(&format!("{}:{};", ink.variable(), ink.colours().1)));
            assert!(!ink.colours().0.starts_with("#A5"), "{ink:?} looks like a key");
        }
    }

    /// Contrast as WCAG 2 defines it: 4.5 for text, 3 for what a plot shows.
    #[test]
    fn every_ink_stands_out_from_its_ground() {
        fn luminance(colour: &str) -> f64 {
            let channel = |at: usize| {
                let value = f64::from(u8::from_str_radix(&colour[at..at + 2], 16).unwrap()) / 255.0;
                if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
            };
            0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
        }
        for ink in Ink::all().filter(|ink| !matches!(ink, Ink::Grid | Ink::Paper)) {
            let needed = if matches!(ink, Ink::Series(_)) { 3.0 } else { 4.5 };
            let (light, dark) = (ink.colours(), Ink::Paper.colours());
            for (colour, ground) in [(light.0, dark.0), (light.1, dark.1)] {
                let (a, b) = (luminance(colour), luminance(ground));
                let contrast = (a.max(b) + 0.05) / (a.min(b) + 0.05);
                assert!(contrast >= needed, "{ink:?}: {colour} on {ground} is {contrast:.1} : 1");
            }
        }
    }
}
