//! The part of a definition that users see, as Rust.

use quote::quote;
use syn::{Attribute, Fields, ImplItem, Item, Type, Visibility};

use super::sources::{Definition, Sources, item, walk};

/// The definition without what is private, without documentation and bodies, and what is implemented for it.
pub fn text(sources: &mut Sources, definition: &Definition) -> String {
    let (module, name) = match definition {
        Definition::Foreign(path) => return format!("{path}\n"),
        Definition::Item { module, name } => (module, name),
    };
    let mut own = item(sources.module(module).expect("it was found"), name);
    visible(&mut own);
    let mut items = vec![own];
    let mut all = vec![];
    walk(&module[..1], sources.of_crate(&module[0]), &mut all);
    let candidates: Vec<_> = all
        .into_iter()
        .filter_map(|(at, item)| match item {
            Item::Impl(i) => Some((at, i.clone())),
            _ => None,
        })
        .collect();
    let mut traits = vec![];
    for (at, mut block) in candidates {
        let Some(path) = path_of(&block.self_ty) else { continue };
        if path.last() != Some(name) || sources.follow(&at, &path) != *definition {
            continue;
        }
        block.attrs.retain(is_kept);
        if block.trait_.is_some() {
            block.items.clear();
            traits.push(Item::Impl(block));
            continue;
        }
        block.items.retain_mut(|item| match item {
            ImplItem::Fn(f) if matches!(f.vis, Visibility::Public(_)) => {
                f.attrs.retain(is_kept);
                f.block.stmts.clear();
                f.sig.inputs.iter_mut().for_each(without_mut);
                true
            }
            ImplItem::Const(c) if matches!(c.vis, Visibility::Public(_)) => {
                c.attrs.retain(is_kept);
                c.expr = syn::parse_quote!(_);
                true
            }
            _ => false,
        });
        if !block.items.is_empty() {
            items.push(Item::Impl(block));
        }
    }
    // Traits in the order of their text: where an implementation lies is nothing that users see.
    let mut traits: Vec<String> = traits.into_iter().map(|item| print(vec![item])).collect();
    traits.sort();
    print(items) + &traits.concat()
}

fn print(items: Vec<Item>) -> String {
    prettyplease::unparse(&syn::File { shebang: None, attrs: vec![], items })
}

fn is_kept(attribute: &Attribute) -> bool {
    ["non_exhaustive", "derive", "cfg", "must_use"].iter().any(|name| attribute.path().is_ident(name))
}

fn path_of(ty: &Type) -> Option<Vec<String>> {
    match ty {
        Type::Path(p) => Some(p.path.segments.iter().map(|s| s.ident.to_string()).collect()),
        _ => None,
    }
}

/// `mut` of an argument is the function's own business.
fn without_mut(argument: &mut syn::FnArg) {
    match argument {
        syn::FnArg::Receiver(r) if r.reference.is_none() => r.mutability = None,
        syn::FnArg::Receiver(_) => {}
        syn::FnArg::Typed(t) => {
            if let syn::Pat::Ident(ident) = &mut *t.pat {
                ident.mutability = None;
            }
        }
    }
}

fn visible(item: &mut Item) {
    match item {
        Item::Struct(s) => {
            s.attrs.retain(is_kept);
            visible_fields(&mut s.fields, true);
        }
        Item::Enum(e) => {
            e.attrs.retain(is_kept);
            for variant in &mut e.variants {
                variant.attrs.retain(is_kept);
                visible_fields(&mut variant.fields, false);
            }
        }
        Item::Trait(t) => {
            t.attrs.retain(is_kept);
            for item in &mut t.items {
                match item {
                    syn::TraitItem::Fn(f) => {
                        f.attrs.retain(is_kept);
                        f.default = f.default.take().map(|_| syn::parse_quote!({}));
                    }
                    syn::TraitItem::Const(c) => c.attrs.retain(is_kept),
                    syn::TraitItem::Type(t) => t.attrs.retain(is_kept),
                    _ => {}
                }
            }
        }
        Item::Fn(f) => {
            f.attrs.retain(is_kept);
            f.block.stmts.clear();
            f.sig.inputs.iter_mut().for_each(without_mut);
        }
        Item::Type(t) => t.attrs.retain(is_kept),
        Item::Const(c) => c.attrs.retain(is_kept),
        Item::Static(s) => s.attrs.retain(is_kept),
        other => panic!("no such item was looked for: {}", quote!(#other)),
    }
}

/// Keeps what users see, with a mark where there is more; all fields of variants are seen.
fn visible_fields(fields: &mut Fields, may_be_private: bool) {
    let is_seen = |field: &syn::Field| !may_be_private || matches!(field.vis, Visibility::Public(_));
    let has_private = fields.iter().any(|field| !is_seen(field));
    fields.iter_mut().for_each(|field| field.attrs.retain(is_kept));
    match fields {
        Fields::Named(named) => {
            named.named = named.named.iter().filter(|field| is_seen(field)).cloned().collect();
            if has_private {
                named.named.push(syn::parse_quote!(_private: _));
            }
        }
        Fields::Unnamed(unnamed) => unnamed.unnamed.iter_mut().filter(|field| !is_seen(field)).for_each(|field| {
            *field = syn::parse_quote!(_);
        }),
        Fields::Unit => {}
    }
}
