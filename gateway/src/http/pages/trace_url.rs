//! Where traces can be looked at.

use std::{str::FromStr, sync::Arc};

use axum::http::Uri;

/// What stands for the id of the trace.
const PLACE: &str = "{trace_id}";

/// The address of a trace in whatever shows traces, with `{trace_id}` in place of its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceUrl(Arc<str>);

impl FromStr for TraceUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (before, _) =
            text.split_once(PLACE).ok_or("it needs {trace_id} where the id belongs")?;
        let rest = before.strip_prefix("https://").or_else(|| before.strip_prefix("http://"));
        let rest = rest.ok_or("it begins with https:// or http://")?;
        // Else an entry of the record would choose the host.
        rest.split_once(['/', '?', '#']).ok_or("{trace_id} belongs after the host")?;
        let sample = text.replace(PLACE, "0");
        let is_address = sample.bytes().all(|byte| (0x21..0x7f).contains(&byte))
            && sample
                .parse::<Uri>()
                .is_ok_and(|uri| uri.host().is_some_and(|host| !host.is_empty()));
        if is_address { Ok(Self(text.into())) } else { Err("it is no address") }
    }
}

impl TraceUrl {
    /// Where a trace is. None for what is no id of a trace.
    pub(super) fn of(&self, trace_id: &str) -> Option<String> {
        let is_id = trace_id.len() == 32 && trace_id.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_id.then(|| self.0.replace(PLACE, trace_id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0af7651916cd43dd8448eb211c80319c";

    #[test]
    fn the_id_takes_its_place() {
        for (template, address) in [
            ("https://traces.test/trace/{trace_id}", format!("https://traces.test/trace/{ID}")),
            (
                "http://[::1]:16686/trace/{trace_id}?x=1",
                format!("http://[::1]:16686/trace/{ID}?x=1"),
            ),
            ("https://t.test?q={trace_id}", format!("https://t.test?q={ID}")),
            ("https://t.test/#/{trace_id}/{trace_id}", format!("https://t.test/#/{ID}/{ID}")),
        ] {
            let url: TraceUrl = template.parse().expect(template);
            assert_eq!(url.of(ID), Some(address));
            for other in ["", "0af7", "../../../../../../../../../../../", &"x".repeat(32)] {
                assert_eq!(url.of(other), None, "{other}");
            }
        }
    }

    #[test]
    fn only_the_web_is_linked_to() {
        for template in [
            "",
            "{trace_id}",
            "https://traces.test/trace/",
            "javascript:alert('{trace_id}')",
            "javascript://x/{trace_id}",
            "ftp://traces.test/{trace_id}",
            "//traces.test/{trace_id}",
            "https://{trace_id}",
            "https://{trace_id}.test/",
            "https:///{trace_id}",
            "https://a b.test/{trace_id}",
            "https://t.test/\n{trace_id}",
        ] {
            assert!(template.parse::<TraceUrl>().is_err(), "{template}");
        }
    }
}
