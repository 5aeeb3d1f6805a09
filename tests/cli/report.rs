//! Reports: what `ausn train` leaves, what `ausn report` writes, and how a browser shows it.

use std::env;
use std::path::PathBuf;

use roxmltree::Document;

use crate::support::{LSTM, Said, Workspace};

#[test]
fn a_run_leaves_its_report_and_the_command_writes_it_again_with_its_plots() {
    let workspace = Workspace::new();
    workspace.train(LSTM, "run", &[]).success();
    let page = workspace.read("run/report.html");
    for part in
        ["Task metric", "Training", "Errors of the layers", "Values and levels", "Plan", "Cost"]
    {
        assert!(page.contains(&format!(">{part}</h2>")), "there is no {part}");
    }
    let accuracy = workspace.json("run/summary.json")["metric"]["quantized"].as_f64().unwrap();
    assert!(page.contains(&format!("{accuracy:.4}")), "the metric is not in the report");
    for layer in ["lstm.input", "lstm.recurrent", "classifier"] {
        for kind in ["weight", "activation"] {
            let choice = format!("<option>{layer} ({kind})</option>");
            assert!(page.contains(&choice), "there is no {choice}");
        }
    }

    let histograms = workspace.json("run/histograms.json");
    let rows = workspace.read("run/layers.csv");
    let column = rows.lines().next().unwrap().split(',').position(|name| name == "values").unwrap();
    let values = |layer: &str, kind: &str| -> u64 {
        let row = rows.lines().find(|row| row.starts_with(&format!("quantized,{layer},{kind}")));
        row.unwrap().split(',').nth(column).unwrap().parse().unwrap()
    };
    for histogram in histograms["tensors"].as_array().unwrap() {
        let sum = |key: &str| -> u64 {
            histogram[key].as_array().unwrap().iter().map(|count| count.as_u64().unwrap()).sum()
        };
        let (layer, tensor) =
            (histogram["layer"].as_str().unwrap(), histogram["tensor"].as_str().unwrap());
        assert_eq!(sum("counts") + sum("outside"), values(layer, tensor), "{layer} {tensor}");
    }

    workspace.remove("run/report.html");
    workspace.ausn(["report", "run"]).success().stderr("").prints(["report: run/report.html"]);
    assert_eq!(workspace.read("run/report.html"), page);

    let args =
        ["report", "run", "--json", "--out", "a.html", "--svg", "plots/svg", "--png", "plots/png"];
    let written = workspace.ausn(args).success().json();
    assert_eq!(written["report"], "a.html");
    assert_eq!(workspace.read("a.html"), page);
    let mut plots: Vec<&str> =
        written["plots"].as_array().unwrap().iter().map(|plot| plot.as_str().unwrap()).collect();
    plots.sort_unstable();
    let names = ["errors-activations", "errors-weights"].into_iter().map(String::from);
    let names = names.chain((1..=6).map(|i| format!("histogram-{i}")));
    let names = names.chain(["loss", "metric", "scores"].map(String::from));
    let expected: Vec<String> = ["png", "svg"]
        .into_iter()
        .flat_map(|kind| names.clone().map(move |name| format!("plots/{kind}/{name}.{kind}")))
        .collect();
    assert_eq!(plots, expected);
    for plot in plots {
        match plot.ends_with("svg") {
            true => assert!(Document::parse(&workspace.read(plot)).is_ok(), "{plot} is no SVG"),
            false => {
                let picture = image::load_from_memory(&workspace.bytes(plot));
                assert!(picture.is_ok_and(|picture| picture.width() == 2880), "{plot}");
            }
        }
    }
}

#[test]
fn a_report_takes_the_place_of_a_report_alone() {
    let workspace = Workspace::new();
    workspace.train(LSTM, "run", &["train.epochs=0"]).success();
    let to = |out: &str| workspace.ausn(["report", "run", "--out", out]);
    to("page.html").success();
    to("page.html").success();
    to("config.toml").code(2).says(["--out config.toml", "is no report"]);
    assert_eq!(workspace.read("config.toml"), LSTM);
}

