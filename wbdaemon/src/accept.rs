// SPDX-License-Identifier: GPL-2.0-only

//! The format that a client wants for the page: the `Accept` headers of a request, by RFC 9110, section
//! 12.5.1. Pure.

use prometheus_client::encoding::prometheus_text;

/// The formats of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' text format, version 0.0.4.
    Text,
    /// OpenMetrics, version 1.0.0.
    OpenMetrics,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Text, Self::OpenMetrics];

    /// The content type of an answer in this format.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => prometheus_text::CONTENT_TYPE,
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// Type, subtype and version.
    fn parts(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Text => ("text", "plain", "0.0.4"),
            Self::OpenMetrics => ("application", "openmetrics-text", "1.0.0"),
        }
    }
}

/// The format that a request with these `Accept` headers wants most; `None` if it wants none of ours. If it
/// wants both alike, OpenMetrics if the request names it, because it says more. A request without preference
/// gets the text format, which every client understands.
pub fn choose<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Format> {
    let ranges: Vec<Range> =
        headers.flat_map(|h| split(h, ',')).filter_map(|range| Range::parse(&range)).collect();
    if ranges.is_empty() {
        return Some(Format::Text);
    }
    let wish = |format| wish(&ranges, format);
    let (text, open) = (wish(Format::Text), wish(Format::OpenMetrics));
    let is_open = open.q > text.q || (open.q == text.q && open.precision >= NAMED);
    let (format, wish) = if is_open { (Format::OpenMetrics, open) } else { (Format::Text, text) };
    (wish.q > 0.0).then_some(format)
}

/// How much a format is wanted, and how precisely the request says so.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
struct Wish {
    precision: u8,
    q: f64,
}

/// From this precision on, the type was named in full.
const NAMED: u8 = 2;

/// The most precise range that covers `format` decides.
fn wish(ranges: &[Range], format: Format) -> Wish {
    let of = |range: &Range| range.precision(format).map(|precision| Wish { precision, q: range.q });
    let more = |a: Wish, b: Wish| if b > a { b } else { a };
    ranges.iter().filter_map(of).fold(Wish { precision: 0, q: 0.0 }, more)
}

/// One of the media ranges in an `Accept` header.
struct Range {
    kind: String,
    subtype: String,
    version: Option<String>,
    q: f64,
}

impl Range {
    /// `None` for a text that is no media range.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = split(text, ';').into_iter();
        let media = parts.next()?.trim().to_ascii_lowercase();
        let (kind, subtype) = media.split_once('/').filter(|(k, s)| !k.is_empty() && !s.is_empty())?;
        let mut range = Self { kind: kind.into(), subtype: subtype.into(), version: None, q: 1.0 };
        for part in parts {
            let Some((key, value)) = part.split_once('=') else { continue };
            let value = value.trim().trim_matches('"');
            match key.trim().to_ascii_lowercase().as_str() {
                "q" => range.q = value.parse().ok().filter(|q| (0.0..=1.0).contains(q))?,
                "version" => range.version = Some(value.to_owned()),
                // Our pages are in UTF-8, and their names are the same in each way to escape them.
                _ => (),
            }
        }
        Some(range)
    }

    /// How precisely the range names `format`; `None` if it names another one.
    fn precision(&self, format: Format) -> Option<u8> {
        let (kind, subtype, version) = format.parts();
        match (self.kind.as_str(), self.subtype.as_str(), &self.version) {
            ("*", "*", _) => Some(0),
            (k, "*", _) if k == kind => Some(1),
            (k, s, None) if (k, s) == (kind, subtype) => Some(NAMED),
            (k, s, Some(v)) if (k, s, v.as_str()) == (kind, subtype, version) => Some(NAMED + 1),
            _ => None,
        }
    }
}

/// The parts of `text` between `separator`s that are not in quotes.
fn split(text: &str, separator: char) -> Vec<String> {
    let mut parts = vec![String::new()];
    let (mut is_quoted, mut is_escaped) = (false, false);
    for c in text.chars() {
        if c == separator && !is_quoted {
            parts.push(String::new());
            continue;
        }
        if c == '"' && !is_escaped {
            is_quoted = !is_quoted;
        }
        is_escaped = is_quoted && c == '\\' && !is_escaped;
        if let Some(part) = parts.last_mut() {
            part.push(c);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use Format::{OpenMetrics, Text};

    /// The headers of Prometheus 2.53 and 3.5.
    const PROMETHEUS_2: &str =
        "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
        text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
    const PROMETHEUS_3: &str = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
        application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
        text/plain;version=0.0.4;q=0.3,*/*;q=0.2";

    #[test]
    fn what_is_wanted() {
        for (accept, format) in [
            ("", Some(Text)),
            ("*/*", Some(Text)),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", Some(Text)),
            (PROMETHEUS_2, Some(OpenMetrics)),
            (PROMETHEUS_3, Some(OpenMetrics)),
            ("text/plain", Some(Text)),
            ("text/*", Some(Text)),
            ("TEXT/Plain; Version=\"0.0.4\"", Some(Text)),
            ("text/plain;version=0.0.4;q=0.5,application/openmetrics-text;version=1.0.0;q=0.4", Some(Text)),
            ("text/plain;q=0.4 , application/openmetrics-text; q=0.5", Some(OpenMetrics)),
            ("text/plain, application/openmetrics-text", Some(OpenMetrics)),
            ("application/*", Some(OpenMetrics)),
            // The most precise range decides, not the one with the largest weight.
            ("application/openmetrics-text;q=0.1, */*", Some(Text)),
            ("text/plain;version=0.0.4;q=0, */*;q=0.1", Some(OpenMetrics)),
            (
                "application/openmetrics-text;version=1.0.0;q=0, application/openmetrics-text, */*;q=0.1",
                Some(Text),
            ),
            // Versions that are not ours.
            ("application/openmetrics-text;version=0.0.1,text/plain;version=0.0.4;q=0.1", Some(Text)),
            ("text/plain;version=1.0.0,application/openmetrics-text;q=0.1", Some(OpenMetrics)),
            ("application/openmetrics-text;version=2.0.0", None),
            // Neither.
            ("text/plain;q=0", None),
            ("*/*;q=0", None),
            ("application/json", None),
            ("image/*, application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;q=0.9", None),
            // A text that is no media range is ignored.
            ("nonsense", Some(Text)),
            ("text/plain;q=2, application/openmetrics-text;q=0.1", Some(OpenMetrics)),
            ("text/plain;q=NaN", Some(Text)),
            (",;,=;/,/,x/,\"", Some(Text)),
            ("x/y;a=\"b,text/plain\", application/openmetrics-text", Some(OpenMetrics)),
            ("x/y;a=\"\\\",text/plain", None),
        ] {
            assert_eq!(choose([accept].into_iter()), format, "{accept}");
        }
        assert_eq!(choose([].into_iter()), Some(Text));
        assert_eq!(choose(["x/y", "application/openmetrics-text"].into_iter()), Some(OpenMetrics));
    }
}
