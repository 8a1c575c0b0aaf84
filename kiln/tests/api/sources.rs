//! Modules of crates as their sources have them, and where a name is defined.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use syn::{Attribute, Item, ItemUse, Meta, UseTree, Visibility};

/// Crates that names are taken from, and their folders. Names of others are written as paths.
const CRATES: [(&str, &str); 8] = [
    ("kiln", "kiln"),
    ("kiln_jit", "runtime"),
    ("kiln_model", "model"),
    ("kiln_onnx", "onnx"),
    ("kiln_ir", "ir"),
    ("kiln_compiler", "compiler"),
    ("kiln_memo", "cache"),
    ("kiln_files", "files"),
];

/// A name that the crate exports.
pub struct Export {
    pub name: String,
    pub feature: Option<String>,
    pub definition: Definition,
}

/// Where a name is defined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Definition {
    /// The name in a module, by the names of crate and modules.
    Item { module: Vec<String>, name: String },
    /// In a crate of others.
    Foreign(String),
}

/// The modules that were read so far.
pub struct Sources {
    root: PathBuf,
    crates: BTreeMap<String, Module>,
}

#[derive(Default)]
pub struct Module {
    pub items: Vec<Item>,
    pub children: BTreeMap<String, Module>,
}

impl Module {
    /// The module of a file with those below it.
    fn read(file: &Path) -> Self {
        let text = fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let parsed = syn::parse_file(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let stem = file.file_stem().unwrap_or_default();
        let folder = file.parent().expect("a file has a folder");
        let below = if stem == "lib" || stem == "mod" { folder.to_owned() } else { folder.join(stem) };
        Self::of(parsed.items, &below)
    }

    fn of(all: Vec<Item>, below: &Path) -> Self {
        let mut module = Module::default();
        for item in all {
            match item {
                Item::Mod(m) if is_for_tests(&m.attrs) => {}
                Item::Mod(m) => {
                    let name = m.ident.to_string();
                    let child = match &m.content {
                        Some((_, items)) => Self::of(items.clone(), &below.join(&name)),
                        None => {
                            let file = below.join(format!("{name}.rs"));
                            Self::read(&if file.exists() { file } else { below.join(&name).join("mod.rs") })
                        }
                    };
                    module.children.insert(name, child);
                    module.items.push(Item::Mod(syn::ItemMod { content: None, ..m }));
                }
                other => module.items.push(other),
            }
        }
        module
    }
}

fn is_for_tests(attrs: &[Attribute]) -> bool {
    attrs.iter().any(|a| match &a.meta {
        Meta::List(list) => {
            list.path.is_ident("cfg") && ["test", "doctest"].contains(&list.tokens.to_string().as_str())
        }
        _ => false,
    })
}

/// The feature that an item is there with.
fn feature(attrs: &[Attribute]) -> Option<String> {
    attrs.iter().find_map(|a| match &a.meta {
        Meta::List(list) if list.path.is_ident("cfg") => {
            list.tokens.to_string().split('"').nth(1).map(|feature| feature.to_owned())
        }
        _ => None,
    })
}

/// The names that a `use` makes, each with the path that it stands for.
fn leaves(tree: &UseTree, path: &[String], all: &mut Vec<(String, Vec<String>)>) {
    let with = |ident: &syn::Ident| [path, &[ident.to_string()]].concat();
    match tree {
        UseTree::Path(p) => leaves(&p.tree, &with(&p.ident), all),
        UseTree::Group(group) => group.items.iter().for_each(|tree| leaves(tree, path, all)),
        UseTree::Name(n) if n.ident == "self" => all.push((path.last().cloned().unwrap_or_default(), path.to_vec())),
        UseTree::Name(n) => all.push((n.ident.to_string(), with(&n.ident))),
        UseTree::Rename(r) if r.ident == "self" => all.push((r.rename.to_string(), path.to_vec())),
        UseTree::Rename(r) => all.push((r.rename.to_string(), with(&r.ident))),
        UseTree::Glob(_) => {}
    }
}

fn names(item: &ItemUse) -> Vec<(String, Vec<String>)> {
    let mut all = vec![];
    leaves(&item.tree, &[], &mut all);
    all
}

/// The name that an item defines, if it is a type, a function or a constant.
fn defined(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Struct(i) => &i.ident,
        Item::Enum(i) => &i.ident,
        Item::Trait(i) => &i.ident,
        Item::Type(i) => &i.ident,
        Item::Const(i) => &i.ident,
        Item::Static(i) => &i.ident,
        Item::Fn(i) => &i.sig.ident,
        _ => return None,
    };
    Some(ident.to_string())
}

impl Sources {
    /// Of the project in a folder.
    pub fn new(root: &Path) -> Self {
        Self { root: root.into(), crates: BTreeMap::new() }
    }

