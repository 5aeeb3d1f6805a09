//! A plot as SVG, and what plots are drawn with.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::axis::Axis;
use super::ink::{self, Dash, Ink};
use super::page::escape;

/// The width of every plot, in pixels.
pub(super) const WIDTH: f64 = 960.0;

/// Units of the drawing in a pixel: plotters places everything at whole units.
const UNITS: f64 = 10.0;

/// The size of most text, in pixels.
const TEXT: f64 = 13.0;

/// Between the entries of a legend, and what an entry's sample takes.
const LEGEND_GAP: f64 = 22.0;
const SAMPLE: f64 = 30.0;
const LEGEND_LINE: f64 = 20.0;

const IN_MEMORY: &str = "drawing into memory does not fail";

/// A plot, drawn.
#[derive(Clone, Debug)]
pub struct Plot {
    /// A name for its file.
    pub name: String,
    /// What it shows.
    pub(super) title: String,
    /// What it shows, for those who do not see it.
    pub(super) description: String,
    height: f64,
    svg: String,
}

impl Plot {
    /// Draws a plot of `height` pixels.
    pub(super) fn draw(
        name: &str,
        title: impl Into<String>,
        description: impl Into<String>,
        height: f64,
        draw: impl FnOnce(&Canvas),
    ) -> Self {
        let mut svg = String::new();
        let backend =
            SVGBackend::with_string(&mut svg, (units(WIDTH) as u32, units(height) as u32));
        let canvas = Canvas(backend.into_drawing_area());
        draw(&canvas);
        canvas.0.present().expect(IN_MEMORY);
        drop(canvas);
        // Without plotters' own frame, with its line breaks, and what is so anyway.
        let body = svg.split_once('>').map_or("", |(_, body)| body).trim_end();
        let body = body.strip_suffix("</svg>").unwrap_or(body);
        let svg = body.replace('\n', "").replace(" opacity=\"1\"", "");
        // Half an ex is less than half of a digit.
        let svg = svg.replace("dy=\"0.5ex\"", "dy=\"0.35em\"");
        let (title, description) = (title.into(), description.into());
        Self { name: name.to_string(), title, description, height, svg }
    }

    /// The plot as an element of a page, in the colours of the page's theme.
    pub(super) fn inline(&self) -> String {
        let body = ink::resolve(&self.svg, true);
        let (title, description) = (escape(&self.title), escape(&self.description));
        let id = escape(&self.name);
        format!(
            "<svg class=\"plot\" viewBox=\"0 0 {} {}\" role=\"img\" aria-labelledby=\"{id}-title {id}-desc\" \
             stroke-linejoin=\"round\"><title id=\"{id}-title\">{title}</title>\
             <desc id=\"{id}-desc\">{description}</desc>{body}</svg>",
            units(WIDTH),
            units(self.height),
        )
    }

    /// The plot as a file of its own, in the colours of the light theme.
    pub fn svg(&self) -> String {
        let body = ink::resolve(&self.svg, false);
        let (title, description) = (escape(&self.title), escape(&self.description));
        let (width, height) = (units(WIDTH), units(self.height));
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{}\" \
             viewBox=\"0 0 {width} {height}\" stroke-linejoin=\"round\"><title>{title}</title>\
             <desc>{description}</desc><rect width=\"{width}\" height=\"{height}\" fill=\"#FFFFFF\"/>{body}</svg>\n",
            self.height,
        )
    }
}

fn units(pixels: f64) -> i32 {
    (pixels * UNITS).round() as i32
}

/// A point in pixels, from the top left.
pub(super) type Point = (f64, f64);

fn at((x, y): Point) -> (i32, i32) {
    (units(x), units(y))
}

/// Where a text stands about its point.
#[derive(Clone, Copy)]
pub(super) enum Anchor {
    Start,
    End,
}

/// The shape of a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Circle,
    Ring,
    Triangle,
    Square,
    Diamond,
}

impl Shape {
    /// One that differs from those of the series before.
    pub(super) fn of_series(index: usize) -> Self {
        [Shape::Circle, Shape::Square, Shape::Triangle, Shape::Diamond][index % 4]
    }
}

/// What a legend shows beside a text.
#[derive(Clone, Copy)]
pub(super) enum Sample {
    Line(Ink, Dash),
    /// A line that is there only for orientation.
    Faint(Ink),
    Marked(Ink, Dash, Shape),
    Mark(Ink, Shape),
    Bar(Ink, f64),
    Tick(Ink),
}

/// What is drawn on, in pixels.
pub(super) struct Canvas<'a>(DrawingArea<SVGBackend<'a>, Shift>);