#[test]
fn several_runs_are_compared_on_one_page() {
    let workspace = Workspace::new();
    workspace.train(LSTM, "first", &[]).success();
    let bits = "quant.weight={ coding = 'ausn', bits = 3 }";
    workspace.train(LSTM, "second", &[bits]).success();
    let args = ["report", "first", "second", "--svg", "plots"];
    workspace.ausn(args).success().prints([
        "report: comparison.html",
        "plot: plots/metric-float.svg",
        "plot: plots/metric-quantized.svg",
        "plot: plots/errors-weights.svg",
        "plot: plots/errors-activations.svg",
    ]);
    let page = workspace.read("comparison.html");
    for run in ["first", "second"] {
        assert!(page.contains(&format!("<th scope=\"row\" class=\"name\">{run}</th>")));
        let accuracy =
            workspace.json(&format!("{run}/summary.json"))["metric"]["quantized"].clone();
        assert!(page.contains(&format!("{:.4}", accuracy.as_f64().unwrap())), "{run}");
    }
    for bits in ["4.00", "3.00"] {
        assert!(page.contains(&format!("<td class=\"number\">{bits}</td>")), "{bits} bits");
    }
    workspace.ausn(["report", "first", "second", "--out", "b.html"]).success();
    assert_eq!(workspace.read("b.html"), page);
}

#[test]
fn what_is_not_quantized_and_what_is_not_trained_has_a_report_too() {
    let workspace = Workspace::new();
    let (config, _) = LSTM.split_once("[quant]").unwrap();
    workspace.train(config, "float", &["train.epochs=0"]).success();
    let page = workspace.read("float/report.html");
    assert!(page.contains("Nothing is quantized") && page.contains("No epoch was trained"));
    assert!(!page.contains("Values and levels"));
}

#[test]
fn what_is_no_run_is_refused_and_what_is_damaged_is_named() {
    let workspace = Workspace::new();
    workspace.ausn(["report"]).code(2).says(["<RUN>"]);
    workspace.ausn(["report", "nowhere"]).code(2).says(["nowhere: there is no such run folder"]);
    workspace.write("other/note.txt", "mine");
    workspace.ausn(["report", "other"]).code(2).says(["other: is no run folder", "config.toml"]);

    workspace.write("run/config.toml", LSTM);
    workspace.write("run/layers.csv", "stage,layer\nquantized,stem\n");
    workspace
        .ausn(["report", "run"])
        .code(1)
        .says(["run/layers.csv, line 2", "missing field `tensor`"]);
    assert!(!workspace.path("run/report.html").exists());
    workspace.remove("run/layers.csv");
    workspace
        .ausn(["report", "run", "--out", "missing/a.html"])
        .code(2)
        .says(["--out missing/a.html: there is no folder missing"]);
    workspace.write("file", "");
    workspace
        .ausn(["report", "run", "--svg", "file"])
        .code(1)
        .says(["cannot create the folder file"]);
}

