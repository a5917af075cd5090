//! Checks the length of functions in Rust and TypeScript. Both languages indent a function's body.
//! The function therefore ends with the first closing brace that has the indentation of its head.

use crate::tidy::{
    Findings,
    files::{File, Files},
};

const MAX_LINES: usize = 70;

/// Functions that may be longer, by file and name, and why a split would be worse.
const LONG: &[(&str, &str, &str)] = &[(
    "crates/sim/src/shipped/ops.rs",
    "carry_out",
    "one arm for each thing a script may ask for",
)];

pub(super) fn check(files: &Files) -> Findings {
    let mut findings = Findings::new();
    let mut unused: Vec<_> = LONG.iter().collect();
    for file in files.with_extension(&["rs", "ts"]) {
        let long = functions(file).into_iter().filter(|(_, _, lines)| *lines > MAX_LINES);
        for (line, name, lines) in long {
            let known = unused.iter().position(|long| (long.0, long.1) == (&file.path, name));
            match known {
                Some(at) => drop(unused.remove(at)),
                None => findings.push(format!(
                    "{}:{line}: `{name}` has {lines} lines, more than {MAX_LINES}: split it by \
                     what its parts know",
                    file.path
                )),
            }
        }
    }
    let unused = unused.into_iter().map(|(path, name, _)| {
        format!("xtask/src/tidy/functions.rs: `{name}` of {path} is not that long: take it out")
    });
    findings.extend(unused);
    findings
}

/// Returns the first line, the name and the number of lines of each function.
fn functions(file: &File) -> Vec<(usize, &str, usize)> {
    let begins = if file.path.ends_with(".rs") { rust } else { typescript };
    let lines: Vec<&str> = file.text.lines().collect();
    let found = (0..lines.len()).filter_map(|at| {
        let (first, name) = begins(&lines, at)?;
        let end = end(&lines, at)?;
        Some((first + 1, name, end - first + 1))
    });
    found.collect()
}

/// Returns the line that ends the function on line `at`, or `None` if its body has no lines of its
/// own.
fn end(lines: &[&str], at: usize) -> Option<usize> {
    if lines[at].ends_with([';', '}', ',']) {
        return None;
    }
    let is_end = |line: &&str| line.trim_start().starts_with(['}', ';']);
    (at + 1..lines.len()).find(|&end| is_beside(lines, at, end) && is_end(&lines[end]))
}

/// Returns true if two lines have the same indentation.
fn is_beside(lines: &[&str], one: usize, other: usize) -> bool {
    let indent = |at: usize| lines[at].len() - lines[at].trim_start().len();
    !lines[other].is_empty() && indent(one) == indent(other)
}

/// Returns the function whose `fn` is on this line.
fn rust<'a>(lines: &[&'a str], at: usize) -> Option<(usize, &'a str)> {
    let mut words = lines[at].trim_start().split(' ');
    let is_before = |word: &str| {
        ["pub", "const", "async", "unsafe", "extern", "\"C\""].contains(&word)
            || word.starts_with("pub(")
    };
    let first = words.by_ref().find(|word| !is_before(word))?;
    let name = words.next().filter(|_| first == "fn")?;
    Some((at, name.split(['(', '<']).next()?))
}

/// Returns the function whose body begins on this line. Its head may have begun on an earlier line.
/// A function without a name gets its name from the words before it.
fn typescript<'a>(lines: &[&'a str], at: usize) -> Option<(usize, &'a str)> {
    let body = lines[at].trim();
    if !body.ends_with('{') || body.starts_with(['/', '*']) {
        return None;
    }
    let first = match body.starts_with(')') {
        true => (0..at).rev().find(|&first| is_beside(lines, at, first))?,
        false => at,
    };
    let head = lines[first].trim();
    let name = if let Some((_, rest)) = head.split_once("function ") {
        rest
    } else if body.ends_with("=> {") {
        head.split(" = ").next()?.split([':', '(']).next()?.split(' ').next_back()?
    } else if is_method(head) && body.contains(')') {
        head.split('(').next()?.split(' ').next_back()?
    } else {
        return None;
    };
    Some((first, name.split(['(', '<']).next()?))
}

/// Returns true if this begins a method, and not a call or a statement with a block.
fn is_method(head: &str) -> bool {
    const STATEMENTS: &[&str] =
        &["if", "for", "while", "switch", "catch", "return", "else", "do", "try", "with"];
    let is_name = |word: &str| {
        let word = word.split('<').next().unwrap_or(word);
        !word.is_empty()
            && word.chars().all(|c| c.is_alphanumeric() || "_$#".contains(c))
            && !STATEMENTS.contains(&word)
    };
    head.split_once('(').is_some_and(|(words, _)| words.split(' ').all(is_name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<(usize, String, usize)> {
        let file = File::new(path, text);
        let found = functions(&file).into_iter();
        found.map(|(line, name, lines)| (line, name.to_owned(), lines)).collect()
    }

    #[test]
    fn functions_of_rust_are_measured_with_their_heads() {
        let text = "impl A {\n    pub(crate) async fn one<T>(\n        a: T,\n    ) -> u8 {\n\
                    \x20       match a {\n            _ => 0,\n        }\n    }\n\n\
                    \x20   fn two();\n    fn three() {}\n}\n\
                    const fn four() -> u8 {\n    0\n}\n";
        let wanted = [(2, "one".to_owned(), 7), (13, "four".to_owned(), 3)];
        assert_eq!(found("a.rs", text), wanted);
    }

    #[test]
    fn functions_of_typescript_are_found_in_all_their_forms() {
        let text = "export async function one(\n  a: number,\n): void {\n  if (a) {\n    b();\n  \
                    }\n}\nconst two = (a: number): void => {\n  a;\n};\nclass A {\n  private \
                    three<T>(a: T): void {\n    a;\n  }\n  four(\n    a: number,\n  ): void {\n    \
                    a;\n  }\n}\ncall((five) => {\n  five;\n});\n";
        let wanted =
            [(1, "one", 7), (8, "two", 3), (12, "three", 3), (15, "four", 5), (21, "call", 3)];
        assert_eq!(found("a.ts", text), wanted.map(|(at, name, n)| (at, name.to_owned(), n)));
    }

    #[test]
    fn statements_and_calls_are_none() {
        let text =
            "  if (a) {\n  }\n  for (const a of b) {\n  }\n  call(a, {\n  });\n  // function x\n";
        assert_eq!(found("a.ts", text), []);
    }
}
