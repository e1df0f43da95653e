//! One Rust file as the laws see it: its modules, names, and every path and macro that its shipped code mentions.
//!
//! Comments and strings are no code, and what is compiled for tests alone (`#[cfg(test)]`, `#[test]`) does not count.
//! This file parses text; it knows neither folders nor laws.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, ImplItem, Item, Stmt, UseTree, Visibility};

/// A path, its segments as written: `crate::network::Layer`, `std::fs`; the name of a macro ends in `!`.
pub(super) type Path = Vec<String>;

/// One mention of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mention {
    /// Line in the file, from 1.
    pub(super) line: usize,
    /// What is written there.
    pub(super) path: Path,
    /// Whether it is passed on under this module's name (`pub use`): a line of the map, no use of the thing.
    pub(super) exported: bool,
}

/// What one module, a file's or an inline one, holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Contents {
    /// `mod name;`: modules in files of their own, with the path of an attribute `#[path = "…"]`.
    pub(super) files: BTreeMap<String, Option<String>>,
    /// `mod name { … }`.
    pub(super) inline: BTreeMap<String, Contents>,
    /// Names that `use` brings, and the path that each stands for.
    pub(super) names: BTreeMap<String, Path>,
    /// Paths of `use path::*`.
    pub(super) globs: Vec<Path>,
    /// Names that are defined here.
    pub(super) items: BTreeSet<String>,
    /// What the code mentions, in order.
    pub(super) mentions: Vec<Mention>,
}

/// Reads the text of a file.
///
/// # Errors
/// It is not Rust.
pub(super) fn read(text: &str) -> syn::Result<Contents> {
    let file = syn::parse_file(text)?;
    let mut contents = Contents::default();
    if !for_tests(&file.attrs) {
        file.items.iter().for_each(|item| contents.visit_item(item));
    }
    Ok(contents)
}

/// Whether the attributes keep the thing out of shipped code: `#[test]`, `#[cfg(test)]`, `#[cfg(all(test, …))]`.
fn for_tests(attributes: &[Attribute]) -> bool {
    fn says_test(tokens: &TokenStream) -> bool {
        let mut tokens = tokens.clone().into_iter().peekable();
        while let Some(token) = tokens.next() {
            let TokenTree::Ident(word) = token else { continue };
            match (word.to_string().as_str(), tokens.peek()) {
                ("all", Some(TokenTree::Group(group))) if says_test(&group.stream()) => return true,
                ("any" | "not", Some(TokenTree::Group(_))) => {
                    tokens.next();
                }
                ("test", None | Some(TokenTree::Punct(_))) => return true,
                _ => {}
            }
        }
        false
    }
    attributes.iter().any(|attribute| match &attribute.meta {
        syn::Meta::List(list) if list.path.is_ident("cfg") => says_test(&list.tokens),
        meta => meta.path().is_ident("test"),
    })
}

/// Whether an item is compiled for tests alone.
pub(super) fn is_for_tests(item: &Item) -> bool {
    for_tests(attributes(item))
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(it) => &it.attrs,
        Item::Enum(it) => &it.attrs,
        Item::ExternCrate(it) => &it.attrs,
        Item::Fn(it) => &it.attrs,
        Item::ForeignMod(it) => &it.attrs,
        Item::Impl(it) => &it.attrs,
        Item::Macro(it) => &it.attrs,
        Item::Mod(it) => &it.attrs,
        Item::Static(it) => &it.attrs,
        Item::Struct(it) => &it.attrs,
        Item::Trait(it) => &it.attrs,
        Item::TraitAlias(it) => &it.attrs,
        Item::Type(it) => &it.attrs,
        Item::Union(it) => &it.attrs,
        Item::Use(it) => &it.attrs,
        _ => &[],
    }
}

/// The name that an item defines in its module.
fn defined(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(it) => &it.ident,
        Item::Enum(it) => &it.ident,
        Item::Fn(it) => &it.sig.ident,
        Item::Macro(it) => it.ident.as_ref()?,
        Item::Static(it) => &it.ident,
        Item::Struct(it) => &it.ident,
        Item::Trait(it) => &it.ident,
        Item::TraitAlias(it) => &it.ident,
        Item::Type(it) => &it.ident,
        Item::Union(it) => &it.ident,
        _ => return None,
    };
    Some(name.to_string())
}

impl Contents {
    fn mention(&mut self, at: Span, path: Path) {
        self.mentions.push(Mention { line: at.start().line, path, exported: false });
    }

    /// Follows a tree of `use` to its leaves.
    fn import(&mut self, before: &Path, tree: &UseTree, exported: bool) {
        let with = |name: &syn::Ident| before.iter().cloned().chain([name.to_string()]).collect::<Path>();
        let (at, path, name) = match tree {
            UseTree::Path(it) => return self.import(&with(&it.ident), &it.tree, exported),
            UseTree::Group(it) => {
                return it.items.iter().for_each(|tree| self.import(before, tree, exported));
            }
            UseTree::Glob(it) => {
                self.globs.push(before.clone());
                (it.star_token.spans[0], before.clone(), None)
            }
            // `use a::b::{self}`.
            UseTree::Name(it) if it.ident == "self" && !before.is_empty() => {
                (it.ident.span(), before.clone(), before.last().cloned())
            }
            UseTree::Name(it) => (it.ident.span(), with(&it.ident), Some(it.ident.to_string())),
            UseTree::Rename(it) if it.ident == "self" => {
                (it.ident.span(), before.clone(), Some(it.rename.to_string()))
            }
            UseTree::Rename(it) => (it.ident.span(), with(&it.ident), Some(it.rename.to_string())),
        };
        if let Some(name) = name.filter(|name| name != "_") {
            self.names.insert(name, path.clone());
        }
        self.mentions.push(Mention { line: at.start().line, path, exported });
    }

