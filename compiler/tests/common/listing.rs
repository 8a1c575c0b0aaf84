//! Listings as tests read them.

/// The instruction or label of a line, without its comment.
pub fn instruction(line: &str) -> &str {
    // The comment starts at the first of its marks that follows a space; `#` is also part of AArch64's immediates.
    line.split(" // ").next().and_then(|l| l.split(" # ").next()).unwrap_or(line).trim()
}

/// The instructions and labels of a function.
fn function<'a>(listing: &'a str, symbol: &str) -> Vec<&'a str> {
    let start = format!("{symbol}:");
    let lines = listing.lines().skip_while(|l| *l != start).skip(1).take_while(|l| l.starts_with([' ', '.']));
    lines.map(instruction).collect()
}

/// The instructions of each loop of the function `symbol`: from a label to the branch back to it.
pub fn loops<'a>(listing: &'a str, symbol: &str) -> Vec<Vec<&'a str>> {
    let function = function(listing, symbol);
    let is_target = |label: &str, branch: &str| label.strip_suffix(':').is_some_and(|name| branch.ends_with(name));
    (0..function.len())
        .filter(|&end| !function[end].ends_with(':'))
        .filter_map(|end| (0..end).find(|&top| is_target(function[top], function[end])).map(|top| (top, end)))
        .map(|(top, end)| function[top..=end].to_vec())
        .collect()
}

/// The instructions of the function `symbol` from the first of a kind to the last.
pub fn straight<'a>(listing: &'a str, symbol: &str, kind: impl Fn(&str) -> bool) -> Vec<&'a str> {
    let function = function(listing, symbol);
    let (first, last) = (function.iter().position(|l| kind(l)), function.iter().rposition(|l| kind(l)));
    first.zip(last).map_or(vec![], |(first, last)| function[first..=last].to_vec())
}