impl Canvas<'_> {
    /// A line of `width` pixels through all points.
    pub(super) fn line(&self, points: &[Point], ink: Ink, dash: Dash, width: f64, opacity: f64) {
        // Of a stage without epochs there is nothing to draw.
        if points.is_empty() {
            return;
        }
        let style = stroke(ink, dash, width, opacity);
        let points: Vec<_> = points.iter().copied().map(at).collect();
        self.0.draw(&PathElement::new(points, style)).expect(IN_MEMORY);
    }

    /// A filled outline.
    pub(super) fn area(&self, outline: &[Point], ink: Ink, opacity: f64) {
        let style = ink.key(Dash::Solid).mix(opacity).filled();
        let outline: Vec<_> = outline.iter().copied().map(at).collect();
        self.0.draw(&Polygon::new(outline, style)).expect(IN_MEMORY);
    }

    /// A filled rectangle.
    pub(super) fn bar(&self, from: Point, to: Point, ink: Ink, opacity: f64) {
        let style = ink.key(Dash::Solid).mix(opacity).filled();
        self.0.draw(&Rectangle::new([at(from), at(to)], style)).expect(IN_MEMORY);
    }

    /// A mark of about 9 pixels. Marks that lie upon others have a thin edge in the ground's colour.
    pub(super) fn mark(&self, (x, y): Point, ink: Ink, shape: Shape) {
        const RADIUS: f64 = 4.5;
        let polygon = |corners: &[Point], grow: f64| -> Vec<Point> {
            corners
                .iter()
                .map(|(dx, dy)| (x + dx * (RADIUS + grow), y + dy * (RADIUS + grow)))
                .collect()
        };
        let corners: &[Point] = match shape {
            Shape::Circle | Shape::Ring => {
                let disc = |radius: f64, ink: Ink| {
                    let style = ink.key(Dash::Solid).filled();
                    self.0.draw(&Circle::new(at((x, y)), units(radius), style)).expect(IN_MEMORY);
                };
                disc(RADIUS + 1.0, Ink::Paper);
                disc(RADIUS, ink);
                if shape == Shape::Ring {
                    disc(RADIUS - 1.8, Ink::Paper);
                }
                return;
            }
            Shape::Triangle => &[(0.0, -1.15), (1.1, 0.85), (-1.1, 0.85)],
            Shape::Square => &[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
            Shape::Diamond => &[(0.0, -1.25), (1.25, 0.0), (0.0, 1.25), (-1.25, 0.0)],
        };
        self.area(&polygon(corners, 1.2), Ink::Paper, 1.0);
        self.area(&polygon(corners, 0.0), ink, 1.0);
    }

    /// A text whose middle line is at the point.
    pub(super) fn text(&self, text: &str, point: Point, ink: Ink, anchor: Anchor) {
        let anchor = match anchor {
            Anchor::Start => HPos::Left,
            Anchor::End => HPos::Right,
        };
        let style =
            font(TEXT - 1.0, FontFamily::SansSerif, ink).pos(Pos::new(anchor, VPos::Center));
        self.0.draw(&Text::new(text, at(point), style)).expect(IN_MEMORY);
    }

    /// A legend from `left` on, its first line at the top of the plot.
    pub(super) fn legend(&self, left: f64, entries: &[(Sample, String)]) {
        for ((x, line), (sample, text)) in places(left, entries).into_iter().zip(entries) {
            let y = LEGEND_LINE * (line as f64 + 0.5);
            let ends = [(x, y), (x + SAMPLE - 6.0, y)];
            let middle = (x + SAMPLE / 2.0 - 3.0, y);
            match *sample {
                Sample::Line(ink, dash) => self.line(&ends, ink, dash, 2.2, 1.0),
                Sample::Faint(ink) => self.line(&ends, ink, Dash::Solid, 1.0, 0.5),
                Sample::Marked(ink, dash, shape) => {
                    self.line(&ends, ink, dash, 2.2, 1.0);
                    self.mark(middle, ink, shape);
                }
                Sample::Mark(ink, shape) => self.mark(middle, ink, shape),
                Sample::Bar(ink, opacity) => {
                    self.bar((x, y - 5.0), (x + SAMPLE - 8.0, y + 5.0), ink, opacity);
                }
                Sample::Tick(ink) => {
                    self.line(
                        &[(middle.0, y - 7.0), (middle.0, y + 7.0)],
                        ink,
                        Dash::Solid,
                        2.0,
                        1.0,
                    );
                }
            }
            self.text(text, (x + SAMPLE, y), Ink::Text, Anchor::Start);
        }
    }

    /// Draws the axes and the grid of a frame.
    pub(super) fn frame<'f>(&self, frame: &Frame<'f>) -> Framed<'f> {
        let mut builder = ChartBuilder::on(&self.0);
        builder
            .margin_top(units(frame.top))
            .margin_right(units(frame.right))
            .margin_left(units(MARGIN))
            .set_label_area_size(LabelAreaPosition::Left, units(frame.left - MARGIN))
            .set_label_area_size(LabelAreaPosition::Bottom, units(AXIS));
        let (x, y) = (frame.x, frame.y);
        let mut chart = builder.build_cartesian_2d(x.clone(), y.clone()).expect(IN_MEMORY);
        let (names, numbers) = (frame.rows.is_some(), FontFamily::SansSerif);
        let family = if names { FontFamily::Monospace } else { numbers };
        let row = |place: &f64| match frame.rows {
            Some(rows) => rows[*place as usize].clone(),
            None => y.label(*place),
        };
        let tick = |place: &f64| x.label(*place);
        let mut mesh = chart.configure_mesh();
        mesh.axis_style(stroke(Ink::Muted, Dash::Solid, 1.0, 0.7))
            .bold_line_style(stroke(Ink::Grid, Dash::Solid, 1.0, 1.0))
            .light_line_style(ink_of_nothing())
            .x_label_style(font(TEXT - 1.0, FontFamily::SansSerif, Ink::Muted))
            .y_label_style(font(TEXT - 1.0, family, if names { Ink::Text } else { Ink::Muted }))
            .x_label_formatter(&tick)
            .y_label_formatter(&row)
            .set_all_tick_mark_size(units(3.5))
            .x_desc(frame.x_title)
            .axis_desc_style(font(TEXT, FontFamily::SansSerif, Ink::Text));
        if let Some(title) = frame.y_title {
            mesh.y_desc(title);
        }
        mesh.draw().expect(IN_MEMORY);
        let corner = |x, y| {
            let (x, y) = chart.backend_coord(&(x, y));
            (f64::from(x) / UNITS, f64::from(y) / UNITS)
        };
        Framed { x, y, from: corner(x.start, y.start), to: corner(x.end, y.end) }
    }
}

