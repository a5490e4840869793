//! A row of the table: what is asked, what is fed, what must come of it; and how that is judged.
pub(crate) use super::case::*;
use super::play::Bench;
use crate::support::endpoint::Ours;
use std::fmt::Write;

type Play = Box<dyn Fn(&Bench, Ours, usize) -> Result<(), String> + Send + Sync>;

/// How a row is judged.
pub(crate) enum Check {
    Cases(Vec<Case>),
    /// Played in these roles and cuts.
    Own(Vec<Ours>, Vec<usize>, Play),
    /// `tests/….rs` and the test there that judges it.
    Elsewhere(&'static str, &'static str),
    /// Why there is nothing to judge.
    None(&'static str),
}

/// One binding sentence, or one family of what conformance suites feed.
pub(crate) struct Row {
    pub(crate) id: &'static str,
    pub(crate) says: &'static str,
    pub(crate) fed: Option<String>,
    pub(crate) expected: Option<String>,
    pub(crate) check: Check,
    /// What one run of its own play has in it.
    each: usize,
}

/// A row whose cases follow.
pub(crate) fn row(id: &'static str, says: &'static str) -> Row {
    let check = Check::Cases(Vec::new());
    Row { id, says, fed: None, expected: None, check, each: 1 }
}

impl Row {
    pub(crate) fn case(mut self, case: Case) -> Self {
        if let Check::Cases(cases) = &mut self.check {
            cases.push(case);
        }
        self
    }

    pub(crate) fn cases(mut self, more: impl IntoIterator<Item = Case>) -> Self {
        if let Check::Cases(cases) = &mut self.check {
            cases.extend(more);
        }
        self
    }

    pub(crate) fn fed(self, fed: &str) -> Self {
        Row { fed: Some(fed.into()), ..self }
    }

    pub(crate) fn expected(self, expected: &str) -> Self {
        Row { expected: Some(expected.into()), ..self }
    }

    pub(crate) fn own(
        self,
        who: &[Ours],
        cuts: &[usize],
        play: impl Fn(&Bench, Ours, usize) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        Row { check: Check::Own(who.to_vec(), cuts.to_vec(), Box::new(play)), ..self }
    }

    /// Its own play has so many in it.
    pub(crate) fn times(self, each: usize) -> Self {
        Row { each, ..self }
    }

    pub(crate) fn elsewhere(self, file: &'static str, test: &'static str) -> Self {
        Row { check: Check::Elsewhere(file, test), ..self }
    }

    pub(crate) fn none(self, why: &'static str) -> Self {
        Row { check: Check::None(why), ..self }
    }

    /// Seconds, where others take a hundredth of one.
    pub(crate) fn is_long(&self) -> bool {
        let octets = |case: &Case| -> usize {
            let lengths = case.says.iter().map(|piece| match piece {
                Piece::Frame(_, payload) | Piece::Begun(_, _, payload) | Piece::Raw(payload) => {
                    payload.len() + 10
                }
            });
            lengths.sum::<usize>() * case.cuts.iter().filter(|cut| **cut < 10).count()
        };
        match &self.check {
            Check::Cases(cases) => cases.iter().map(octets).sum::<usize>() > 50_000,
            Check::Own(..) => self.id.starts_with("10.4-"),
            Check::Elsewhere(..) | Check::None(_) => false,
        }
    }

    /// So many plays, all as expected.
    pub(crate) fn run(&self, bench: &Bench) -> Result<usize, String> {
        match &self.check {
            Check::Cases(cases) if cases.is_empty() => Err("a row without a case".into()),
            Check::Cases(cases) => {
                let plays: Result<Vec<usize>, String> =
                    cases.iter().map(|case| case.run(bench)).collect();
                Ok(plays?.into_iter().sum())
            }
            Check::Own(who, cuts, play) => {
                for &ours in who {
                    for &cut in cuts {
                        play(bench, ours, cut).map_err(|wrong| format!("{ours:?}: {wrong}"))?;
                    }
                }
                Ok(who.len() * cuts.len() * self.each)
            }
            Check::Elsewhere(file, test) => {
                let path = format!("{}/{file}", env!("CARGO_MANIFEST_DIR"));
                let source = std::fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
                match source.contains(&format!("fn {test}()")) {
                    true => Ok(0),
                    false => Err(format!("{file} has no test {test}")),
                }
            }
            Check::None(_) => Ok(0),
        }
    }

    /// Which sides it binds, of those that are played.
    pub(crate) fn who(&self) -> &'static str {
        let who: Vec<Ours> = match &self.check {
            Check::Cases(cases) => cases.iter().flat_map(|case| case.who.clone()).collect(),
            Check::Own(who, ..) => who.clone(),
            Check::Elsewhere(..) | Check::None(_) => return "–",
        };
        match (who.contains(&Ours::Client), who.contains(&Ours::Server)) {
            (true, true) => "both",
            (true, false) => "client",
            _ => "server",
        }
    }

    pub(crate) fn fed_text(&self) -> String {
        if let Some(fed) = &self.fed {
            return fed.clone();
        }
        match &self.check {
            Check::Cases(cases) => listed(cases, Case::fed),
            _ => "–".into(),
        }
    }

    pub(crate) fn expected_text(&self) -> String {
        if let Some(expected) = &self.expected {
            return expected.clone();
        }
        match &self.check {
            Check::Cases(cases) => listed(cases, Case::expected),
            Check::Elsewhere(file, test) => format!("see `{test}` in `{file}`"),
            _ => "–".into(),
        }
    }
}

/// The first three, each once, and how many there are.
fn listed(cases: &[Case], text: impl Fn(&Case) -> String) -> String {
    let mut texts: Vec<String> = Vec::new();
    for case in cases {
        let text = text(case);
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    let more = texts.len().saturating_sub(3);
    let mut listed = texts[..texts.len() - more].join(" / ");
    if more > 0 {
        let _ = write!(listed, " / and {more} more");
    }
    listed
}
