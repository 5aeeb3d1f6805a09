//! The page: one HTML file that needs nothing else. It is well-formed XML too, below its doctype.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::ink;
use super::plot::Plot;
use super::run::{Cost, MetricRow, Run, Tensor};
use super::{curves, layers, levels, scores};
use crate::evaluate::{LayerError, Summary};
use crate::quant::GranularitySpec;

const CSS: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// A text as it stands in HTML and XML, between tags and in attributes.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // XML has no other control characters.
            c if c.is_control() && !matches!(c, '\t' | '\n' | '\r') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A section of a page: its name in links, its title, and what it holds. Empty ones are left out.
type Section = (&'static str, &'static str, String);

/// How every page begins, and how its title ends.
const DOCTYPE: &str = "<!DOCTYPE html>";
const TITLE_ENDS: &str = " · ausn</title>";

/// Whether a text is a page that was written here.
pub fn is_report(text: &str) -> bool {
    text.starts_with(DOCTYPE) && text.contains(TITLE_ENDS)
}

/// The report of one run.
pub fn page(run: &Run) -> String {
    let sections = [
        ("metric", "Task metric", metric(run)),
        ("training", "Training", training(run)),
        ("errors", "Errors of the layers", errors(run)),
        ("histograms", "Values and levels", histograms(run)),
        ("plan", "Plan", plan(run)),
        ("cost", "Cost", cost(run)),
        ("configuration", "Configuration", configuration(run)),
    ];
    let lead = match &run.summary {
        Some(summary) => format!(
            "{}, seed {}: {} parameters, {} quantized tensors",
            escape(&summary.task),
            summary.seed,
            grouped(summary.parameters),
            run.tensors.len()
        ),
        None => "This run is not finished: the report shows what it has written so far.".into(),
    };
    document(&run.name, &lead, &tiles(run), &sections)
}

/// The comparison of several runs.
pub fn comparison(runs: &[Run]) -> String {
    let errors = figures(layers::compared(runs));
    let errors = match errors.is_empty() {
        true => errors,
        false => format!("{NOTE}{errors}{}", compared_sqnr(runs)),
    };
    let sections = [
        ("metric", "Task metric", compared_metrics(runs)),
        ("plan", "Plan", compared_plans(runs)),
        ("training", "Training", figures(curves::compared(runs))),
        ("errors", "Errors of the layers", errors),
        ("cost", "Cost", compared_cost(runs)),
        ("configuration", "Configuration", compared_configurations(runs)),
    ];
    let names: Vec<String> = runs
        .iter()
        .map(|run| format!("<span class=\"name\">{}</span>", escape(&run.name)))
        .collect();
    document(&format!("{} runs compared", runs.len()), &names.join(", "), "", &sections)
}

fn document(title: &str, lead: &str, top: &str, sections: &[Section]) -> String {
    let title = escape(title);
    let shown = || sections.iter().filter(|(_, _, body)| !body.is_empty());
    let links: String =
        shown().map(|(id, title, _)| format!("<li><a href=\"#{id}\">{title}</a></li>")).collect();
    let section = |(id, title, body): &Section| {
        format!(
            "<section aria-labelledby=\"{id}\">\n<h2 id=\"{id}\">{title}</h2>\n{body}</section>\n"
        )
    };
    let body: String = shown().map(section).collect();
    let (light, dark) = (ink::declarations(false), ink::declarations(true));
    // What is printed is on white paper, whichever theme the screen has.
    let themes = format!(
        ":root{{{light}}}\n@media screen and (prefers-color-scheme:dark){{:root:not([data-theme=light]){{{dark}}}}}\n\
         @media screen{{:root[data-theme=dark]{{{dark}color-scheme:dark;}}:root[data-theme=light]{{color-scheme:light;}}}}\n\
         @media print{{:root{{color-scheme:light;}}}}\n"
    );
    format!(
        "{DOCTYPE}\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<title>{title}{TITLE_ENDS}\n\
         <link rel=\"icon\" href=\"data:,\"/>\n<style>\n{themes}{CSS}</style>\n</head>\n<body>\n\
         <header>\n<div>\n<h1>{title}</h1>\n<p class=\"lead\">{lead}</p>\n</div>\n\
         <button id=\"theme\" type=\"button\">Dark theme</button>\n</header>\n\
         <nav aria-label=\"Sections\"><ul>{links}</ul></nav>\n<main>\n{top}{body}</main>\n\
         <footer>ausn {}</footer>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n",
        env!("CARGO_PKG_VERSION")
    )
}

