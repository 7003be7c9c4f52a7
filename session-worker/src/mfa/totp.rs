//! Codes of authenticator apps: RFC 6238 with SHA-1, 6 digits and 30 seconds. Pure rules.

use qrcode::{EcLevel, QrCode, render::svg};
use shared::clock::Timestamp;
use totp_rs::{Algorithm, Builder, Totp};

/// Length of a time step.
const STEP_SECONDS: u64 = 30;
/// Codes of so many steps either side of now count (RFC 6238 §5.2).
const WINDOW: u64 = 1;
/// Codes of so many steps either side of now tell that a clock is off.
const FAR: u64 = 10;

/// A shared secret: 160 random bits (RFC 4226 §4, R6).
pub(crate) type Secret = [u8; 20];

/// What a code is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Right, and never used before. The step that no code up to may be accepted of again.
    Accepted { step: u64 },
    /// Right, but it was used, or one after it.
    Used,
    /// Right for a clock that is off by so many seconds; negative: behind.
    ClockOff { seconds: i64 },
    /// Wrong.
    Wrong,
}

/// Whether a text has the form of a code: six digits, with spaces as apps show them.
pub(crate) fn has_form(code: &str) -> bool {
    let digits = typed(code);
    digits.len() == 6 && digits.bytes().all(|byte| byte.is_ascii_digit())
}

fn typed(code: &str) -> String {
    code.chars().filter(|char| !char.is_whitespace()).collect()
}

/// What a code is worth at `now`, where none of a step up to `last_step` counts.
pub(crate) fn check(secret: &Secret, code: &str, now: Timestamp, last_step: u64) -> Verdict {
    let code = typed(code);
    let totp = totp(secret);
    let current = now.unix_millis() / 1_000 / STEP_SECONDS;
    let steps = |around: u64| current.saturating_sub(around)..=current + around;
    let fits = |step: &u64| totp.check(&code, step * STEP_SECONDS).is_some();
    // Every step is looked at, so that the time it takes tells nothing.
    let near: Vec<_> = steps(WINDOW).filter(fits).collect();
    let far: Vec<_> = steps(FAR).filter(|step| *step > last_step).filter(fits).collect();
    if let Some(step) = near.iter().find(|step| **step > last_step) {
        Verdict::Accepted { step: *step }
    } else if !near.is_empty() {
        Verdict::Used
    } else if let Some(step) = far.iter().min_by_key(|step| step.abs_diff(current)) {
        let seconds = (i64::try_from(*step).unwrap_or(0) - i64::try_from(current).unwrap_or(0))
            * STEP_SECONDS.cast_signed();
        Verdict::ClockOff { seconds }
    } else {
        Verdict::Wrong
    }
}

/// How far off a clock is, in words: “about 2 minutes behind”.
pub(crate) fn clock_off(seconds: i64) -> String {
    let away = seconds.unsigned_abs();
    let amount = match (away / 60, away % 60) {
        (0, seconds) => format!("{seconds} seconds"),
        (1, 0) => "1 minute".to_owned(),
        (minutes, 0) => format!("{minutes} minutes"),
        (1, seconds) => format!("1 minute {seconds} seconds"),
        (minutes, seconds) => format!("{minutes} minutes {seconds} seconds"),
    };
    format!("about {amount} {}", if seconds < 0 { "behind" } else { "ahead" })
}

fn totp(secret: &Secret) -> Totp {
    base(secret).build().expect("6 digits, 30 s, and a secret of 160 bits")
}

fn base(secret: &Secret) -> Builder {
    Builder::new()
        .with_algorithm(Algorithm::SHA1)
        .with_digits(6)
        .with_skew(0)
        .with_step_duration(STEP_SECONDS)
        .with_secret(*secret)
        // A name that is not shown: the URI has its own.
        .with_account_name("user")
}

/// What an app is told.
pub(crate) struct ForApp {
    pub(crate) secret: String,
    pub(crate) uri: String,
    pub(crate) qr_svg: String,
}

