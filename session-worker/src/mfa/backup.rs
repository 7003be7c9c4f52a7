//! Backup codes: for when the authenticator is lost, each for one use.

use sha2::{Digest as _, Sha256};
use shared::{id::UserId, random};

/// How many one gets.
pub(crate) const CODES: usize = 10;
/// Letters of a code, of 5 bits each: 80 bits.
const LENGTH: usize = 16;
/// Crockford's base 32: nothing in it looks like something else in it.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// A code as the user sees it, and what is stored of it.
pub(crate) struct Code {
    pub(crate) text: String,
    pub(crate) hash: [u8; 32],
}

/// New codes.
pub(crate) fn generate(user: UserId) -> Vec<Code> {
    let code = || {
        let letters = random::bytes::<LENGTH>().map(|byte| ALPHABET[usize::from(byte % 32)]);
        let groups: Vec<_> =
            letters.chunks(4).map(|group| String::from_utf8_lossy(group).into_owned()).collect();
        Code { text: groups.join("-"), hash: hash(user, &letters) }
    };
    std::iter::repeat_with(code).take(CODES).collect()
}

/// What is stored of a code that was typed, if it has the form of one.
pub(crate) fn typed(user: UserId, text: &str) -> Option<[u8; 32]> {
    let letters = text.chars().filter(|char| !char.is_whitespace() && *char != '-').map(|char| {
        match char.to_ascii_uppercase() {
            'O' => '0',
            'I' | 'L' => '1',
            other => other,
        }
    });
    let letters: String = letters.take(LENGTH + 1).collect();
    let has_form =
        letters.len() == LENGTH && letters.bytes().all(|letter| ALPHABET.contains(&letter));
    has_form.then(|| hash(user, letters.as_bytes()))
}

/// A code has 80 random bits: nobody guesses it from its hash.
fn hash(user: UserId, letters: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(user.0.as_bytes()).chain_update(letters).finalize().into()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use shared::clock::Timestamp;

    use super::*;

    fn user() -> UserId {
        UserId::new(Timestamp::from_micros(0))
    }

    #[test]
    fn ten_codes_of_80_bits_each_its_own() {
        let codes = generate(user());
        let texts: HashSet<_> = codes.iter().map(|code| code.text.clone()).collect();
        assert_eq!(texts.len(), 10);
        for text in texts {
            assert_eq!(text.len(), 16 + 3, "{text}");
        }
    }

    #[test]
    fn a_code_is_read_as_people_type_it_and_is_one_users() {
        let user = user();
        for code in generate(user) {
            let text = &code.text;
            let lower = text.to_lowercase().replace('-', " ").replace('0', "o").replace('1', "l");
            for spelling in [text.clone(), text.replace('-', ""), lower, format!(" {text}\n")] {
                assert_eq!(typed(user, &spelling), Some(code.hash), "{spelling}");
            }
            let other = UserId(random::uuid_v7(Timestamp::from_micros(1)));
            assert_ne!(typed(other, text), Some(code.hash));
        }
        for bad in
            ["", "123456", "ABCD-EFGH-JKMN-PQR", "ABCD-EFGH-JKMN-PQRSS", "ABCD-EFGH-JKMN-PQRU"]
        {
            assert_eq!(typed(user, bad), None, "{bad}");
        }
    }
}