/// A table: what a column holds, and whether it holds numbers.
struct Table<'a> {
    caption: &'a str,
    columns: &'a [(&'a str, bool)],
    rows: Vec<Vec<String>>,
}

impl Table<'_> {
    /// The first column names the rows.
    fn html(&self) -> String {
        let class = |number: bool| if number { " class=\"number\"" } else { "" };
        let code = matches!(self.columns[0].0, "layer" | "run" | "setting");
        let names = if code { " class=\"name\"" } else { "" };
        let head: String = self
            .columns
            .iter()
            .map(|(name, number)| format!("<th scope=\"col\"{}>{name}</th>", class(*number)))
            .collect();
        let row = |cells: &Vec<String>| {
            let cell = |(i, text): (usize, &String)| match i {
                0 => format!("<th scope=\"row\"{names}>{}</th>", escape(text)),
                _ => format!("<td{}>{}</td>", class(self.columns[i].1), escape(text)),
            };
            format!("<tr>{}</tr>\n", cells.iter().enumerate().map(cell).collect::<String>())
        };
        let rows: String = self.rows.iter().map(row).collect();
        // What scrolls has to be reached by the keyboard too.
        format!(
            "<div class=\"wide\" role=\"region\" tabindex=\"0\" aria-label=\"{0}\"><table>\n<caption>{0}</caption>\n\
             <thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n",
            escape(self.caption)
        )
    }
}

fn figure(plot: &Plot, class: &str) -> String {
    format!(
        "<figure{class}>\n<div class=\"wide\" role=\"region\" tabindex=\"0\" aria-label=\"Plot: {title}\">{}</div>\n</figure>\n",
        plot.inline(),
        title = escape(&plot.title),
    )
}

fn figures(plots: Vec<Plot>) -> String {
    plots
        .iter()
        .map(|plot| format!("<h3>{}</h3>\n{}", escape(&plot.title), figure(plot, "")))
        .collect()
}

fn number(value: Option<f64>) -> String {
    value.map_or("–".into(), |value| format!("{value:.4}"))
}

/// The figures of a row, each with its standard error where it is known, and the change from the first to the last.
fn measured(row: &MetricRow) -> [String; 4] {
    let figure = |stage: usize| match row.errors[stage] {
        Some(error) => format!("{} ± {error:.4}", number(row.values[stage])),
        None => number(row.values[stage]),
    };
    let [float, calibrated, quantized] = row.values;
    let change = change(float, quantized.or(calibrated));
    let change = match row.error_of_change {
        Some(error) => format!("{change} ± {error:.4}"),
        None => change,
    };
    [figure(0), figure(1), figure(2), change]
}

fn change(from: Option<f64>, to: Option<f64>) -> String {
    from.zip(to).map_or("–".into(), |(from, to)| format!("{:+.4}", to - from).replace('-', "−"))
}

/// A whole number with a thin space at every thousand.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// Bytes in a unit that leaves few digits.
fn bytes(count: f64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let power = (1..units.len()).take_while(|&power| count >= 1000f64.powi(power as i32)).count();
    match power {
        0 => format!("{count:.0} B"),
        _ => format!("{:.1} {}", count / 1000f64.powi(power as i32), units[power]),
    }
}

fn seconds(seconds: f64) -> String {
    match seconds {
        ..10.0 => format!("{seconds:.1} s"),
        ..600.0 => format!("{seconds:.0} s"),
        ..36_000.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.1} h", seconds / 3600.0),
    }
}

fn tiles(run: &Run) -> String {
    let rows = run.metrics();
    let Some(MetricRow { split, values: [float, calibrated, quantized], .. }) = rows.first() else {
        return String::new();
    };
    let mut tiles = String::new();
    let mut add = |name: &str, value: String, small: String| {
        let small = if small.is_empty() { small } else { format!("<small>{small}</small>") };
        tiles.push_str(&format!("<div><dt>{name}</dt><dd>{value}{small}</dd></div>\n"));
    };
    let metric = format!("{} on {}", escape(run.metric()), escape(split));
    add("Float", number(*float), metric);
    for (name, value) in [("Calibrated", *calibrated), ("Quantized", *quantized)] {
        if value.is_some() {
            add(name, number(value), format!("{} against float", change(*float, value)));
        }
    }
    if let Some(Cost { bits_per_weight: Some(bits), float_bytes, packed_bytes, .. }) = run.cost() {
        add(
            "Bits per weight",
            format!("{bits:.2}"),
            format!("{} instead of {}", bytes(packed_bytes), bytes(float_bytes)),
        );
    }
    format!("<dl class=\"tiles\">\n{tiles}</dl>\n")
}

