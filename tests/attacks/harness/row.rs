//! One attack, and the outcome it must have.

use super::deliver::{Delivery, Outcome, Way};
use super::{NEXT, NEXT_TARGET};
use crate::support::{Recorded, Response};

/// One answer that a client must get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The upstream's answer to a request for this target.
    Upstream(String),
    /// The gateway's own: a status and the reason, or `-` where the answer has no body.
    Own(String),
}

impl Answer {
    /// Whether this is what was expected; a refusal may be expected by its status alone.
    fn fits(&self, expected: &Self) -> bool {
        match (self, expected) {
            (Self::Own(verdict), Self::Own(status)) if status.len() == 3 => {
                verdict.starts_with(status.as_str())
            }
            _ => self == expected,
        }
    }
}

/// The answer of the upstream to a request for this target.
pub(crate) fn forwarded(target: &str) -> Answer {
    Answer::Upstream(target.to_owned())
}

/// A refusal, such as `400 request_invalid`, `400 -` where the HTTP library answers before there is a request, or `400` where
/// it does not matter which.
pub(crate) fn refused(verdict: &str) -> Answer {
    Answer::Own(verdict.to_owned())
}

/// What is expected of the answers.
pub(super) enum Expected {
    /// These, in this order.
    These(Vec<Answer>),
    /// Any that this accepts.
    Judged(Box<Judge>),
}

/// Says what is wrong with the answers, of which the last may be that to the next request.
pub(crate) type Judge = dyn Fn(&[Answer]) -> Result<(), String>;
type UpstreamCheck = dyn Fn(&Recorded) -> Option<String>;

/// One attack.
pub(crate) struct Row {
    id: &'static str,
    what: String,
    source: &'static str,
    bytes: Vec<u8>,
    tail: Vec<u8>,
    expected: Expected,
    /// Whether the connection must go on; `None` where the judge decides.
    goes_on: Option<bool>,
    /// Whether the client ends its sending direction instead of sending another request.
    ends: bool,
    /// Whether a request may reach the upstream in part.
    pub(super) aborts: bool,
    few_ways: bool,
    checks: Vec<Box<UpstreamCheck>>,
    never: Option<&'static str>,
}

impl Row {
    /// A row of the catalogue: its id, what is odd about it, where it is from, and the bytes. `$READ`, `$ADMIN`, `$WS` and
    /// `$NONE` stand for tokens with that scope. Unless said otherwise the answer is a refusal of the HTTP library.
    pub(crate) fn new(
        id: &'static str,
        what: impl Into<String>,
        source: &'static str,
        bytes: impl AsRef<[u8]>,
    ) -> Self {
        Self {
            id,
            what: what.into(),
            source,
            bytes: bytes.as_ref().to_vec(),
            tail: Vec::new(),
            expected: Expected::These(vec![refused("400 -")]),
            goes_on: Some(false),
            ends: false,
            aborts: false,
            few_ways: false,
            checks: Vec::new(),
            never: None,
        }
    }

    /// With these bytes behind it, which are never sent after the rest: if the gateway has closed by then, a reset can
    /// overtake its answer.
    pub(crate) fn followed_by(mut self, tail: impl AsRef<[u8]>) -> Self {
        self.tail = tail.as_ref().to_vec();
        self
    }

    /// The answers that must come, in their order.
    pub(crate) fn answers(mut self, answers: impl Into<Vec<Answer>>) -> Self {
        self.expected = Expected::These(answers.into());
        self
    }

    /// One refusal, then the end of the connection.
    pub(crate) fn refused(self, verdict: &str) -> Self {
        self.answers([refused(verdict)]).closes()
    }

    /// One answer of the upstream, then the next request.
    pub(crate) fn forwarded(self, target: &str) -> Self {
        self.answers([forwarded(target)]).stays()
    }

    /// Answers of which this says whether they are safe; the connection may end or go on.
    pub(crate) fn judged(mut self, judge: impl Fn(&[Answer]) -> Result<(), String> + 'static) -> Self {
        self.expected = Expected::Judged(Box::new(judge));
        self.goes_on = None;
        self
    }

    /// The connection ends after the answers: the request behind them is not answered.
    pub(crate) fn closes(mut self) -> Self {
        self.goes_on = Some(false);
        self
    }

    /// The connection goes on: the request behind it is answered.
    pub(crate) fn stays(mut self) -> Self {
        self.goes_on = Some(true);
        self
    }

    /// The connection may end or go on after the answers, as the library finds it easier.
    pub(crate) fn stays_or_closes(mut self) -> Self {
        self.goes_on = None;
        self
    }

    /// No answer of the upstream, and the connection ends: a request whose body turns out wrong when its head was sent on.
    pub(crate) fn cut(self) -> Self {
        let cut = self.aborts().judged(|answers| match answers {
            [] => Ok(()),
            [Answer::Own(verdict)] if verdict.starts_with('4') => Ok(()),
            _ => Err(format!("{answers:?} in spite of a wrong body")),
        });
        cut.closes()
    }

