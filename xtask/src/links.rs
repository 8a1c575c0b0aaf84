//! Links between the project's documents: each must name a file that exists, and a heading that the file has.

use std::fs;
use std::path::{Path, PathBuf};

use crate::process::{Result, root};

/// Checks the Markdown files at the root and in `docs/`. Links that leave the repository are not followed.
pub fn check() -> Result {
    let mut broken = vec![];
    for file in documents()? {
        let text = fs::read_to_string(&file)?;
        let folder = file.parent().expect("a file has a folder");
        for (line, link) in links(&text) {
            if let Err(why) = resolve(folder, &file, link) {
                broken.push(format!("{}:{line}: `{link}`: {why}", file.strip_prefix(root())?.display()));
            }
        }
    }
    if broken.is_empty() { Ok(()) } else { Err(format!("broken links\n{}", broken.join("\n")).into()) }
}

fn documents() -> Result<Vec<PathBuf>> {
    let mut files = vec![];
    for folder in [root().to_owned(), root().join("docs")] {
        for entry in fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))? {
            files.push(entry?.path());
        }
    }
    files.retain(|f| f.extension().is_some_and(|e| e == "md"));
    files.sort();
    Ok(files)
}

/// Lines outside code fences, numbered from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(i, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        (!fenced && !fence).then_some((i + 1, line))
    })
}

/// The targets of inline links and images, with their lines.
fn links(text: &str) -> Vec<(usize, &str)> {
    prose(text)
        .flat_map(|(number, line)| {
            line.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(move |(link, _)| (number, link))
        })
        .collect()
}

fn resolve(folder: &Path, file: &Path, link: &str) -> std::result::Result<(), String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return Ok(());
    }
    let (path, anchor) = link.split_once('#').map_or((link, None), |(path, anchor)| (path, Some(anchor)));
    let path = if path.is_empty() { file.to_owned() } else { folder.join(path) };
    if !path.exists() {
        return Err("no such file".into());
    }
    let Some(anchor) = anchor else { return Ok(()) };
    let text = fs::read_to_string(&path).map_err(|e| e.to_string())?;
    let found = prose(&text).any(|(_, line)| line.starts_with('#') && slug(line) == anchor);
    if found { Ok(()) } else { Err("no such heading".into()) }
}

/// The anchor that hosting sites give a heading.
fn slug(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    text.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_links_outside_code() {
        let text = "a [b](c.md), ![d](e.png)\n```\n[no](link)\n```\n[f](#g-h)";
        assert_eq!(links(text), [(1, "c.md"), (1, "e.png"), (5, "#g-h")]);
    }

    #[test]
    fn resolves_files_and_headings() {
        let root = root();
        let readme = root.join("README.md");
        let check = |link: &str| resolve(root, &readme, link);
        assert_eq!(check("docs/testing.md"), Ok(()));
        assert_eq!(check("docs/testing.md#environment"), Ok(()));
        assert_eq!(check("https://example.org/nothing"), Ok(()));
        assert_eq!(check("docs/nothing.md"), Err("no such file".into()));
        assert_eq!(check("docs/testing.md#nothing"), Err("no such heading".into()));
    }

    #[test]
    fn slugs() {
        assert_eq!(slug("## Adding an `Op`: 3 steps"), "adding-an-op-3-steps");
    }
}