fn metric(run: &Run) -> String {
    if run.summary.is_none() {
        return String::new();
    }
    let rows = run.metrics().into_iter().map(|row| {
        let mut cells = vec![row.split.clone(), row.metric.clone(), grouped(row.examples)];
        cells.extend(measured(&row));
        cells
    });
    let table = Table {
        caption: "What the task measures on each split, of the float model, straight after calibration, and after \
                  fine-tuning; ± is the standard error over the examples, of a change on the same examples",
        columns: &[
            ("split", false),
            ("metric", false),
            ("examples", true),
            ("float", true),
            ("calibrated", true),
            ("quantized", true),
            ("change", true),
        ],
        rows: rows.collect(),
    };
    let plot = scores::scores(run).map(|plot| figure(&plot, "")).unwrap_or_default();
    table.html() + &plot
}

fn training(run: &Run) -> String {
    match curves::curves(run) {
        plots if plots.is_empty() => "<p class=\"note\">No epoch was trained.</p>\n".into(),
        plots => figures(plots),
    }
}

/// How errors are told.
const NOTE: &str = "<p class=\"note\">Clipping error is the squared error of the values beyond a coding's range, \
rounding error that of all others; both over the sum of the squared values, so that tensors can be compared. Nothing is \
drawn for an error of 0.</p>\n";

fn errors(run: &Run) -> String {
    if run.tensors.is_empty() {
        return String::new();
    }
    let scientific = |value: f64| format!("{value:.3e}").replace('-', "−");
    let row = |errors: &LayerError| {
        vec![
            errors.layer.clone(),
            errors.tensor.clone(),
            errors.stage.clone(),
            scientific(errors.clipping_error),
            scientific(errors.rounding_error),
            format!("{:.2} %", 100.0 * errors.clipped_fraction),
            errors.sqnr(),
        ]
    };
    let rows = run.tensors.iter().flat_map(|tensor| &tensor.measured).map(row);
    let table = Table {
        caption: "Sums of squared errors before and after fine-tuning",
        columns: &[
            ("layer", false),
            ("tensor", false),
            ("stage", false),
            ("clipping", true),
            ("rounding", true),
            ("clipped", true),
            ("SQNR", true),
        ],
        rows: rows.collect(),
    };
    format!("{NOTE}{}<h3>Table of errors</h3>\n{}", figures(layers::layers(run)), table.html())
}

fn histograms(run: &Run) -> String {
    let plots = levels::histograms(run);
    if plots.is_empty() {
        return String::new();
    }
    let options: String =
        plots.iter().map(|(choice, _)| format!("<option>{}</option>\n", escape(choice))).collect();
    let figures: String = plots
        .iter()
        .map(|(choice, plot)| {
            let plot = figure(plot, "");
            let caption =
                format!("<figcaption class=\"name\">{}</figcaption>\n</figure>", escape(choice));
            plot.replacen("</figure>", &caption, 1)
        })
        .collect();
    format!(
        "<p class=\"note\">How the float values of each tensor lie about the levels that they are rounded to, as seen \
         in the last evaluation: a weight's own values, an activation's on the first split.</p>\n\
         <div class=\"chooser\"><label for=\"tensor\">Tensor</label>\n<select id=\"tensor\">\n{options}</select></div>\n\
         <div class=\"choices\">\n{figures}</div>\n"
    )
}