/// The secret for typing, as a URI (the Key URI Format of Google Authenticator), and that as a QR code.
pub(crate) fn for_app(secret: &Secret, issuer: &str, account: &str) -> ForApp {
    // A colon ends the issuer.
    let totp = base(secret)
        .with_issuer(Some(issuer.replace(':', " ")))
        .with_account_name(account.replace(':', "_"))
        .build()
        .expect("6 digits, 30 s, a secret of 160 bits, and names without colons");
    let uri = totp.to_url().expect("names without colons make a URI");
    let qr = QrCode::with_error_correction_level(&uri, EcLevel::M)
        .expect("addresses are short enough for a QR code");
    let qr_svg = qr.render::<svg::Color<'_>>().min_dimensions(240, 240).build();
    ForApp { secret: totp.secret().to_base32(), uri, qr_svg }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RFC_SECRET: Secret = *b"12345678901234567890";

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_micros(i64::try_from(seconds).unwrap() * 1_000_000)
    }

    fn code(secret: &Secret, step: u64) -> String {
        totp(secret).generate(step * STEP_SECONDS).to_string()
    }

    #[test]
    fn codes_are_those_of_rfc_6238_appendix_b() {
        // The appendix has 8 digits; the last 6 of them are the code of 6 digits.
        for (seconds, digits) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            let step = seconds / STEP_SECONDS;
            assert_eq!(check(&RFC_SECRET, digits, at(seconds), 0), Verdict::Accepted { step });
        }
    }

    #[test]
    fn codes_are_those_of_rfc_4226_appendix_d() {
        let digits = [
            "755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583",
            "399871", "520489",
        ];
        for (step, digits) in (0..).zip(digits) {
            assert_eq!(code(&RFC_SECRET, step), digits);
        }
    }

    #[test]
    fn exactly_one_step_either_side_counts() {
        let (secret, now) = ([7; 20], 1_000_000_u64);
        for step in now - 12..=now + 12 {
            let away = step.abs_diff(now);
            let verdict = check(&secret, &code(&secret, step), at(now * 30 + 29), 0);
            let expected = match away {
                0 | 1 => Verdict::Accepted { step },
                2..=10 => Verdict::ClockOff {
                    seconds: (i64::try_from(step).unwrap() - i64::try_from(now).unwrap()) * 30,
                },
                _ => Verdict::Wrong,
            };
            assert_eq!(verdict, expected, "{step}");
        }
    }

    #[test]
    fn a_code_counts_once_and_none_before_it_after_it() {
        let (secret, now) = ([9; 20], 500_000);
        let current = code(&secret, now);
        let verdict =
            |code: &str, seconds, last| check(&secret, code, at(now * 30 + seconds), last);
        assert_eq!(verdict(&current, 0, now - 1), Verdict::Accepted { step: now });
        for seconds in [1, 29, 59] {
            assert_eq!(verdict(&current, seconds, now), Verdict::Used);
        }
        assert_eq!(verdict(&current, 89, now), Verdict::Wrong, "two steps on, and used");
        assert_eq!(verdict(&code(&secret, now - 1), 0, now), Verdict::Used);
        assert_eq!(verdict(&code(&secret, now + 1), 0, now), Verdict::Accepted { step: now + 1 });
    }

    #[test]
    fn codes_are_read_as_people_type_them() {
        let secret = [3; 20];
        let code = code(&secret, 40);
        let spaced = format!(" {} {}\n", &code[..3], &code[3..]);
        assert!(has_form(&spaced));
        assert_eq!(check(&secret, &spaced, at(1_200), 0), Verdict::Accepted { step: 40 });
        for other in ["", "12345", "1234567", "12345a", "१२३४५६", "ABCD-EFGH-JKMN-PQRS"]
        {
            assert!(!has_form(other), "{other}");
            assert_eq!(check(&secret, other, at(1_200), 0), Verdict::Wrong, "{other}");
        }
    }

    #[test]
    fn a_clock_that_is_off_is_told_in_words() {
        assert_eq!(clock_off(-60), "about 1 minute behind");
        assert_eq!(clock_off(150), "about 2 minutes 30 seconds ahead");
        assert_eq!(clock_off(300), "about 5 minutes ahead");
    }

    #[test]
    fn an_app_is_told_the_secret_whatever_the_names() {
        let app = for_app(&RFC_SECRET, "Break:glass", "a:b&c=d?é@acme.test");
        assert_eq!(app.secret, "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        let parsed = Totp::from_url(&app.uri).expect("a URI that can be read");
        assert_eq!(parsed.secret().as_ref(), RFC_SECRET);
        assert_eq!(parsed.issuer(), Some("Break glass"));
        assert!(app.qr_svg.contains("<svg"));
    }
}