    /// Paths in the unparsed tokens of a macro: two words and more with `::` between them, and macros in macros.
    fn scan(&mut self, tokens: TokenStream) {
        let mut tokens = tokens.into_iter().peekable();
        let mut path: Path = Vec::new();
        let mut start = Span::call_site();
        let mut joined = 0;
        loop {
            let token = tokens.next();
            if let Some(TokenTree::Ident(word)) = &token
                && (path.is_empty() || joined == 2)
            {
                if path.is_empty() {
                    start = word.span();
                }
                path.push(word.to_string());
                joined = 0;
                continue;
            }
            if let Some(TokenTree::Punct(punct)) = &token
                && punct.as_char() == ':'
                && !path.is_empty()
                && joined < 2
            {
                joined += 1;
                continue;
            }
            let is_macro = matches!(&token, Some(TokenTree::Punct(it)) if it.as_char() == '!')
                && matches!(tokens.peek(), Some(TokenTree::Group(_)));
            if let Some(last) = path.last_mut().filter(|_| is_macro) {
                last.push('!');
            }
            // `name: value` is no path, nor is a field's `self.name`.
            if is_macro || path.len() > 1 {
                self.mention(start, std::mem::take(&mut path));
            }
            path.clear();
            joined = 0;
            match token {
                None => return,
                Some(TokenTree::Ident(word)) => {
                    start = word.span();
                    path.push(word.to_string());
                }
                Some(TokenTree::Group(group)) => self.scan(group.stream()),
                Some(TokenTree::Punct(_) | TokenTree::Literal(_)) => {}
            }
        }
    }
}

impl Visit<'_> for Contents {
    fn visit_item(&mut self, item: &Item) {
        if for_tests(attributes(item)) {
            return;
        }
        self.items.extend(defined(item));
        visit::visit_item(self, item);
    }

    fn visit_item_mod(&mut self, module: &syn::ItemMod) {
        let name = module.ident.to_string();
        if let Some((_, items)) = &module.content {
            let inner = self.inline.entry(name).or_default();
            for item in items {
                inner.visit_item(item);
            }
        } else {
            let path = module.attrs.iter().find(|it| it.path().is_ident("path"));
            let path = path.and_then(|it| match &it.meta {
                syn::Meta::NameValue(syn::MetaNameValue {
                    value: syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }),
                    ..
                }) => Some(text.value()),
                _ => None,
            });
            self.files.insert(name, path);
        }
    }

    fn visit_item_use(&mut self, item: &syn::ItemUse) {
        let exported = !matches!(item.vis, Visibility::Inherited);
        self.import(&Vec::new(), &item.tree, exported);
    }

    fn visit_impl_item(&mut self, item: &ImplItem) {
        let attributes = match item {
            ImplItem::Const(it) => &it.attrs,
            ImplItem::Fn(it) => &it.attrs,
            ImplItem::Macro(it) => &it.attrs,
            ImplItem::Type(it) => &it.attrs,
            _ => return visit::visit_impl_item(self, item),
        };
        if !for_tests(attributes) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_field(&mut self, field: &syn::Field) {
        if !for_tests(&field.attrs) {
            visit::visit_field(self, field);
        }
    }

    fn visit_stmt(&mut self, statement: &Stmt) {
        let attributes: &[Attribute] = match statement {
            Stmt::Local(it) => &it.attrs,
            Stmt::Macro(it) => &it.attrs,
            Stmt::Item(_) | Stmt::Expr(..) => &[],
        };
        if !for_tests(attributes) {
            visit::visit_stmt(self, statement);
        }
    }

    fn visit_path(&mut self, path: &syn::Path) {
        let segments: Path = path.segments.iter().map(|it| it.ident.to_string()).collect();
        if segments.len() > 1
            && let Some(first) = path.segments.first()
        {
            self.mention(first.ident.span(), segments);
        }
        visit::visit_path(self, path);
    }

    // What the compiler itself reads: derives, lints, documentation.
    fn visit_attribute(&mut self, _: &Attribute) {}

    // Who may see a thing is not a use of that module: `pub(in crate::room)`.
    fn visit_visibility(&mut self, _: &Visibility) {}

    fn visit_macro(&mut self, it: &syn::Macro) {
        let mut path: Path = it.path.segments.iter().map(|it| it.ident.to_string()).collect();
        if let (Some(first), Some(last)) = (it.path.segments.first(), path.last_mut()) {
            last.push('!');
            self.mention(first.ident.span(), path);
        }
        self.scan(it.tokens.clone());
    }
}