    /// The client ends its sending direction after the bytes.
    pub(crate) fn then_ends(mut self) -> Self {
        self.ends = true;
        self
    }

    /// The request may reach the upstream in part, and must not be complete there.
    pub(crate) fn aborts(mut self) -> Self {
        self.aborts = true;
        self
    }

    /// Is sent whole, byte by byte, and split in a few places: for one of many alike.
    pub(crate) fn few_ways(mut self) -> Self {
        self.few_ways = true;
        self
    }

    /// Something that must hold for each request at the upstream, the next one aside; `Some` is what is wrong.
    pub(crate) fn upstream(mut self, check: impl Fn(&Recorded) -> Option<String> + 'static) -> Self {
        self.checks.push(Box::new(check));
        self
    }

    /// The client never gets this text.
    pub(crate) fn never(mut self, text: &'static str) -> Self {
        self.never = Some(text);
        self
    }

    /// The upstream gets this body.
    pub(crate) fn body(self, body: &'static str) -> Self {
        self.upstream(move |request| {
            (request.body != body.as_bytes()).then(|| format!("the body is not {body:?}"))
        })
    }

    /// The upstream gets no field with one of these names.
    pub(crate) fn without(self, names: &'static [&'static str]) -> Self {
        self.upstream(move |request| {
            names
                .iter()
                .find(|name| request.fields.has(name))
                .map(|name| format!("{name} reached the upstream"))
        })
    }

    /// The upstream gets this field once, with this value.
    pub(crate) fn with(self, name: &'static str, value: &'static str) -> Self {
        self.upstream(move |request| {
            let values = request.fields.all(name);
            (values != [value]).then(|| format!("{name} is {values:?}, not {value:?}"))
        })
    }

    /// Its id, what is odd about it, and where it is from.
    pub(super) fn name(&self) -> String {
        format!("{} {} ({})", self.id, self.what, self.source)
    }

    /// Puts a token in the place of its name.
    pub(super) fn fill_in(&mut self, name: &str, token: &str) {
        while let Some(at) = self.bytes.windows(name.len()).position(|window| window == name.as_bytes()) {
            self.bytes.splice(at..at + name.len(), token.bytes());
        }
    }

    /// All the ways in which its bytes are sent.
    pub(super) fn deliveries(&self) -> Vec<Delivery> {
        let next = [self.tail.as_slice(), if self.ends { b"" } else { NEXT.as_bytes() }].concat();
        let length = self.bytes.len();
        let of = |way| Delivery { bytes: self.bytes.clone(), next: next.clone(), ends: self.ends, way };
        let boundaries: Vec<usize> = match length {
            0..2 => Vec::new(),
            _ if self.few_ways => vec![length / 3, length / 2, length - 1],
            2..400 => (1..length).collect(),
            // Of a long one the ends: the middle is a token or filling.
            _ => (1..120).chain(length - 60..length).collect(),
        };
        let bytewise = (length <= 2048).then(|| of(Way::ByteByByte));
        let split = boundaries.into_iter().map(|at| of(Way::SplitAt(at)));
        [of(Way::Whole)].into_iter().chain(bytewise).chain(split).collect()
    }

    /// Compares the answers with what is expected.
    pub(super) fn check(&self, told: &[Response], outcome: &Outcome) -> Result<(), String> {
        let mut answers: Vec<Answer> = told.iter().map(answer).collect();
        if let Some(text) = self.never.filter(|text| outcome.text().contains(text)) {
            return Err(format!("the client got {text:?}: {:?}", outcome.text()));
        }
        match &self.expected {
            Expected::These(expected) => {
                let next = forwarded(NEXT_TARGET);
                let goes_on = answers.len() == expected.len() + 1 && answers.last() == Some(&next);
                if goes_on {
                    answers.pop();
                }
                if answers.len() != expected.len()
                    || !answers.iter().zip(expected).all(|(got, wanted)| got.fits(wanted))
                {
                    return Err(format!("expected {expected:?}, got {answers:?}: {:?}", outcome.text()));
                }
                match self.goes_on {
                    Some(wanted) if wanted != goes_on && !self.ends => {
                        Err(format!("the connection {}", if goes_on { "goes on" } else { "ends" }))
                    }
                    _ => Ok(()),
                }
            }
            Expected::Judged(judge) => {
                judge(&answers).map_err(|fault| format!("{fault}: {:?}", outcome.text()))
            }
        }
    }

    /// What is wrong with a request at the upstream.
    pub(super) fn check_upstream(&self, request: &Recorded) -> Option<String> {
        self.checks.iter().find_map(|check| check(request))
    }
}

/// What an answer is.
fn answer(response: &Response) -> Answer {
    if let Some(target) = response.header("x-told-target") {
        return if response.status == 200 { forwarded(target) } else { refused("an altered answer") };
    }
    let reason = serde_json::from_slice::<serde_json::Value>(&response.body).ok();
    let reason = reason.as_ref().and_then(|problem| problem["reason"].as_str()).unwrap_or("-");
    refused(&format!("{} {reason}", response.status))
}

/// Joins parts to the bytes of a row.
pub(crate) fn bytes(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}
