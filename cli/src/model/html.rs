//! A profile as one HTML page without any other file.

use std::fmt::{self, Display, Write};

use serde::Serialize;

use super::steps::{Profile, Row};
use crate::timing::show_ns;

const STYLE: &str = include_str!("page/profile.css");
const SCRIPT: &str = include_str!("page/profile.js");
/// The width of the time line in units of its view box.
const WIDTH: f64 = 10_000.0;

/// The stages of a kernel; long ones are cut off.
#[derive(Debug, Serialize)]
pub struct Dump {
    /// The problem and the target.
    pub problem: String,
    /// Stages of the compilation.
    pub sections: Vec<Section>,
}

/// One stage.
#[derive(Debug, Serialize)]
pub struct Section {
    name: &'static str,
    text: String,
}

impl Section {
    /// A stage's text, cut off after `most` bytes.
    pub fn new(name: &'static str, mut text: String, most: usize) -> Self {
        if text.len() > most {
            let rest = text.split_off(text.floor_char_boundary(most));
            let _ = write!(text, "\n... {} bytes more; `kiln dump` prints all", rest.len());
        }
        Section { name, text }
    }
}

/// Text that is escaped for elements and quoted attributes of HTML.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            c => f.write_char(c),
        })
    }
}

/// The page.
pub fn page(profile: &Profile, dumps: &[Dump]) -> Result<String, serde_json::Error> {
    // The element of a script ends at the first `</script`, whatever it is in.
    let kernels = serde_json::to_string(dumps)?.replace('<', "\\u003c");
    let title = Escaped(&profile.network);
    let (facts, kinds, bars, rows) = (facts(profile), kinds(profile), bars(profile), rows(profile));
    let heads: String = COLUMNS.iter().map(head).collect();
    Ok(format!(
        r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{title}: profile</title>
<style>
{STYLE}</style>
</head>
<body>
<h1>{title}</h1>
<p class="dim">{facts}</p>
<h2>Time line</h2>
<ul class="kinds">{kinds}</ul>
<svg id="timeline" viewBox="0 0 {WIDTH} 100" preserveAspectRatio="none" role="group" aria-label="Steps in order, as wide as their time">
{bars}</svg>
<p id="detail" aria-live="polite" class="dim">Point at a bar, or move between bars with the arrow keys. Enter or a click opens a kernel.</p>
<h2>Steps</h2>
<div class="wide"><table id="steps">
<thead><tr>{heads}</tr></thead>
<tbody>
{rows}</tbody>
</table></div>
<dialog id="dump" aria-labelledby="problem"><header><h2 id="problem"></h2><button id="close" type="button">Close</button></header><div id="sections"></div></dialog>
<script type="application/json" id="kernels">{kernels}</script>
<script>
{SCRIPT}</script>
</body>
</html>
"#
    ))
}

/// The name of each column, and true if it has numbers.
const COLUMNS: [(&str, bool); 10] = [
    ("step", true),
    ("layer", false),
    ("code", false),
    ("operation", false),
    ("result", false),
    ("time", true),
    ("share", true),
    ("GFLOP/s", true),
    ("of peak", true),
    ("predicted", true),
];

fn head((name, is_number): &(&str, bool)) -> String {
    let class = if *is_number { " class=\"n\"" } else { "" };
    let sort = if *name == "step" { " aria-sort=\"ascending\"" } else { "" };
    format!("<th scope=\"col\"{class}{sort}><button type=\"button\">{name}</button></th>")
}

fn facts(p: &Profile) -> String {
    let plural = if p.threads == 1 { "" } else { "s" };
    let all = show_ns(p.total_ns());
    format!(
        "@{}, {} thread{plural}, fpmath {}; {all} in {} steps, medians of {} runs; peak {:.1} GFLOP/s",
        Escaped(&p.target),
        p.threads,
        Escaped(&p.fpmath),
        p.rows.len(),
        p.runs,
        p.peak_gflops
    )
}

fn kinds(p: &Profile) -> String {
    let all = p.total_ns();
    let kind = |code: &str| {
        let of = || p.rows.iter().filter(|r| r.code == code);
        let (steps, ns) = (of().count(), of().fold(0.0, |all, r| all + r.ns));
        let part = if all > 0.0 { 100.0 * ns / all } else { 0.0 };
        format!("<li class=\"{code}\"><span>{code}: {steps} steps, {part:.1} %</span></li>")
    };
    ["kernel", "native", "interpreter"].map(kind).concat()
}

