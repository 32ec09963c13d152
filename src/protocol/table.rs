//! A `match` whose rows say why they stand there, and which tests can drop one by one.

/// A row of a table, as docs/protocol.md shows it.
#[cfg(test)]
pub(crate) struct Row {
    /// The facts, as they stand in the code.
    pub(crate) when: &'static str,
    /// What comes next.
    pub(crate) then: &'static str,
    /// Why, for people.
    pub(crate) why: &'static str,
}

/// Defines `fn name(case) -> Step` as one `match` over facts; and for the tests `name_rows()`, and
/// `name_without(row, case)`: `None` where the dropped row leaves a hole.
macro_rules! table {
    (
        $(#[$doc:meta])*
        $vis:vis fn $name:ident / $rows:ident / $without:ident ($case:ident: $input:ty) -> $step:ty = match $facts:expr;
        $( $why:literal : $pattern:pat $(if $guard:expr)? => $next:expr; )*
    ) => {
        $(#[$doc])*
        $vis fn $name($case: $input) -> $step {
            match $facts {
                $( $pattern $(if $guard)? => $next, )*
            }
        }

        #[cfg(test)]
        fn $rows() -> Vec<$crate::protocol::table::Row> {
            vec![$( $crate::protocol::table::Row {
                when: stringify!($pattern $(if $guard)?),
                then: stringify!($next),
                why: $why,
            } ),*]
        }

        #[cfg(test)]
        #[allow(unused_assignments, irrefutable_let_patterns, reason = "one shape for every row")]
        fn $without(dropped: usize, $case: $input) -> Option<$step> {
            let facts = $facts;
            let mut row = 0;
            $(
                if row != dropped
                    && let $pattern = facts
                    $(&& $guard)?
                {
                    return Some($next);
                }
                row += 1;
            )*
            None
        }
    };
}

pub(crate) use table;

/// Holds the rows against the table between `<!-- name -->` and `<!-- /name -->` in docs/protocol.md;
/// `UPDATE_EXPECT=1` writes them there.
#[cfg(test)]
pub(crate) fn hold_against_docs(name: &str, facts: &str, rows: &[Row]) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/protocol.md");
    let text = std::fs::read_to_string(path).expect("docs/protocol.md");
    let (open, close) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let (before, rest) = text.split_once(&open).unwrap_or_else(|| panic!("no {open} in {path}"));
    let (found, after) = rest.split_once(&close).unwrap_or_else(|| panic!("no {close} in {path}"));
    let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|");
    let mut table = format!("| {facts} | next | why |\n| --- | --- | --- |\n");
    for row in rows {
        let then = one_line(row.then)
            .replace("Step::End", "End")
            .replace("End(End::", "End(")
            .replace("See(Look::", "Look(");
        table.push_str(&format!("| `{}` | `{then}` | {} |\n", one_line(row.when), row.why));
    }
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(path, [before, &open, &table, &close, after].concat()).expect("docs/protocol.md");
    } else {
        assert_eq!(
            found, table,
            "docs/protocol.md differs from the rows of {name}: UPDATE_EXPECT=1 cargo test"
        );
    }
}
