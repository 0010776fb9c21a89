//! Where people open a trace.

/// What stands for the trace.
const PLACE: &str = "{traceID}";

/// The longest one: an event has room for little more.
const MAX_LENGTH: usize = 256;

/// An address with a place for a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceUrl(String);

impl TraceUrl {
    /// Checks it; an empty text is none.
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        if text.is_empty() {
            return Ok(None);
        }
        let is_web = ["https://", "http://"].iter().any(|scheme| text.starts_with(scheme));
        let fits = text.len() <= MAX_LENGTH && text.bytes().all(|byte| byte.is_ascii_graphic());
        match is_web && fits && text.contains(PLACE) {
            true => Ok(Some(Self(text.into()))),
            false => {
                Err("must be an address with {traceID} in it, such as https://jaeger.example.org/trace/{traceID}"
                    .into())
            }
        }
    }

    /// Where they open this one.
    pub fn of(&self, trace: &str) -> String {
        self.0.replace(PLACE, trace)
    }
}