/// What a horizontal axis takes, with its title.
pub(super) const AXIS: f64 = 46.0;

/// Left of an axis' title, so that no font is cut off.
const MARGIN: f64 = 4.0;

/// What a vertical axis with numbers takes, with its title.
pub(super) const NUMBERS: f64 = 74.0;

/// Axes to draw, and the room about them.
pub(super) struct Frame<'a> {
    pub(super) x: &'a Axis,
    pub(super) y: &'a Axis,
    pub(super) x_title: &'a str,
    pub(super) y_title: Option<&'a str>,
    /// Names of rows, in the place of numbers.
    pub(super) rows: Option<&'a [String]>,
    pub(super) top: f64,
    pub(super) left: f64,
    pub(super) right: f64,
}

/// Axes that are drawn: from values to points.
pub(super) struct Framed<'a> {
    x: &'a Axis,
    y: &'a Axis,
    /// The bottom left corner, and the top right one.
    pub(super) from: Point,
    pub(super) to: Point,
}

impl Framed<'_> {
    pub(super) fn x(&self, value: f64) -> f64 {
        let share = (self.x.place(value) - self.x.start) / (self.x.end - self.x.start);
        self.from.0 + share * (self.to.0 - self.from.0)
    }

    pub(super) fn y(&self, value: f64) -> f64 {
        let share = (self.y.place(value) - self.y.start) / (self.y.end - self.y.start);
        self.from.1 + share * (self.to.1 - self.from.1)
    }

    pub(super) fn points(&self, values: &[(f64, f64)]) -> Vec<Point> {
        values.iter().map(|&(x, y)| (self.x(x), self.y(y))).collect()
    }
}

/// The height of a legend from `left` on, with a little room below.
pub(super) fn legend_height(left: f64, entries: &[(Sample, String)]) -> f64 {
    let lines = places(left, entries).last().map_or(0, |(_, line)| line + 1);
    LEGEND_LINE * lines as f64 + 10.0
}

/// Where the entries of a legend begin, and in which line.
fn places(left: f64, entries: &[(Sample, String)]) -> Vec<(f64, usize)> {
    let (mut x, mut line) = (left, 0);
    let place = |(_, text): &(Sample, String)| {
        let width = SAMPLE + text_width(text);
        if x > left && x + width > WIDTH {
            (x, line) = (left, line + 1);
        }
        let place = (x, line);
        x += width + LEGEND_GAP;
        place
    };
    entries.iter().map(place).collect()
}

/// About how wide a text is: fonts differ, and most are narrower.
fn text_width(text: &str) -> f64 {
    0.53 * (TEXT - 1.0) * text.chars().count() as f64
}

/// The room that names of rows take beside an axis.
pub(super) fn names_width<'a>(names: impl IntoIterator<Item = &'a String>) -> f64 {
    let longest = names.into_iter().map(|name| name.chars().count()).max().unwrap_or(0);
    0.61 * (TEXT - 1.0) * longest as f64 + 14.0
}

fn stroke(ink: Ink, dash: Dash, width: f64, opacity: f64) -> ShapeStyle {
    ink.key(dash).mix(opacity).stroke_width(units(width) as u32)
}

/// Plotters draws a grid between the ticks too, unless it cannot be seen.
fn ink_of_nothing() -> ShapeStyle {
    stroke(Ink::Grid, Dash::Solid, 1.0, 0.0)
}

fn font(pixels: f64, family: FontFamily<'_>, ink: Ink) -> TextStyle<'_> {
    // Plotters writes a font size of 1/1.24 of what it is told.
    let font = FontDesc::new(family, pixels * UNITS * 1.24, FontStyle::Normal);
    font.color(&ink.key(Dash::Solid))
}
