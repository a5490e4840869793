//! Conditional and range requests for a file (RFC 9110 §13 and §14).
use super::date;
use super::files::About;
use super::head::FieldLines;
use super::list;
use std::ops::Range;
use std::time::UNIX_EPOCH;

/// What a request asks for beside the file: kept until it is answered.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    range: Option<String>,
    if_range: Option<String>,
    /// `If-Match` and `If-None-Match` may be repeated: they are lists.
    if_match: Option<String>,
    if_none_match: Option<String>,
    if_modified_since: Option<u64>,
    if_unmodified_since: Option<u64>,
}

/// What becomes of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    Whole,
    Part(Range<u64>),
    NotModified,
    PreconditionFailed,
    Unsatisfiable,
}

/// The tag of a file: its time and its length.
pub(super) fn tag(about: &About) -> String {
    let since = about.modified.duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("\"{:x}-{:x}\"", since.as_nanos(), about.bytes)
}

impl Conditions {
    pub(super) fn of(fields: FieldLines, is_get: bool) -> Self {
        let first = |name: &str| fields.all(name).next();
        let all = |name: &str| {
            let values: Vec<&str> = fields.all(name).collect();
            (!values.is_empty()).then(|| values.join(","))
        };
        Conditions {
            // RFC 9110 §14.2: for any other method a range means nothing.
            range: first("range").filter(|_| is_get).map(Into::into),
            if_range: first("if-range").map(Into::into),
            if_match: all("if-match"),
            if_none_match: all("if-none-match"),
            if_modified_since: first("if-modified-since").and_then(date::read),
            if_unmodified_since: first("if-unmodified-since").and_then(date::read),
        }
    }

    /// In the order of RFC 9110 §13.2.2.
    pub(super) fn plan(&self, about: &About, tag: &str) -> Plan {
        let modified = date::seconds(about.modified);
        match (&self.if_match, self.if_unmodified_since) {
            (Some(tags), _) if !matches(tags, tag, false) => return Plan::PreconditionFailed,
            (None, Some(since)) if modified > since => return Plan::PreconditionFailed,
            _ => {}
        }
        match (&self.if_none_match, self.if_modified_since) {
            (Some(tags), _) if matches(tags, tag, true) => return Plan::NotModified,
            (None, Some(since)) if modified <= since => return Plan::NotModified,
            _ => {}
        }
        let Some(range) = &self.range else { return Plan::Whole };
        if let Some(validator) = &self.if_range
            && validator != tag
            && date::read(validator) != Some(modified)
        {
            // The client's part is of another file: it gets this one whole.
            return Plan::Whole;
        }
        part(range, about.bytes)
    }
}

/// A list of tags and ours. RFC 9110 §8.8.3.2: weak ones equal strong ones where only freshness is
/// asked.
fn matches(tags: &str, tag: &str, weakly: bool) -> bool {
    list(tags).any(|candidate| {
        let strong = candidate.strip_prefix("W/").filter(|_| weakly).unwrap_or(candidate);
        candidate == "*" || strong == tag
    })
}

