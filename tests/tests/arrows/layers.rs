//! A kind of layer is told from another by a `match` that names every kind, or asked of `network/layer.rs`: `matches!`,
//! `if let`, `==` and an arm for anything let a new kind pass in silence. Clippy sees the arm alone, and not in a tuple.

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

/// Lines at which a file tells kinds apart in another way than by `match`.
///
/// # Errors
/// It is not Rust.
pub(super) fn silent(text: &str) -> syn::Result<Vec<usize>> {
    let mut silent = Silent::default();
    silent.visit_file(&syn::parse_file(text)?);
    Ok(silent.lines)
}

#[derive(Default)]
struct Silent {
    lines: Vec<usize>,
}

/// `Layer::Conv`, at any depth of a path.
fn names_a_kind(path: &syn::Path) -> bool {
    let words: Vec<String> = path.segments.iter().map(|it| it.ident.to_string()).collect();
    words.windows(2).any(|pair| pair[0] == "Layer" && pair[1].starts_with(char::is_uppercase))
}

struct Finder(bool);

impl Visit<'_> for Finder {
    fn visit_path(&mut self, path: &syn::Path) {
        self.0 |= names_a_kind(path);
        visit::visit_path(self, path);
    }
}

/// The line of a pattern that takes anything: `_`, or a name.
struct Anything(Option<usize>);

impl Visit<'_> for Anything {
    fn visit_pat_wild(&mut self, it: &syn::PatWild) {
        self.0 = Some(it.underscore_token.spans[0].start().line);
    }

    fn visit_pat_ident(&mut self, it: &syn::PatIdent) {
        // A name in capitals is a constant or a variant (`None`).
        if !it.ident.to_string().starts_with(char::is_uppercase) {
            self.0 = Some(it.ident.span().start().line);
        }
    }
}

fn in_pattern(pattern: &syn::Pat) -> bool {
    let mut finder = Finder(false);
    finder.visit_pat(pattern);
    finder.0
}

fn in_tokens(tokens: TokenStream) -> bool {
    let mut words: Vec<String> = Vec::new();
    for token in tokens {
        match token {
            TokenTree::Group(group) if in_tokens(group.stream()) => return true,
            TokenTree::Group(_) | TokenTree::Literal(_) => words.clear(),
            TokenTree::Ident(word) => words.push(word.to_string()),
            TokenTree::Punct(punct) => words.push(punct.to_string()),
        }
        if let [.., layer, colon, again, kind] = words.as_slice()
            && layer == "Layer"
            && (colon.as_str(), again.as_str()) == (":", ":")
            && kind.starts_with(char::is_uppercase)
        {
            return true;
        }
    }
    false
}

impl Visit<'_> for Silent {
    fn visit_item(&mut self, item: &syn::Item) {
        if !super::source::is_for_tests(item) {
            visit::visit_item(self, item);
        }
    }

    fn visit_macro(&mut self, it: &syn::Macro) {
        if it.path.is_ident("matches") && in_tokens(it.tokens.clone()) {
            self.lines.extend(it.path.segments.first().map(|it| it.ident.span().start().line));
        }
    }

    fn visit_expr_let(&mut self, it: &syn::ExprLet) {
        if in_pattern(&it.pat) {
            self.lines.push(it.let_token.span.start().line);
        }
        visit::visit_expr_let(self, it);
    }

    fn visit_local(&mut self, it: &syn::Local) {
        if in_pattern(&it.pat) {
            self.lines.push(it.let_token.span.start().line);
        }
        visit::visit_local(self, it);
    }

    fn visit_expr_match(&mut self, it: &syn::ExprMatch) {
        let kinds = it.arms.iter().any(|arm| in_pattern(&arm.pat));
        for arm in it.arms.iter().filter(|arm| kinds && !in_pattern(&arm.pat)) {
            let mut anything = Anything(None);
            anything.visit_pat(&arm.pat);
            self.lines.extend(anything.0);
        }
        visit::visit_expr_match(self, it);
    }

    fn visit_expr_binary(&mut self, it: &syn::ExprBinary) {
        let at = match it.op {
            syn::BinOp::Eq(token) => Some(token.spans[0]),
            syn::BinOp::Ne(token) => Some(token.spans[0]),
            _ => None,
        };
        let mut finder = Finder(false);
        finder.visit_expr(&it.left);
        finder.visit_expr(&it.right);
        self.lines.extend(at.filter(|_| finder.0).map(|span| span.start().line));
        visit::visit_expr_binary(self, it);
    }
}