/// A sentence that describes a step.
fn sentence(step: usize, r: &Row) -> String {
    let speed = r.gflops.zip(r.fraction).map_or(String::new(), |(gflops, fraction)| {
        format!("; {gflops:.1} GFLOP/s, {:.0} % of peak", 100.0 * fraction)
    });
    format!("step {step}: {} ({}), {}, {:.1} %{speed}; {}", r.layer, r.ty, show_ns(r.ns), 100.0 * r.share, r.operation)
}

fn kernel_attribute(r: &Row) -> String {
    r.kernel.map_or(String::new(), |at| format!(" data-kernel=\"{at}\""))
}

fn bars(p: &Profile) -> String {
    let all = p.total_ns().max(1.0);
    let (mut bars, mut x) = (String::new(), 0.0);
    for (step, r) in p.rows.iter().enumerate() {
        let width = r.ns / all * WIDTH;
        let tab = if step == 0 { 0 } else { -1 };
        let (code, kernel, text) = (r.code, kernel_attribute(r), sentence(step, r));
        let _ = writeln!(
            bars,
            "<rect class=\"{code}\" x=\"{x:.2}\" y=\"0\" width=\"{width:.2}\" height=\"100\" tabindex=\"{tab}\" role=\"button\"{kernel} aria-label=\"{}\"/>",
            Escaped(&text)
        );
        x += width;
    }
    bars
}

fn rows(p: &Profile) -> String {
    let mut rows = String::new();
    for (step, r) in p.rows.iter().enumerate() {
        let number = |value: Option<f64>, text: fn(f64) -> String| match value {
            Some(value) => format!("<td class=\"n\" data-key=\"{value}\">{}</td>", text(value)),
            None => "<td class=\"n\" data-key=\"\"></td>".into(),
        };
        let percent: fn(f64) -> String = |part| format!("{:.1} %", 100.0 * part);
        let nodes = r.nodes.join("\n");
        let (layer, nodes) = (Escaped(&r.layer), Escaped(&nodes));
        let layer = match r.kernel {
            Some(_) => format!("<button type=\"button\">{layer}</button>"),
            None => layer.to_string(),
        };
        let _ = writeln!(
            rows,
            "<tr data-step=\"{step}\"{}><td class=\"n\">{step}</td><td title=\"{nodes}\">{layer}</td><td>{}</td><td class=\"text\">{}</td><td>{}</td>{}{}{}{}{}</tr>",
            kernel_attribute(r),
            r.code,
            Escaped(&r.operation),
            Escaped(&r.ty),
            number(Some(r.ns), show_ns),
            number(Some(r.share), percent),
            number(r.gflops, |g| format!("{g:.1}")),
            number(r.fraction, percent),
            number(r.predicted, percent),
        );
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_cut() {
        assert_eq!(Escaped("<a b=\"c\">&'").to_string(), "&lt;a b=&quot;c&quot;&gt;&amp;&#39;");
        assert_eq!(Section::new("asm", "ab\u{e9}cd".into(), 3).text, "ab\n... 4 bytes more; `kiln dump` prints all");
        let evil = "</script><script>alert(1)</script>";
        let row = Row {
            layer: evil.into(),
            nodes: vec![evil.into()],
            code: "kernel",
            operation: evil.into(),
            ty: "f32[1]".into(),
            ns: 1.0,
            share: 1.0,
            gflops: None,
            fraction: None,
            predicted: None,
            kernel: Some(0),
        };
        let (network, target, fpmath) = (evil.into(), "t".into(), "strict".into());
        let profile = Profile { network, target, fpmath, threads: 1, runs: 1, peak_gflops: 1.0, rows: vec![row] };
        let dump = Dump { problem: evil.into(), sections: vec![Section::new("asm", evil.into(), 1000)] };
        let page = page(&profile, &[dump]).unwrap();
        assert!(!page.contains("<script>alert"), "{page}");
        assert_eq!(page.matches("</script>").count(), 2);
        assert!(!page.contains("http:") && !page.contains("https:"), "nothing is fetched");
    }
}