/// Added to a page: writes down which labels a plot cuts off, which plots are empty, and what is wrong with the
/// choice of histograms and of the theme.
const PROBE: &str = r#"<script>
const found = [];
const series = "[fill^='var(--ink-'], [stroke^='var(--ink-']";
const isSeries = (e) => ["fill", "stroke"].some((a) => /var\(--ink-([4-9]|\d\d)\)/.test(e.getAttribute(a)));
const check = (plot) => {
  const box = plot.getBoundingClientRect();
  // Samples of the legend stand above the grid; what is drawn in a series' colour below its top is data.
  const grid = [...plot.querySelectorAll("line[stroke='var(--ink-2)']")].map((line) => line.getBoundingClientRect());
  const top = Math.min(...grid.map((line) => line.top));
  const inGrid = (e) => { const b = e.getBoundingClientRect(); return (b.top + b.bottom) / 2 >= top - 1; };
  if (![...plot.querySelectorAll(series)].some((e) => isSeries(e) && inGrid(e)))
    found.push(plot.querySelector("title").textContent + " is empty");
  for (const text of plot.querySelectorAll("text")) {
    const { left, right, top, bottom } = text.getBoundingClientRect();
    if (left < box.left - 1 || right > box.right + 1 || top < box.top - 1 || bottom > box.bottom + 1)
      found.push(plot.querySelector("title").textContent + " cuts off " + text.textContent);
  }
};
const plots = [...document.querySelectorAll("svg.plot")];
const select = document.getElementById("tensor");
const shown = () => [...document.querySelectorAll(".choices > figure")].filter((f) => f.offsetHeight > 0);
plots.filter((plot) => plot.getBoundingClientRect().height > 0).forEach(check);
if (select) {
  for (let i = 0; i < select.options.length; i++) {
    select.selectedIndex = i;
    select.dispatchEvent(new Event("change"));
    const [figure, ...more] = shown();
    if (!figure || more.length > 0 || !figure.textContent.includes(select.value)) found.push("no choice of " + select.value);
    else check(figure.querySelector("svg"));
  }
}
const ground = () => getComputedStyle(document.body).backgroundColor;
const before = ground();
document.getElementById("theme").click();
if (ground() === before) found.push("the theme does not change");
const overflow = document.documentElement.scrollWidth - document.documentElement.clientWidth;
if (overflow > 0) found.push("the page is too wide by " + overflow);
document.body.dataset.plots = plots.length;
document.body.dataset.found = found.join("; ") || "nothing";
</script></body>"#;

/// A browser to try pages in, where there is one.
fn browser() -> Option<PathBuf> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let folders: Vec<PathBuf> = env::split_paths(&env::var_os("PATH")?).collect();
    let mut candidates =
        names.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    candidates.find(|path| path.is_file())
}

/// What a page becomes in a browser, and what its console says.
fn load(workspace: &Workspace, browser: &PathBuf, page: &str) -> (String, Vec<String>) {
    let output = workspace
        .process(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
        .args(["--enable-logging=stderr", "--window-size=1100,1000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", workspace.path("browser").display()))
        .arg(format!("file://{}", workspace.path(page).display()))
        .output()
        .expect("the browser starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "the browser failed: {said}");
    let console = said.lines().filter(|line| line.contains("CONSOLE")).map(String::from).collect();
    (String::from_utf8_lossy(&output.stdout).into_owned(), console)
}

#[test]
fn a_browser_shows_every_plot_and_has_nothing_to_complain_of() {
    let Some(browser) = browser() else {
        eprintln!("skipped: there is no chromium on PATH to load the report in");
        return;
    };
    let workspace = Workspace::new();
    workspace.train(LSTM, "run", &[]).success();
    workspace.copy("run", "copy");
    workspace.ausn(["report", "run", "copy"]).success();
    for (page, plots) in [("run/report.html", 11), ("comparison.html", 4)] {
        let text = workspace.read(page);
        workspace.write("probed.html", text.replace("</body>", PROBE));
        let (dom, console) = load(&workspace, &browser, "probed.html");
        assert_eq!(console, [""; 0], "{page}");
        for expected in [format!("data-plots=\"{plots}\""), "data-found=\"nothing\"".into()] {
            let body = dom.split("<body").nth(1).unwrap_or_default();
            let (attributes, _) = body.split_once('>').unwrap_or_default();
            assert!(attributes.contains(&expected), "{page}: {attributes}");
        }
    }
    // What would be a fault is seen.
    let broken =
        workspace.read("run/report.html").replace("</body>", "<script>gone();</script></body>");
    workspace.write("broken.html", broken);
    let (_, console) = load(&workspace, &browser, "broken.html");
    assert!(console.iter().any(|line| line.contains("gone is not defined")), "{console:?}");
    let report = workspace.read("run/report.html");
    let colourless = (4..20)
        .fold(report, |text, ink| text.replace(&format!("=\"var(--ink-{ink})\""), "=\"none\""));
    workspace.write("probed.html", colourless.replace("</body>", PROBE));
    let (dom, _) = load(&workspace, &browser, "probed.html");
    assert!(dom.matches(" is empty").count() >= 11, "plots without data are not noticed");
}
