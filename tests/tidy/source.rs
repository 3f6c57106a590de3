//! Rust source as the rules see it: comments and literals blanked, test modules cut out, functions found.
//!
//! A scan, not a parser: it knows quotes, comments and braces, which is enough for formatted code.

/// The source with everything in comments and literals replaced by spaces; lines stay where they are.
pub fn code(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let (kept, len) = match literal(rest, out.chars().next_back()) {
            Some(len) => (false, len),
            None => (true, first.len_utf8()),
        };
        let (piece, tail) = rest.split_at(len);
        out.extend(piece.chars().map(|char| if kept || char == '\n' { char } else { ' ' }));
        rest = tail;
    }
    out
}

/// How many bytes the comment or literal at the front takes; none if there is none.
fn literal(rest: &str, before: Option<char>) -> Option<usize> {
    let in_word = before.is_some_and(|char| char.is_alphanumeric() || char == '_');
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(rest.find("*/").map_or(rest.len(), |end| end + 2));
    }
    if rest.starts_with('"') {
        return Some(quoted(rest, '"'));
    }
    if (rest.starts_with('r') || rest.starts_with("br")) && !in_word {
        return raw(rest);
    }
    if let Some(after) = rest.strip_prefix('\'') {
        // A character, or else a lifetime or label.
        let mut chars = after.chars();
        let (first, second) = (chars.next()?, chars.next()?);
        return (first == '\\' || second == '\'').then(|| quoted(rest, '\''));
    }
    None
}

fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, char) in rest.char_indices().skip(1) {
        match char {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if char == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// `r"..."`, `r#"..."#`, `br"..."`; none for other words that begin so.
fn raw(rest: &str) -> Option<usize> {
    let start = rest.find('r')? + 1;
    let hashes = rest[start..].bytes().take_while(|byte| *byte == b'#').count();
    let open = start + hashes;
    if !rest[open..].starts_with('"') {
        return None;
    }
    let close = format!("\"{}", "#".repeat(hashes));
    Some(rest[open + 1..].find(&close).map_or(rest.len(), |at| open + 1 + at + close.len()))
}

/// Blanks what stands behind `#[cfg(test)]`, up to the end of the item.
pub fn without_tests(code: &str) -> String {
    let mut out = code.to_owned();
    while let Some(start) = out.find("#[cfg(test)]") {
        let end = start + item_end(&out[start..]);
        let blank: String = out[start..end].chars().map(|char| if char == '\n' { '\n' } else { ' ' }).collect();
        out.replace_range(start..end, &blank);
    }
    out
}

/// The end of the item at the front: a semicolon or a closing brace outside of all brackets.
fn item_end(code: &str) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in code.bytes().enumerate() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' => depth = depth.saturating_sub(1),
            b'}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            b';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

/// A function: its name and its lines, signature included, the first counted from 1.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    pub name: String,
    pub line: usize,
    pub lines: usize,
}

/// All functions with a body in blanked code.
pub fn functions(code: &str) -> Vec<Function> {
    let word = |char: char| char.is_alphanumeric() || char == '_';
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let name: String = code[at + 3..].chars().take_while(|char| word(*char)).collect();
        if name.is_empty() || code[..at].chars().next_back().is_some_and(word) {
            continue;
        }
        let item = &code[at..at + item_end(&code[at..])];
        if item.ends_with('}') {
            found.push(Function { name, line: line_of(code, at), lines: item.lines().count() });
        }
    }
    found
}

/// The line of a byte, counted from 1.
pub fn line_of(text: &str, at: usize) -> usize {
    1 + text[..at].matches('\n').count()
}

#[test]
fn comments_and_literals_are_blanked() {
    let source = "let a = \"b // {\"; // c\nlet d = 'e'; let f: &'g str = r#\"h \" {\"#; /* i */ let j = '\\'';";
    assert_eq!(
        code(source).split_whitespace().collect::<Vec<_>>().join(" "),
        "let a = ; let d = ; let f: &'g str = ; let j = ;"
    );
    assert_eq!(code(source).lines().count(), 2);
}

#[test]
fn functions_and_tests_are_found() {
    let source = "fn one(a: [u8; 3]) -> u8 {\n    if a { b }\n}\ntrait T { fn two(); }\n#[cfg(test)]\nmod tests {\n    fn x() {}\n}\nstruct S;\n";
    let functions = functions(&without_tests(&code(source)));
    assert_eq!(functions, [Function { name: "one".into(), line: 1, lines: 3 }]);
    assert!(without_tests(source).ends_with("\nstruct S;\n"));
}