/// RFC 9110 §14.1.2. What is no range, or several ranges, is answered with the whole, as §14.2
/// lets a server do.
fn part(range: &str, bytes: u64) -> Plan {
    let Some(("bytes", set)) = range.split_once('=') else { return Plan::Whole };
    let Some((first, last)) = set.trim().split_once('-') else { return Plan::Whole };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(first) || !digits(last) || (first.is_empty() && last.is_empty()) {
        return Plan::Whole;
    }
    // A number beyond 64 bits lies behind every file's end.
    let number = |text: &str| text.parse::<u64>().unwrap_or(u64::MAX);
    let (from, to) = match (first, last) {
        ("", suffix) => (bytes.saturating_sub(number(suffix)), bytes),
        (first, "") => (number(first), bytes),
        (first, last) if number(last) < number(first) => return Plan::Whole,
        (first, last) => (number(first), number(last).saturating_add(1).min(bytes)),
    };
    if from >= to { Plan::Unsatisfiable } else { Plan::Part(from..to) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn about() -> About {
        About { bytes: 100, modified: UNIX_EPOCH + Duration::from_millis(784_111_777_500) }
    }

    fn plan(lines: &str) -> Plan {
        let about = about();
        Conditions::of(FieldLines(lines), true).plan(&about, &tag(&about))
    }

    #[test]
    fn a_range_is_a_part_or_the_whole_or_nothing() {
        for (range, expected) in [
            ("bytes=0-0", Plan::Part(0..1)),
            ("bytes=10-19", Plan::Part(10..20)),
            ("bytes=90-", Plan::Part(90..100)),
            ("bytes=-5", Plan::Part(95..100)),
            ("bytes=-500", Plan::Part(0..100)),
            ("bytes=50-99999999999999999999999", Plan::Part(50..100)),
            ("bytes=100-", Plan::Unsatisfiable),
            ("bytes=-0", Plan::Unsatisfiable),
            ("bytes=99999999999999999999999-", Plan::Unsatisfiable),
            ("bytes=5-4", Plan::Whole),
            ("bytes=-", Plan::Whole),
            ("bytes=0-1,5-6", Plan::Whole),
            ("bytes=a-b", Plan::Whole),
            ("bytes=+1-2", Plan::Whole),
            ("lines=0-1", Plan::Whole),
        ] {
            assert_eq!(plan(&format!("Range: {range}")), expected, "{range}");
        }
    }

    #[test]
    fn a_copy_that_is_fresh_is_not_sent_again() {
        let ours = tag(&about());
        for (lines, expected) in [
            (format!("If-None-Match: {ours}"), Plan::NotModified),
            (format!("If-None-Match: \"x\", W/{ours}"), Plan::NotModified),
            (format!("If-None-Match: \"x\"\r\nIf-None-Match: {ours}"), Plan::NotModified),
            ("If-None-Match: *".into(), Plan::NotModified),
            ("If-None-Match: \"x\"".into(), Plan::Whole),
            ("If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT".into(), Plan::NotModified),
            ("If-Modified-Since: Sun, 06 Nov 1994 08:49:36 GMT".into(), Plan::Whole),
            ("If-Modified-Since: yesterday".into(), Plan::Whole),
            // RFC 9110 §13.1.3: the tag outvotes the date.
            (
                "If-None-Match: \"x\"\r\nIf-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT".into(),
                Plan::Whole,
            ),
        ] {
            assert_eq!(plan(&lines), expected, "{lines}");
        }
    }

    #[test]
    fn a_precondition_that_does_not_hold_fails() {
        let ours = tag(&about());
        assert_eq!(plan(&format!("If-Match: {ours}")), Plan::Whole);
        assert_eq!(plan("If-Match: *"), Plan::Whole);
        assert_eq!(plan(&format!("If-Match: W/{ours}")), Plan::PreconditionFailed);
        assert_eq!(plan("If-Match: \"x\""), Plan::PreconditionFailed);
        let since = "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:3";
        assert_eq!(plan(&format!("{since}6 GMT")), Plan::PreconditionFailed);
        assert_eq!(plan(&format!("{since}7 GMT")), Plan::Whole);
    }

    #[test]
    fn a_part_of_another_file_becomes_the_whole() {
        let ours = tag(&about());
        let range = "Range: bytes=0-9\r\nIf-Range: ";
        assert_eq!(plan(&format!("{range}{ours}")), Plan::Part(0..10));
        assert_eq!(plan(&format!("{range}Sun, 06 Nov 1994 08:49:37 GMT")), Plan::Part(0..10));
        assert_eq!(plan(&format!("{range}\"x\"")), Plan::Whole);
        assert_eq!(plan(&format!("{range}W/{ours}")), Plan::Whole);
        assert_eq!(plan(&format!("{range}Sun, 06 Nov 1994 08:49:36 GMT")), Plan::Whole);
        let head = Conditions::of(FieldLines("Range: bytes=0-9"), false);
        assert_eq!(head.plan(&about(), &ours), Plan::Whole);
    }
}
