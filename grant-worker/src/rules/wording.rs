//! What people may write: reasons, comments, tickets.

use std::collections::HashSet;

use shared::refusal::{Code, Refusal};

/// Most characters of a reason or a comment.
pub const MAX_TEXT: usize = 2_000;
/// Most characters of a ticket.
pub const MAX_TICKET: usize = 200;

/// Judges a reason, which is kept verbatim.
///
/// `last` is the one that the same user gave last: it does not count twice.
pub fn judge_reason(reason: &str, min_length: u32, last: Option<&str>) -> Result<(), Refusal> {
    if reason.trim().is_empty() {
        return Err(Refusal::new(Code::ReasonRequired, "Say why you need emergency access."));
    }
    check_text("reason", reason)?;
    let meaningful: Vec<_> = reason.chars().filter(|c| c.is_alphanumeric()).collect();
    let different: HashSet<_> = meaningful.iter().flat_map(|c| c.to_lowercase()).collect();
    if meaningful.len() < min_length as usize {
        let detail = format!("Say more: the reason needs at least {min_length} letters or digits.");
        return Err(Refusal::new(Code::ReasonTooWeak, detail));
    }
    if different.len() < 2 {
        let detail = "The reason is one character repeated; say why you need emergency access.";
        return Err(Refusal::new(Code::ReasonTooWeak, detail));
    }
    if last.is_some_and(|last| normalised(last) == normalised(reason)) {
        let detail = "This is the reason that you gave last time; say what it is now.";
        return Err(Refusal::new(Code::ReasonTooWeak, detail));
    }
    Ok(())
}

/// A comment, kept verbatim; a blank one is none.
pub fn comment(text: Option<&str>) -> Result<Option<&str>, Refusal> {
    let text = text.filter(|text| !text.trim().is_empty());
    text.map_or(Ok(()), |text| check_text("comment", text))?;
    Ok(text)
}

/// A ticket, kept verbatim; a blank one is none.
pub fn ticket(text: Option<&str>) -> Result<Option<&str>, Refusal> {
    let Some(text) = text.filter(|text| !text.trim().is_empty()) else { return Ok(None) };
    if text.chars().count() > MAX_TICKET {
        let detail = format!("The ticket has more than {MAX_TICKET} characters.");
        return Err(Refusal::new(Code::TicketInvalid, detail));
    }
    if text.chars().any(char::is_control) {
        return Err(Refusal::new(Code::TicketInvalid, "The ticket has control characters."));
    }
    Ok(Some(text))
}

/// Line breaks are the only control characters (Unicode category Cc) in a text.
fn check_text(what: &str, text: &str) -> Result<(), Refusal> {
    if text.chars().count() > MAX_TEXT {
        return Err(bad(format!("The {what} has more than {MAX_TEXT} characters.")));
    }
    if text.replace("\r\n", "\n").chars().any(|c| c.is_control() && c != '\n') {
        return Err(bad(format!("The {what} has control characters other than line breaks.")));
    }
    Ok(())
}

fn bad(detail: String) -> Refusal {
    Refusal::new(Code::BadRequest, detail)
}

/// What two spellings of one reason have in common.
fn normalised(reason: &str) -> String {
    reason.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(reason: &str) -> Option<Code> {
        let last = Some("Replica  lag on orders,\nfailing over by hand");
        judge_reason(reason, 15, last).err().map(|refusal| refusal.code)
    }

    #[test]
    fn a_reason_that_says_something_passes() {
        for reason in [
            "Primary database is down, failing over",
            "exactly15letter",
            "Zeile eins\nZeile zwei\r\nZeile drei",
            "主数据库宕机需要手动切换到备用节点",
            "with \u{202e}override\u{202c} kept as it is",
            "replica lag on orders, failing over by hand again",
        ] {
            assert_eq!(code(reason), None, "{reason:?}");
        }
    }

    #[test]
    fn no_reason_is_told_from_a_weak_one() {
        for reason in ["", " ", "\n\t\r\n", "\u{3000}"] {
            assert_eq!(code(reason), Some(Code::ReasonRequired), "{reason:?}");
        }
        for reason in [
            ".",
            "fourteenlettrs",
            "asap !!!!!!!!!!!!!!!!!!!!!!",
            "....................",
            "aaaaaaaaaaaaaaaaaaaa",
            "Aa aA Aa aA Aa aA Aa aA",
            "replica lag on orders, failing over by hand",
            "  REPLICA lag\non orders,  failing over by hand\n",
        ] {
            assert_eq!(code(reason), Some(Code::ReasonTooWeak), "{reason:?}");
        }
    }

    #[test]
    fn a_reason_holds_2000_characters_and_no_controls() {
        let long = |n: usize| "zwölf ".chars().cycle().take(n).collect::<String>();
        assert_eq!(code(&long(2_000)), None);
        assert_eq!(code(&long(2_001)), Some(Code::BadRequest));
        for control in ['\0', '\t', '\r', '\u{1b}', '\u{7f}', '\u{85}'] {
            let reason = format!("database is down{control} for everybody");
            assert_eq!(code(&reason), Some(Code::BadRequest), "{control:?}");
        }
    }

    #[test]
    fn comments_and_tickets() {
        assert_eq!(comment(None), Ok(None));
        assert_eq!(comment(Some(" \n")), Ok(None));
        assert_eq!(comment(Some(" done\n")), Ok(Some(" done\n")));
        assert!(comment(Some("a\0b")).is_err());
        assert!(comment(Some(&"a".repeat(2_001))).is_err());
        assert_eq!(ticket(Some("")), Ok(None));
        assert_eq!(ticket(Some("INC-4711")), Ok(Some("INC-4711")));
        assert!(ticket(Some("INC\n4711")).is_err());
        assert!(ticket(Some(&"é".repeat(200))).is_ok());
        assert!(ticket(Some(&"é".repeat(201))).is_err());
    }
}
