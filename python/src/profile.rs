//! The time that each step of a network takes, for people and for notebooks.

use std::fmt::Write;

use kiln_model::StepInfo;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::error::{Result, guarded};
use crate::report;

/// The times of a network's steps.
#[pyclass(frozen, module = "kiln")]
pub struct Profile {
    name: String,
    target: String,
    threads: usize,
    runs: usize,
    rows: Vec<Row>,
}

/// One step.
pub struct Row {
    layer: String,
    kind: &'static str,
    operation: String,
    ty: String,
    /// The median, in nanoseconds.
    ns: f64,
}

impl Row {
    /// A step with its times.
    pub fn new(step: &StepInfo<'_>, mut times: Vec<f64>) -> Self {
        times.sort_by(f64::total_cmp);
        Row {
            layer: step.layer.into(),
            kind: report::kind(step.code),
            operation: step.problem.map_or_else(|| step.text.into(), ToString::to_string),
            ty: step.ty.to_string(),
            ns: times.get(times.len() / 2).copied().unwrap_or_default(),
        }
    }
}

impl Profile {
    /// A profile of so many runs.
    pub fn new(name: String, target: String, threads: usize, runs: usize, rows: Vec<Row>) -> Self {
        Profile { name, target, threads, runs, rows }
    }

    fn sum(&self) -> f64 {
        self.rows.iter().map(|row| row.ns).sum()
    }

    fn head(&self) -> String {
        let (us, runs) = (self.sum() / 1e3, self.runs);
        format!(
            "{} @{}, {} thread(s): {us:.1} us in all, medians of {runs} run(s)",
            self.name, self.target, self.threads
        )
    }
}

#[pymethods]
impl Profile {
    /// The steps as dictionaries: `layer`, `kind`, `operation`, `type`, `microseconds` and `share`.
    #[getter]
    fn rows<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let sum = self.sum();
        let row = |row: &Row| -> Result<Bound<'py, PyDict>> {
            let all = PyDict::new(py);
            all.set_item("layer", &row.layer)?;
            all.set_item("kind", row.kind)?;
            all.set_item("operation", &row.operation)?;
            all.set_item("type", &row.ty)?;
            all.set_item("microseconds", row.ns / 1e3)?;
            all.set_item("share", row.ns / sum)?;
            Ok(all)
        };
        guarded(|| self.rows.iter().map(row).collect())
    }

    /// The sum of all steps.
    #[getter]
    fn microseconds(&self) -> f64 {
        self.sum() / 1e3
    }

    fn __str__(&self) -> String {
        let (mut text, sum) = (self.head(), self.sum());
        for row in &self.rows {
            let (us, share) = (row.ns / 1e3, 100.0 * row.ns / sum);
            let _ = write!(text, "\n{us:10.1} us {share:5.1} %  {:11} {}  # {}", row.kind, row.operation, row.layer);
        }
        text
    }

    fn _repr_html_(&self) -> String {
        let (mut rows, sum) = (String::new(), self.sum());
        for row in &self.rows {
            let (us, share) = (row.ns / 1e3, 100.0 * row.ns / sum);
            let _ = write!(
                rows,
                "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td style=\"text-align:right\">{us:.1}</td>\
                 <td style=\"text-align:right;background:linear-gradient(to right,#8cf {share:.1}%,transparent {share:.1}%)\">\
                 {share:.1} %</td></tr>",
                escaped(&row.layer),
                row.kind,
                escaped(&row.operation),
                escaped(&row.ty)
            );
        }
        format!(
            "<p>{}</p><table><thead><tr><th>layer</th><th>code</th><th>operation</th><th>result</th><th>us</th><th>share</th></tr>\
             </thead><tbody>{rows}</tbody></table>",
            escaped(&self.head())
        )
    }

    fn __repr__(&self) -> String {
        format!("<kiln.Profile {}>", self.head())
    }
}

/// Text as it may stand in an element of HTML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