fn plan(run: &Run) -> String {
    if run.tensors.is_empty() {
        return match run.summary {
            Some(_) => "<p class=\"note\">Nothing is quantized.</p>\n".into(),
            None => String::new(),
        };
    }
    let row = |tensor: &Tensor| {
        let count = |n: Option<u32>| n.map_or("–".into(), |n| n.to_string());
        let shape = tensor.shape.as_deref().map(|shape| {
            let sizes: Vec<String> = shape.iter().map(usize::to_string).collect();
            sizes.join(" × ")
        });
        let log = tensor.last();
        let scales = match (log.scales, tensor.granularity) {
            (scales @ 2.., Some(GranularitySpec::PerChannel)) => {
                format!("{} (per channel)", grouped(scales))
            }
            (scales @ 2.., Some(GranularitySpec::PerGroup(size))) => {
                format!("{} (per group of {size})", grouped(scales))
            }
            (scales, _) => grouped(scales),
        };
        vec![
            log.layer.clone(),
            log.tensor.clone(),
            shape.unwrap_or("–".into()),
            log.coding.to_string(),
            format!("{}{}", log.bits, if log.signed { "" } else { " unsigned" }),
            count(log.exponent_bits),
            count(log.superposition_bits),
            log.underflow.clone().unwrap_or("–".into()),
            scales,
            log.range(" to ").unwrap_or("–".into()).replace('-', "−"),
        ]
    };
    let table = Table {
        caption: "The coding of every quantized tensor, with its range or free scale at the end",
        columns: &[
            ("layer", false),
            ("tensor", false),
            ("shape", false),
            ("coding", false),
            ("bits", true),
            ("E", true),
            ("S", true),
            ("underflow", false),
            ("scales", true),
            ("r or scale", true),
        ],
        rows: run.tensors.iter().map(row).collect(),
    };
    table.html()
}

/// What is stored, in words.
const STORED: &str =
    "Packed, quantized weights take their bits, each scale and every other parameter 4 bytes.";

fn cost(run: &Run) -> String {
    let (Some(summary), Some(cost)) = (&run.summary, run.cost()) else { return String::new() };
    let row = |name: &str, value: String| vec![name.to_string(), value];
    let mut rows = vec![row("parameters", grouped(summary.parameters))];
    if let Some(bits) = cost.bits_per_weight {
        rows.push(row("of them in quantized weights", grouped(cost.quantized_weights)));
        rows.push(row("bits per quantized weight", format!("{bits:.2}")));
    }
    rows.push(row("size in float (32 bits)", bytes(cost.float_bytes)));
    if cost.bits_per_weight.is_some() {
        let ratio = cost.float_bytes / cost.packed_bytes;
        rows.push(row(
            "size packed",
            format!("{} ({ratio:.1} times smaller)", bytes(cost.packed_bytes)),
        ));
    }
    rows.push(row("training examples", grouped(summary.train_examples)));
    let stage = |epochs: usize, time: f64| {
        format!("{} ({epochs} epoch{})", seconds(time), if epochs == 1 { "" } else { "s" })
    };
    rows.push(row("float stage", stage(summary.epochs.float, summary.seconds.float)));
    if cost.bits_per_weight.is_some() {
        rows.push(row(
            "quantized stage",
            stage(summary.epochs.quantized, summary.seconds.quantized),
        ));
    }
    let table = Table {
        caption: "What the model takes to store, and what training took, with validation",
        columns: &[("what", false), ("figure", true)],
        rows,
    };
    format!("{}<p class=\"note\">{STORED}</p>\n", table.html())
}

fn configuration(run: &Run) -> String {
    format!(
        "<pre tabindex=\"0\" role=\"region\" aria-label=\"Configuration\">{}</pre>\n",
        escape(run.config.trim_end())
    )
}

fn compared_metrics(runs: &[Run]) -> String {
    let mut rows = Vec::new();
    for run in runs {
        let Some(summary) = &run.summary else {
            let unfinished = ["not finished", "–", "–", "–", "–", "–", "–", "–"];
            rows.push([&*run.name].into_iter().chain(unfinished).map(String::from).collect());
            continue;
        };
        for row in run.metrics() {
            let mut cells = vec![
                run.name.clone(),
                summary.task.clone(),
                summary.seed.to_string(),
                row.split.clone(),
                row.metric.clone(),
            ];
            cells.extend(measured(&row));
            rows.push(cells);
        }
    }
    let table = Table {
        caption: "What each run measured on every split; ± is the standard error over the examples, of a change on the same examples",
        columns: &[
            ("run", false),
            ("task", false),
            ("seed", true),
            ("split", false),
            ("metric", false),
            ("float", true),
            ("calibrated", true),
            ("quantized", true),
            ("change", true),
        ],
        rows,
    };
    table.html()
}