    fn is_crate(name: &str) -> bool {
        CRATES.iter().any(|(of, _)| *of == name)
    }

    pub fn of_crate(&mut self, name: &str) -> &Module {
        let (_, folder) = CRATES.iter().find(|(of, _)| *of == name).expect("asked for ours only");
        let file = self.root.join(folder).join("src/lib.rs");
        self.crates.entry(name.into()).or_insert_with(|| Module::read(&file))
    }

    /// The module of a path that begins with a crate.
    pub fn module(&mut self, path: &[String]) -> Option<&Module> {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(self.of_crate(first), |module, name| module.children.get(name))
    }

    /// All names that the crate exports, sorted.
    pub fn exports(&mut self) -> Vec<Export> {
        let mut all = vec![];
        self.exports_of(&["kiln".to_owned()], None, &mut all);
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    fn exports_of(&mut self, path: &[String], within: Option<String>, all: &mut Vec<Export>) {
        let items = self.module(path).expect("listed by its parent").items.clone();
        for item in &items {
            match item {
                Item::Use(u) if matches!(u.vis, Visibility::Public(_)) => {
                    let feature = feature(&u.attrs).or_else(|| within.clone());
                    for (name, target) in names(u) {
                        let definition = self.follow(path, &target);
                        all.push(Export {
                            name: [path, &[name]].concat().join("::"),
                            feature: feature.clone(),
                            definition,
                        });
                    }
                }
                Item::Mod(m) if matches!(m.vis, Visibility::Public(_)) => {
                    let feature = feature(&m.attrs).or_else(|| within.clone());
                    self.exports_of(&[path, &[m.ident.to_string()]].concat(), feature, all);
                }
                // An item of this crate's own would be missing from the list.
                other => {
                    assert!(defined(other).is_none_or(|name| name == "Readme"), "{path:?}: only names of other crates")
                }
            }
        }
    }

    /// Where the last name of a path is defined that a module has written.
    pub fn follow(&mut self, module: &[String], path: &[String]) -> Definition {
        let foreign = || Definition::Foreign(path.join("::"));
        let Some((name, before)) = path.split_last() else { return foreign() };
        match before.iter().try_fold(None, |at: Option<Vec<String>>, segment| {
            let from = at.as_deref();
            self.enter(from.unwrap_or(module), segment, from.is_none()).map(Some)
        }) {
            Some(at) => self.find(at.as_deref().unwrap_or(module), name).unwrap_or_else(foreign),
            None => foreign(),
        }
    }

    /// The module that a segment of a path names.
    fn enter(&mut self, from: &[String], segment: &str, is_first: bool) -> Option<Vec<String>> {
        match segment {
            "crate" => return Some(from[..1].to_vec()),
            "self" => return Some(from.to_vec()),
            "super" => return Some(from[..from.len() - 1].to_vec()),
            _ => {}
        }
        let module = self.module(from)?;
        if module.children.contains_key(segment) {
            return Some([from, &[segment.to_owned()]].concat());
        }
        let used = module.items.iter().find_map(|item| match item {
            Item::Use(u) => {
                names(u).into_iter().find(|(name, path)| name == segment && path[..] != [segment.to_owned()])
            }
            _ => None,
        });
        match used {
            Some((_, path)) => path.iter().try_fold(None, |at: Option<Vec<String>>, segment| {
                let first = at.is_none();
                self.enter(at.as_deref().unwrap_or(from), segment, first).map(Some)
            })?,
            None => (is_first && Self::is_crate(segment)).then(|| vec![segment.to_owned()]),
        }
    }

    /// Where a name that a module has is defined.
    fn find(&mut self, module: &[String], name: &str) -> Option<Definition> {
        let here = self.module(module)?;
        if here.items.iter().any(|item| defined(item).as_deref() == Some(name)) {
            return Some(Definition::Item { module: module.to_vec(), name: name.into() });
        }
        let (_, path) = here.items.iter().find_map(|item| match item {
            Item::Use(u) => names(u).into_iter().find(|(own, _)| own == name),
            _ => None,
        })?;
        Some(self.follow(module, &path))
    }
}

/// The items of a crate, each with its module.
pub fn walk<'a>(path: &[String], module: &'a Module, all: &mut Vec<(Vec<String>, &'a Item)>) {
    all.extend(module.items.iter().map(|item| (path.to_vec(), item)));
    for (name, child) in &module.children {
        walk(&[path, std::slice::from_ref(name)].concat(), child, all);
    }
}

/// The item of a module that defines a name.
pub fn item(module: &Module, name: &str) -> Item {
    module.items.iter().find(|item| defined(item).as_deref() == Some(name)).cloned().expect("it was found there")
}
