//! The page of `kiln model profile --html`, with its script run by a browser.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::kiln;

/// The text between two others.
fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    let start = text.find(before).unwrap_or_else(|| panic!("no `{before}` in {text:.2000}")) + before.len();
    &text[start..start + text[start..].find(after).unwrap()]
}

/// The page's elements after its script has run.
fn rendered(browser: &Path, page: &Path, fragment: &str) -> String {
    let profile = tempfile::tempdir().unwrap();
    let mut child = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("file://{}#{fragment}", page.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || std::io::read_to_string(&mut stdout));
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > Duration::from_secs(120) {
            child.kill().unwrap();
            panic!("the browser does not end");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    reader.join().unwrap().unwrap()
}

#[test]
fn the_page_lists_sorts_and_opens() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("profile.html");
    let args = ["model", "profile", "bert-tiny", "--quiet", "--runs", "2", "--json", "--html", page.to_str().unwrap()];
    let profile = kiln(&args).exits(0);
    let profile: serde_json::Value = serde_json::from_str(&profile.stdout).unwrap();
    let rows = profile["rows"].as_array().unwrap();
    let html = std::fs::read_to_string(&page).unwrap();
    assert!(!html.contains("http://") && !html.contains("https://"), "the page asks for nothing");

    let folders = std::env::var_os("PATH").unwrap_or_default();
    let Some(browser) = std::env::split_paths(&folders).map(|f| f.join("chromium")).find(|file| file.is_file()) else {
        assert!(std::env::var_os("CI").is_none(), "no chromium: tools/setup-tests.sh installs it");
        // Past the test's own capture.
        let _ = writeln!(std::io::stderr(), "no chromium found: the page is not opened");
        return;
    };
    let dom = rendered(&browser, &page, "");
    assert_eq!(between(&dom, "data-rows=\"", "\""), rows.len().to_string());
    assert_eq!(dom.matches("<tr data-step=").count(), rows.len());
    assert_eq!(dom.matches("<rect ").count(), rows.len());
    assert!(!dom.contains("<dialog id=\"dump\" aria-labelledby=\"problem\" open"));

    // By time, the longest first; and the dump of the first kernel.
    let dom = rendered(&browser, &page, "sort=5&kernel=0");
    let table = between(&dom, "<tbody>", "</tbody>");
    let steps: Vec<usize> =
        table.split("<tr data-step=\"").skip(1).map(|row| row.split('"').next().unwrap().parse().unwrap()).collect();
    let times: Vec<f64> = steps.iter().map(|step| rows[*step]["ns"].as_f64().unwrap()).collect();
    assert!(times.is_sorted_by(|a, b| a >= b), "{times:?}");
    assert_eq!(between(between(&dom, "<thead>", "</thead>"), "aria-sort=\"", "\""), "descending");
    let dialog = between(&dom, "<dialog ", "</dialog>");
    assert!(dialog.contains("open=\"\"") && dialog.contains("matmul f32 ") && dialog.contains("<pre"), "{dialog:.500}");
    assert_eq!(dialog.matches("<details").count(), 4);
}