/// The codings of each run's plan, and how long it was trained.
fn compared_plans(runs: &[Run]) -> String {
    let epochs = |run: &Run, epochs: fn(&Summary) -> usize| {
        run.summary.as_ref().map_or("–".into(), |summary| epochs(summary).to_string())
    };
    let row = |run: &Run| {
        vec![
            run.name.clone(),
            codings(run, true),
            codings(run, false),
            epochs(run, |summary| summary.epochs.float),
            epochs(run, |summary| summary.epochs.quantized),
        ]
    };
    let table = Table {
        caption: "The codings of each run, with the number of tensors that have them, and the epochs of its stages",
        columns: &[
            ("run", false),
            ("weights", false),
            ("activations", false),
            ("epochs in float", true),
            ("epochs quantized", true),
        ],
        rows: runs.iter().map(row).collect(),
    };
    table.html()
}

/// The codings of a run's weights or activations, the most frequent first.
fn codings(run: &Run, weight: bool) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for tensor in run.tensors.iter().filter(|tensor| tensor.is_weight() == weight) {
        *counts.entry(tensor.kind()).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| Reverse(*count));
    let texts: Vec<String> =
        counts.into_iter().map(|(kind, count)| format!("{kind} ({count})")).collect();
    if texts.is_empty() { "–".into() } else { texts.join(", ") }
}

/// The settings in which the runs differ, a column for each run.
fn compared_configurations(runs: &[Run]) -> String {
    let keys: BTreeSet<&String> = runs.iter().flat_map(|run| run.settings.keys()).collect();
    let row = |key: &String| {
        let values = runs.iter().map(|run| run.settings.get(key));
        let differ = values.clone().any(|value| value != runs[0].settings.get(key));
        let values = values.map(|value| value.cloned().unwrap_or("not set".into()));
        differ.then(|| std::iter::once(key.clone()).chain(values).collect())
    };
    let rows: Vec<Vec<String>> = keys.into_iter().filter_map(row).collect();
    if rows.is_empty() {
        return "<p class=\"note\">The configurations of the runs are the same.</p>\n".into();
    }
    let names: Vec<String> = runs.iter().map(|run| escape(&run.name)).collect();
    let mut columns = vec![("setting", false)];
    columns.extend(names.iter().map(|name| (name.as_str(), false)));
    let table = Table { caption: "The settings in which the runs differ", columns: &columns, rows };
    table.html()
}

/// The finished models' signal to noise ratios, a column for each run.
fn compared_sqnr(runs: &[Run]) -> String {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for (i, run) in runs.iter().enumerate() {
        for errors in run.tensors.iter().map(Tensor::last) {
            let is = |row: &Vec<String>| row[0] == errors.layer && row[1] == errors.tensor;
            let index = rows.iter().position(is).unwrap_or_else(|| {
                let mut row = vec![errors.layer.clone(), errors.tensor.clone()];
                row.resize(2 + runs.len(), "–".into());
                rows.push(row);
                rows.len() - 1
            });
            rows[index][2 + i] = errors.sqnr();
        }
    }
    let names: Vec<String> = runs.iter().map(|run| escape(&run.name)).collect();
    let mut columns = vec![("layer", false), ("tensor", false)];
    columns.extend(names.iter().map(|name| (name.as_str(), true)));
    let table = Table {
        caption: "Signal to quantization noise ratio of every tensor in each run",
        columns: &columns,
        rows,
    };
    format!("<h3>Table of SQNR</h3>\n{}", table.html())
}

fn compared_cost(runs: &[Run]) -> String {
    let row = |run: &Run| {
        let (summary, cost) = (run.summary.as_ref()?, run.cost()?);
        Some(vec![
            run.name.clone(),
            grouped(summary.parameters),
            grouped(cost.quantized_weights),
            cost.bits_per_weight.map_or("–".into(), |bits| format!("{bits:.2}")),
            bytes(cost.float_bytes),
            bytes(cost.packed_bytes),
            seconds(summary.seconds.float),
            seconds(summary.seconds.quantized),
        ])
    };
    let rows: Vec<_> = runs.iter().filter_map(row).collect();
    if rows.is_empty() {
        return String::new();
    }
    let table = Table {
        caption: "What each model takes to store, and what training took, with validation",
        columns: &[
            ("run", false),
            ("parameters", true),
            ("quantized", true),
            ("bits per weight", true),
            ("in float", true),
            ("packed", true),
            ("float stage", true),
            ("quantized stage", true),
        ],
        rows,
    };
    format!("{}<p class=\"note\">{STORED}</p>\n", table.html())
}
