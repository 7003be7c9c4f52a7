//! Text of others, made harmless for a terminal.
//!
//! Reasons, names, comments and devices are whatever somebody typed. On a terminal an escape sequence can
//! move the cursor, rename the window or answer as if it was typed, and bidirectional overrides can make an
//! approver read something else than was written.

use std::fmt::Write as _;

/// On one line: line breaks become `⏎`; whatever else a terminal or the eye would not take literally is
/// spelled out as `\u{…}`.
pub(crate) fn line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => line.push_str(" ⏎ "),
            c if is_treacherous(c) => drop(write!(line, "\\u{{{:x}}}", u32::from(c))),
            c => line.push(c),
        }
    }
    line
}

/// The lines of a text, each of them harmless.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = String> {
    text.split('\n').map(line)
}

/// JSON that means the same, in which nothing is treacherous. Such characters can only stand in strings
/// there, but for line breaks.
pub(crate) fn json(text: &str) -> String {
    let mut json = String::with_capacity(text.len());
    for c in text.chars() {
        if c != '\n' && is_treacherous(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(json, "\\u{unit:04x}");
            }
        } else {
            json.push(c);
        }
    }
    json
}

/// Whether a character does something else than to show itself.
fn is_treacherous(c: char) -> bool {
    c.is_control()
        || matches!(c,
            // Bidirectional controls (UAX #9), and marks that work the same way.
            '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            // Line and paragraph separators.
            | '\u{2028}' | '\u{2029}'
            // Invisible: zero-width spaces and operators, deprecated controls, the byte order mark,
            // annotations, soft hyphen, fillers.
            | '\u{00ad}' | '\u{034f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}' | '\u{2060}'..='\u{2065}' | '\u{206a}'..='\u{206f}'
            | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            // Tags: whole sentences that nobody sees.
            | '\u{e0000}'..='\u{e0fff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_are_spelled_out() {
        assert_eq!(line("a\x1b[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(line("\u{9b}31m\x07\r\x08\t\x7f"), "\\u{9b}31m\\u{7}\\u{d}\\u{8}\\u{9}\\u{7f}");
    }

    #[test]
    fn what_turns_text_round_or_hides_it_is_spelled_out() {
        assert_eq!(line("pay \u{202e}001\u{202c}"), "pay \\u{202e}001\\u{202c}");
        assert_eq!(
            line("\u{2066}\u{200b}\u{2028}\u{e0041}"),
            "\\u{2066}\\u{200b}\\u{2028}\\u{e0041}"
        );
    }

    #[test]
    fn what_people_write_stays() {
        let text = "Zahlung läuft nicht: 支払い 👩‍🚒 – שלום ‘quoted’";
        assert_eq!(line(text), text);
        assert_eq!(line("one\ntwo"), "one ⏎ two");
        assert_eq!(lines("one\r\ntwo").collect::<Vec<_>>(), ["one\\u{d}", "two"]);
    }

    #[test]
    fn json_means_the_same() {
        let value = serde_json::json!({"reason": "\u{9b}2J \u{202e}x \u{e0041} ü\n\x1b"});
        let printed = json(&serde_json::to_string_pretty(&value).expect("serializes"));
        assert!(printed.contains("\\u009b2J \\u202ex \\udb40\\udc41 ü\\n\\u001b"), "{printed}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&printed).expect("parses"), value);
    }
}
