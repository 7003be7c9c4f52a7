//! Making text that somebody typed harmless where it is shown.

/// Opens an isolate whose direction is that of its first strong character (UAX #9).
const FSI: char = '\u{2068}';
/// Closes an isolate.
const PDI: char = '\u{2069}';

/// Text whose bidirectional controls, kept as they are, reach no further than its own end.
///
/// An isolate ends with its line, and a closing control that belongs to nothing would end ours.
pub(crate) fn isolated(text: &str) -> String {
    let lines: Vec<_> = text.split('\n').map(isolated_line).collect();
    lines.join("\n")
}

fn isolated_line(line: &str) -> String {
    let mut isolated = String::with_capacity(line.len() + 8);
    let mut depth = 0_usize;
    isolated.push(FSI);
    for char in line.chars() {
        match char {
            '\u{2066}'..='\u{2068}' => depth += 1,
            PDI if depth == 0 => {
                isolated.push(char::REPLACEMENT_CHARACTER);
                continue;
            }
            PDI => depth -= 1,
            // Ends a paragraph, and with it every isolate.
            '\u{2029}' | '\u{85}' | '\u{1c}'..='\u{1e}' | '\r' => {
                isolated.push(' ');
                continue;
            }
            _ => {}
        }
        isolated.push(char);
    }
    isolated.extend(std::iter::repeat_n(PDI, depth + 1));
    isolated
}

/// Text for one line of a header: no control character, and none that turns what follows.
pub(crate) fn one_line(text: &str, longest: usize) -> String {
    let plain = text.chars().map(|char| match char {
        '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            char::REPLACEMENT_CHARACTER
        }
        char if char.is_control() || char == '\u{2028}' || char == '\u{2029}' => ' ',
        char => char,
    });
    plain.take(longest).collect()
}

/// Text for Slack's markup and its kin: nothing in it is a link, a mention or an entity.
pub(crate) fn slack(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 8);
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            // A mention, or the end of a link's text, with something between is none.
            '@' | '＠' | ']' => {
                escaped.push(char);
                escaped.push('\u{200b}');
            }
            // Formatting that begins here ends elsewhere.
            '*' | '_' | '~' | '`' => {
                escaped.push('\u{200b}');
                escaped.push(char);
            }
            char => escaped.push(char),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_stay_and_end_with_their_text() {
        assert_eq!(isolated("plain"), "\u{2068}plain\u{2069}");
        let hostile = "\u{202e}evil";
        assert_eq!(isolated(hostile), "\u{2068}\u{202e}evil\u{2069}", "kept, and closed");
        assert_eq!(isolated("a\u{2069}\u{202e}b"), "\u{2068}a\u{fffd}\u{202e}b\u{2069}");
        assert_eq!(isolated("\u{2067}a"), "\u{2068}\u{2067}a\u{2069}\u{2069}");
        assert_eq!(isolated("a\nb"), "\u{2068}a\u{2069}\n\u{2068}b\u{2069}", "each line its own");
        assert_eq!(isolated("a\u{2029}b"), "\u{2068}a b\u{2069}");
        for text in ["\u{2069}\u{2069}", "\u{2066}\u{2069}\u{2069}x", "\u{2067}\u{2068}"] {
            let isolated = isolated(text);
            let (mut depth, mut lowest) = (0, 1);
            for (at, char) in isolated.char_indices() {
                match char {
                    '\u{2066}'..='\u{2068}' => depth += 1,
                    PDI => depth -= 1,
                    _ => {}
                }
                if at + char.len_utf8() < isolated.len() {
                    lowest = lowest.min(depth);
                }
            }
            assert_eq!((depth, lowest), (0, 1), "{text:?} gets out of {isolated:?}");
        }
    }

    #[test]
    fn a_header_has_one_line() {
        assert_eq!(one_line("a\r\nBcc: x\u{202e}y\u{2028}z", 100), "a  Bcc: x\u{fffd}y z");
        assert_eq!(one_line("äöü", 2), "äö");
    }

    #[test]
    fn nothing_is_markup_for_slack() {
        assert_eq!(slack("<!channel> & <@U1>"), "&lt;!channel&gt; &amp; &lt;@\u{200b}U1&gt;");
        assert_eq!(slack("@here"), "@\u{200b}here");
        assert_eq!(slack("[x](https://evil)"), "[x]\u{200b}(https://evil)");
        assert!(!slack("`*_~`").contains("`*"));
    }
}
