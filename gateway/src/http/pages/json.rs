//! JSON, laid out for people. Numbers and texts stay as they are written, for what is shown has been
//! hashed so: no parser that knows fewer numbers than the database comes between.

use std::fmt::Write as _;

/// Characters that change how others around them are shown; written as escapes, which mean the same.
const fn disguises(char: char) -> bool {
    matches!(char, '\u{61c}' | '\u{7f}'..='\u{9f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// The same JSON with a line for each value.
pub(super) fn pretty(json: &str) -> String {
    let mut text = String::with_capacity(json.len() * 2);
    let (mut depth, mut in_text, mut is_escaped) = (0_usize, false, false);
    let mut chars = json.chars().filter(|char| !matches!(char, '\n' | '\r' | '\t')).peekable();
    while let Some(char) = chars.next() {
        if in_text {
            match char {
                _ if is_escaped => is_escaped = false,
                '\\' => is_escaped = true,
                '"' => in_text = false,
                _ => {}
            }
            if disguises(char) {
                let _ = write!(text, "\\u{:04x}", u32::from(char));
            } else {
                text.push(char);
            }
            continue;
        }
        match char {
            ' ' => {}
            '"' => {
                in_text = true;
                text.push(char);
            }
            '{' | '[' => {
                text.push(char);
                while chars.next_if_eq(&' ').is_some() {}
                if let Some(end) = chars.next_if(|next| matches!(next, '}' | ']')) {
                    text.push(end);
                } else {
                    depth += 1;
                    line(&mut text, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut text, depth);
                text.push(char);
            }
            ',' => {
                text.push(char);
                line(&mut text, depth);
            }
            ':' => text.push_str(": "),
            _ => text.push(char),
        }
    }
    text
}

/// A new line, indented.
fn line(text: &mut String, depth: usize) {
    text.push('\n');
    text.extend(std::iter::repeat_n("  ", depth));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_has_a_line() {
        let json = r#"{"a": 1, "b": [true, {"c": null}], "d": {}, "e": [ ]}"#;
        let shown = "{\n  \"a\": 1,\n  \"b\": [\n    true,\n    {\n      \"c\": null\n    }\n  ],\n  \
                     \"d\": {},\n  \"e\": []\n}";
        assert_eq!(pretty(json), shown);
        assert_eq!(pretty("{}"), "{}");
    }

    #[test]
    fn what_is_written_stays() {
        for value in [
            r#""a, b: {c} [d] \" e\\""#,
            r#""\\""#,
            "1e400",
            "-0.0",
            "12345678901234567890.10",
            r#""two  spaces""#,
        ] {
            assert_eq!(pretty(value), value);
        }
    }

    #[test]
    fn nothing_is_shown_in_another_order_than_it_is_written() {
        assert_eq!(pretty("\"a\u{202e}b\u{85}\u{feff}\""), r#""a\u202eb\u0085\ufeff""#);
        // A backslash before it was one of its own.
        let value: serde_json::Value =
            serde_json::from_str(&pretty("\"\\\\\u{202e}\"")).expect("JSON");
        assert_eq!(value, "\\\u{202e}");
    }
}
